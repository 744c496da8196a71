// What GPUs and the vendor's libraries say of themselves beyond what training asks, and how fast they copy: for the
// doctor. A build without CUDA answers, too (no_cuda.cpp).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "backend/device.h"

namespace plsc {

/// One GPU, by its number among those that this process sees.
struct GpuHealth {
  std::string name;              // "NVIDIA H200"
  std::string bus;               // "0000:18:00.0": as the driver's files in /proc name it
  int capability = 0;            // 90 for 9.0
  int64_t memory = 0, free = 0;  // bytes; both 0 where `problem` says why it cannot be asked
  bool ecc = false;              // error-correcting memory is on
  bool exclusive = false;        // one process at a time may use it
  std::vector<int> peers;        // numbers of the GPUs whose memory it reaches directly
  std::string problem;           // in one line, where it cannot be used
};

/// A library's version: the one that this process loaded, and the one whose headers the program was compiled with.
struct LibraryVersion {
  std::string name;  // "cuDNN"
  std::string found, built;
};

struct CudaHealth {
  bool built = false;         // this program was built with CUDA
  std::string architectures;  // that it holds code for, as CMake was told: "80-real,90"
  std::string driver_cuda;    // the newest CUDA that the driver knows: "13.1"; empty: there is no driver
  std::vector<LibraryVersion> libraries;
  std::vector<GpuHealth> gpus;
  std::string problem;  // in one line, where there is no GPU
};
/// Takes a moment for each GPU: it starts the driver's context there, as training would on its own.
CudaHealth examine_cuda();

/// Whether a program that was compiled for `architectures` ("80-real,90") runs on a GPU of `capability` (90).
enum class GpuCode {
  native,   // machine code for it
  ptx,      // the driver translates at the first start
  none,     // it cannot run
  unknown,  // the list names no numbers ("native", "all")
};
GpuCode code_for(int capability, const std::string& architectures);

/// Which GPU a device is, and what memory it has. All zero for the CPU, whose memory is the host's.
struct DevicePlace {
  int number = -1;  // among those that this process sees
  std::string bus;
  int64_t free = 0, total = 0;  // bytes; free: to this process, with what it keeps for reuse
};
DevicePlace place_of(Device& device);

/// Bytes of the second-level cache of a GPU, by its number among those that this process sees. There is one.
int64_t second_level_cache(int number);

/// Bytes a second, measured for a fraction of a second each, with page-locked memory on the host's side. Zero where
/// there is nothing to copy to: the device is the host.
struct CopyRates {
  double to_device = 0, to_host = 0;
  double on_device = 0;  // bytes copied; reading and writing move twice as many
};
/// Takes 128 MiB of a CUDA device's memory, or less of a small one, and gives it back.
CopyRates measure_copies(Device& device);

}  // namespace plsc
