// What the CUDA runtime and the libraries beside it say, and rates of copies by the clock.
#include <algorithm>
#include <array>

#include "backend/backend.h"
#include "backend/cuda/check.h"
#include "backend/cuda/cuda_device.h"
#include "backend/device_health.h"
#include "base/clock.h"

namespace plsc {
namespace {

/// "13.0" from 13000.
std::string cuda_version(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

/// "9.19.0" from 91900.
std::string library_version(size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::vector<LibraryVersion> library_versions() {
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return {{"CUDA", cuda_version(runtime), cuda_version(CUDART_VERSION)},
          {"cuBLASLt", library_version(cublasLtGetVersion()), library_version(CUBLAS_VERSION)},
          {"cuDNN", library_version(cudnnGetVersion()), library_version(CUDNN_VERSION)}};
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

std::string bus_of(int device) {
  std::array<char, 32> bus{};
  check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId");
  return bus.data();
}

std::vector<int> peers_of(int device, int count) {
  std::vector<int> peers;
  for (int other = 0; other < count; ++other) {
    int reachable = 0;
    if (other == device) continue;
    check(cudaDeviceCanAccessPeer(&reachable, device, other), "cudaDeviceCanAccessPeer");
    if (reachable != 0) peers.push_back(other);
  }
  return peers;
}

/// The calling thread's device is another one afterwards.
GpuHealth examine(const CudaProbe::Gpu& gpu, int number, int count) {
  GpuHealth health;
  health.name = gpu.name;
  health.capability = gpu.capability;
  try {
    health.bus = bus_of(number);
    health.ecc = attribute(cudaDevAttrEccEnabled, number) != 0;
    const int mode = attribute(cudaDevAttrComputeMode, number);
    health.exclusive = mode == cudaComputeModeExclusiveProcess;
    if (mode == cudaComputeModeProhibited) fail("its compute mode is `prohibited`: nvidia-smi -c 0 allows it again");
    health.peers = peers_of(number, count);
    check(cudaSetDevice(number), "cudaSetDevice");
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    health.free = static_cast<int64_t>(free);
    health.memory = static_cast<int64_t>(total);
    // What a context takes is given back: the GPU may be another rank's.
    check(cudaDeviceReset(), "cudaDeviceReset");
  } catch (const Error& error) {
    health.problem = error.what();
    cudaGetLastError();  // told here, not by a later call
  }
  return health;
}

/// Bytes a second of `copy`, which queues `bytes` on the device's stream.
template <class Copy>
double rate_of(Device& device, double bytes, const Copy& copy) {
  constexpr double kSeconds = 0.15;
  constexpr int kMost = 200;
  copy();  // the first one maps pages
  device.synchronize();
  int done = 0;
  const Stopwatch watch;
  while (done < kMost && watch.seconds() < kSeconds) {
    copy();
    device.synchronize();
    ++done;
  }
  return bytes * done / watch.seconds();
}

struct PinnedBuffer {
  explicit PinnedBuffer(size_t bytes) { check(cudaMallocHost(&data, bytes), "cudaMallocHost"); }
  ~PinnedBuffer() { cudaFreeHost(data); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  void* data = nullptr;
};

}  // namespace

CudaHealth examine_cuda() {
  CudaHealth health;
  health.built = true;
  health.architectures = PLSC_CUDA_ARCHITECTURES;
  int driver = 0;  // stays 0 where there is none
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) health.driver_cuda = cuda_version(driver);
  health.libraries = library_versions();
  const CudaProbe probe = probe_cuda();
  health.problem = probe.problem;
  const auto count = static_cast<int>(probe.gpus.size());
  for (int i = 0; i < count; ++i) health.gpus.push_back(examine(probe.gpus[static_cast<size_t>(i)], i, count));
  return health;
}

DevicePlace place_of(Device& device) {
  if (device.kind() != DeviceKind::cuda) return {};
  const auto& gpu = dynamic_cast<const CudaDevice&>(device);
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const DeviceMemory own = device.memory();
  const int number = gpu.options().device;
  return {number, bus_of(number), static_cast<int64_t>(free + own.reserved - own.in_use), static_cast<int64_t>(total)};
}

int64_t second_level_cache(int number) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, number), "cudaDeviceGetAttribute");
  return bytes;
}

CopyRates measure_copies(Device& device) {
  if (device.kind() != DeviceKind::cuda) return {};
  const auto& gpu = dynamic_cast<const CudaDevice&>(device);
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const size_t bytes = std::min(size_t{64} << 20, total / 64);
  const auto elements = static_cast<int64_t>(bytes);
  const Tensor a = device.zeros({elements}, Dtype::u8), b = device.zeros({elements}, Dtype::u8);
  const PinnedBuffer host(bytes);
  const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, bytes, kind, gpu.compute_stream()), "cudaMemcpyAsync");
  };
  const auto amount = static_cast<double>(bytes);
  CopyRates rates;
  rates.to_host = rate_of(device, amount, [&] { copy(host.data, a.raw(), cudaMemcpyDeviceToHost); });
  rates.to_device = rate_of(device, amount, [&] { copy(a.raw(), host.data, cudaMemcpyHostToDevice); });
  rates.on_device = rate_of(device, amount, [&] { copy(b.raw(), a.raw(), cudaMemcpyDeviceToDevice); });
  return rates;
}

}  // namespace plsc
