// Devices: which a process sees, what they say of themselves, versions.
#include <charconv>
#include <cstdio>
#include <cstring>

#include "graph.h"
#include "scheduler.h"

namespace plsc::standin {
namespace {

constexpr int kMultiprocessors = 8;  // few, so that small inputs already need more than one wave of blocks
constexpr int kL2Bytes = 50 << 20;
constexpr size_t kSharedBytes = 48 << 10;
constexpr size_t kSharedBytesOptIn = 227 << 10;

int& thread_device() {
  thread_local int device = 0;
  return device;
}

/// What every call that needs a device returns where there is none.
cudaError_t device_status(const Options& options) {
  if (options.old_driver) return cudaErrorInsufficientDriver;
  return visible_devices(options).empty() ? cudaErrorNoDevice : cudaSuccess;
}

/// The physical device behind `device`, or a negative number.
int physical(const Options& options, int device) {
  const auto devices = visible_devices(options);
  return device >= 0 && device < static_cast<int>(devices.size()) ? devices[static_cast<size_t>(device)] : -1;
}

int bus_of(int physical_device) { return 0x10 + physical_device; }

}  // namespace

int current_device() { return thread_device(); }

std::vector<int> visible_devices(const Options& options) {
  std::vector<int> devices;
  if (!options.visible) {
    for (int i = 0; i < options.devices; ++i) devices.push_back(i);
    return devices;
  }
  // The list ends at the first entry that names no device.
  const char* at = options.visible->data();
  const char* end = at + options.visible->size();
  while (at < end) {
    int device = -1;
    const auto [rest, error] = std::from_chars(at, end, device);
    if (error != std::errc() || device < 0 || device >= options.devices) break;
    devices.push_back(device);
    if (rest == end || *rest != ',') break;
    at = rest + 1;
  }
  return devices;
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudaError_t cudaGetDeviceCount(int* count) {
  const auto lock = Scheduler::instance().enter();
  const Options& options = Scheduler::instance().options;
  *count = options.old_driver ? 0 : static_cast<int>(visible_devices(options).size());
  return told(device_status(options));
}

cudaError_t cudaSetDevice(int device) {
  const auto lock = Scheduler::instance().enter();
  const Options& options = Scheduler::instance().options;
  if (const cudaError_t status = device_status(options); status != cudaSuccess) return told(status);
  if (physical(options, device) < 0) return told(cudaErrorInvalidDevice);
  thread_device() = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  const auto lock = Scheduler::instance().enter();
  *device = thread_device();
  return told(device_status(Scheduler::instance().options));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const auto lock = Scheduler::instance().enter();
  const Options& options = Scheduler::instance().options;
  if (const cudaError_t status = device_status(options); status != cudaSuccess) return told(status);
  const int index = physical(options, device);
  if (index < 0) return told(cudaErrorInvalidDevice);
  cudaDeviceProp& p = *properties;
  std::memset(&p, 0, sizeof(p));
  std::snprintf(p.name, sizeof(p.name), "stand-in");
  std::memset(p.uuid.bytes, 0x5A, sizeof(p.uuid.bytes));
  p.uuid.bytes[15] = static_cast<char>(index);
  p.totalGlobalMem = options.memory;
  p.sharedMemPerBlock = kSharedBytes;
  p.sharedMemPerBlockOptin = kSharedBytesOptIn;
  p.sharedMemPerMultiprocessor = kSharedBytesOptIn + 1024;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiProcessor = 2048;
  const int threads[] = {1024, 1024, 64}, grid[] = {2147483647, 65535, 65535};
  std::memcpy(p.maxThreadsDim, threads, sizeof(threads));
  std::memcpy(p.maxGridSize, grid, sizeof(grid));
  p.totalConstMem = 65536;
  p.major = options.capability_major;
  p.minor = options.capability_minor;
  p.multiProcessorCount = kMultiprocessors;
  p.l2CacheSize = kL2Bytes;
  p.concurrentKernels = p.unifiedAddressing = p.canMapHostMemory = p.streamPrioritiesSupported = 1;
  p.asyncEngineCount = 2;
  p.pciBusID = bus_of(index);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t status = cudaGetDeviceProperties(&p, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      return *value = p.major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = p.minor, cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      return *value = p.multiProcessorCount, cudaSuccess;
    case cudaDevAttrL2CacheSize:
      return *value = p.l2CacheSize, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return *value = static_cast<int>(p.sharedMemPerBlock), cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = static_cast<int>(p.sharedMemPerBlockOptin), cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      return *value = p.maxThreadsPerBlock, cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return *value = p.maxThreadsPerMultiProcessor, cudaSuccess;
    case cudaDevAttrWarpSize:
      return *value = p.warpSize, cudaSuccess;
    case cudaDevAttrPciBusId:
      return *value = p.pciBusID, cudaSuccess;
    case cudaDevAttrEccEnabled:
      return *value = 1, cudaSuccess;
    case cudaDevAttrComputeMode:
      return *value = cudaComputeModeDefault, cudaSuccess;
    default:
      misuse("cudaDeviceGetAttribute: the stand-in does not know attribute {}", static_cast<int>(attribute));
  }
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  const auto lock = Scheduler::instance().enter();
  const int index = physical(Scheduler::instance().options, device);
  if (index < 0) return told(cudaErrorInvalidDevice);
  if (length < 13) return told(cudaErrorInvalidValue);
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", static_cast<unsigned>(bus_of(index)));
  return cudaSuccess;
}

/// All reach all others, as on one board with NVLink.
cudaError_t cudaDeviceCanAccessPeer(int* reachable, int device, int peer) {
  const auto lock = Scheduler::instance().enter();
  const Options& options = Scheduler::instance().options;
  if (physical(options, device) < 0 || physical(options, peer) < 0) return told(cudaErrorInvalidDevice);
  *reachable = device != peer ? 1 : 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  const auto lock = Scheduler::instance().enter();
  *version = Scheduler::instance().options.old_driver ? 11040 : CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  refuse_in_capture(scheduler, "cudaDeviceSynchronize");
  ++scheduler.counters.synchronisations;
  scheduler.drain(lock, current_device());
  return cudaSuccess;
}

cudaError_t cudaDeviceReset() {
  if (live_device_bytes() > 0)
    misuse("cudaDeviceReset while {} bytes of device memory are in use", live_device_bytes());
  return cudaDeviceSynchronize();
}

// The emulated kernels have no limits that one could raise.
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
