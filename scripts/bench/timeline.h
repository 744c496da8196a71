// Marks in a device's order, and what lies between them: where a step's time goes, without waiting for the device
// while it works. On a GPU a mark is an event of the compute stream; on a CPU, which works as it is told, the clock.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/device.h"

namespace plsc {

class Timeline {
 public:
  struct Mark {
    const char* name = "";  // of what begins here
    double seconds = 0;     // since the first mark
  };

  virtual ~Timeline() = default;
  /// Behind all that the device was given so far. `name` is a literal.
  virtual void mark(const char* name) = 0;
  /// All marks since the last call, in order; the first is at 0. Waits for the device.
  virtual std::vector<Mark> read() = 0;
};

/// A GPU's needs a build with CUDA; its marks must not stand in what the device records.
std::unique_ptr<Timeline> make_timeline(Device& device);

/// Bytes of the device in use by all processes, the vendor's own among them (cudaMemGetInfo); 0 on a CPU.
int64_t device_bytes_used(const Device& device);

// Implementation for GPUs, and its empty twin in a build without CUDA.
std::unique_ptr<Timeline> make_cuda_timeline(Device& device);
int64_t cuda_bytes_used();

/// Steps of marks: each begins with a mark of the name `first`.
struct StepMarks {
  std::vector<double> seconds;                  // of each step but the last: from its first mark to the next step's
  std::map<std::string, double> phase_seconds;  // by name: the mean over these steps of what lies behind its marks
};
StepMarks split_steps(const std::vector<Timeline::Mark>& marks, const std::string& first);

/// The middle one of the values, the higher of two; 0 where there are none.
double median(std::vector<double> values);

}  // namespace plsc
