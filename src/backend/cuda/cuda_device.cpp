#include "backend/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/check.h"
#include "backend/cuda/device_segments.h"
#include "base/clock.h"

namespace plsc {
namespace {

// CUDA 13 dropped the V100.
constexpr int kOldestCapability = CUDART_VERSION >= 13000 ? 75 : 70;
// Room for a few batches of images on their way.
constexpr size_t kRingBytes = size_t{64} << 20;
// Copies to the host go in pieces of this size, one behind the other.
constexpr size_t kDownloadPiece = size_t{8} << 20;

int capability_of(const cudaDeviceProp& gpu) { return gpu.major * 10 + gpu.minor; }

/// The GPU becomes the calling thread's.
cudaDeviceProp take_device(int number) {
  const CudaProbe probe = probe_cuda();
  if (!probe.problem.empty()) throw Error(probe.problem, "use device: cpu");
  const auto count = static_cast<int>(probe.gpus.size());
  if (number < 0 || number >= count) {
    fail_hint("see gpus, and CUDA_VISIBLE_DEVICES", "there is no GPU {}: this process sees {}, from 0 on", number,
              count);
  }
  check(cudaSetDevice(number), "cudaSetDevice");
  cudaDeviceProp gpu;
  check(cudaGetDeviceProperties(&gpu, number), "cudaGetDeviceProperties");
  if (capability_of(gpu) < kOldestCapability) {
    fail_hint("use device: cpu, or another GPU",
              "{} has compute capability {}.{}; this program has code for {}.{} and later", gpu.name, gpu.major,
              gpu.minor, kOldestCapability / 10, kOldestCapability % 10);
  }
  return gpu;
}

/// A copy to page-locked memory, behind what `stream` was given.
class DeviceRead final : public HostRead {
 public:
  struct Source {
    const void* data = nullptr;
    Shape shape;
    Dtype dtype = Dtype::f32;
  };
  DeviceRead(const Source& source, PinnedPool& pool, cudaStream_t stream, const Waiter& waiter)
      : waiter_(waiter), host_(pool, source.shape, source.dtype) {
    if (host_.bytes() > 0) {
      check(cudaMemcpyAsync(host_.raw(), source.data, host_.bytes(), cudaMemcpyDeviceToHost, stream),
            "cudaMemcpyAsync");
    }
    there_.record(stream);
  }
  const Tensor& get() override {
    waiter_.wait(there_);
    return host_;
  }

 private:
  const Waiter& waiter_;
  Tensor host_;
  Event there_;
};

std::string version_text(int64_t major, int64_t minor) { return fmt::format("{}.{}", major, minor); }

/// "13.0" from 13000, as CUDA numbers its versions.
std::string cuda_version_text(int version) { return version_text(version / 1000, version % 1000 / 10); }

/// "9.19.0" from 91900, as cuDNN and cuBLAS do.
std::string library_version_text(size_t version) {
  const auto v = static_cast<int64_t>(version);
  return fmt::format("{}.{}", version_text(v / 10000, v / 100 % 100), v % 100);
}

}  // namespace

CudaDevice::CudaDevice(const CudaOptions& options) : CudaDevice(options, take_device(options.device)) {}

CudaDevice::CudaDevice(const CudaOptions& options, const cudaDeviceProp& gpu)
    : options_(options),
      name_(gpu.name),
      memory_(gpu.totalGlobalMem),
      capability_(capability_of(gpu)),
      uploads_(kRingBytes, waiter_),
      arena_(make_device_segments(), {static_cast<size_t>(options.memory_limit), [this] { synchronize(); }}) {}

CudaDevice::~CudaDevice() {
  capture_.reset();
  // Not by the hook: whom it asks is gone. A failure has been told, or concerns nobody any more.
  cudaStreamSynchronize(compute_.get());
  cudaStreamSynchronize(copies_.get());
}

std::string CudaDevice::description() const {
  return fmt::format("{}, {}, sm_{}", name_, human_bytes(static_cast<double>(memory_)), capability_);
}

std::string CudaDevice::library_versions() const {
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  return fmt::format("CUDA {}, driver {}, cuBLASLt {}, cuDNN {}", cuda_version_text(runtime), cuda_version_text(driver),
                     library_version_text(cublasLtGetVersion()), library_version_text(cudnnGetVersion()));
}

bool CudaDevice::supports(Dtype dtype) const {
  // fp16 has fast products on all that this program runs on.
  return dtype != Dtype::bf16 || capability_ >= kBf16Capability;
}

void CudaDevice::copy(const Tensor& from, Tensor& to) {
  PLSC_CHECK(from.dtype() == to.dtype() && from.elements() == to.elements(), "copy of {} {} to {} {}",
             dtype_name(from.dtype()), from.shape().text(), dtype_name(to.dtype()), to.shape().text());
  const size_t bytes = from.bytes();
  if (bytes == 0) return;
  if (from.on_host() && to.on_host()) {
    std::memcpy(to.raw(), from.raw(), bytes);
  } else if (from.on_host()) {
    upload(from.raw(), to.raw(), bytes, compute_.get());
  } else if (to.on_host()) {
    download(from.raw(), to.raw(), bytes);
  } else {
    check(cudaMemcpyAsync(to.raw(), from.raw(), bytes, cudaMemcpyDeviceToDevice, compute_.get()), "cudaMemcpyAsync");
  }
}

void CudaDevice::upload(const void* from, void* to, size_t bytes, cudaStream_t stream) {
  // A replay would send what the ring holds by then.
  check_not_recording("a copy from host memory");
  uploads_.upload(from, to, bytes, stream);
}

/// While the host copies one piece out, the device sends the next.
void CudaDevice::download(const void* from, void* to, size_t bytes) {
  check_not_recording("a copy to host memory");
  const auto start = [&](size_t at) {
    const auto size = static_cast<int64_t>(std::min(kDownloadPiece, bytes - at));
    const DeviceRead::Source piece{static_cast<const std::byte*>(from) + at, {size}, Dtype::u8};
    return std::make_unique<DeviceRead>(piece, reads_, compute_.get(), waiter_);
  };
  auto next = start(0);
  for (size_t at = 0; at < bytes; at += kDownloadPiece) {
    const auto read = std::move(next);
    if (at + kDownloadPiece < bytes) next = start(at + kDownloadPiece);
    const Tensor& host = read->get();
    std::memcpy(static_cast<std::byte*>(to) + at, host.raw(), host.bytes());
  }
}

void CudaDevice::fill_zero(Tensor& t) {
  if (t.bytes() == 0) return;
  if (t.on_host()) {
    std::memset(t.raw(), 0, t.bytes());
  } else {
    check(cudaMemsetAsync(t.raw(), 0, t.bytes(), compute_.get()), "cudaMemsetAsync");
  }
}

std::unique_ptr<HostRead> CudaDevice::start_read(const Tensor& from) {
  if (from.on_host()) return Device::start_read(from);
  check_not_recording("a copy to host memory");
  const DeviceRead::Source source{from.raw(), from.shape(), from.dtype()};
  return std::make_unique<DeviceRead>(source, reads_, compute_.get(), waiter_);
}

std::shared_ptr<const TimeMark> CudaDevice::mark() {
  check_not_recording("a mark of the time");
  return clock_.mark();
}

void CudaDevice::synchronize() {
  check_not_recording("a wait");
  for (const Stream* stream : {&compute_, &copies_}) {
    idle_.record(stream->get());
    waiter_.wait(idle_);
  }
}

void CudaDevice::begin_recording(const std::shared_ptr<RecordingMemory>& memory) {
  PLSC_CHECK(!capture_, "work is being recorded already");
  capture_ = std::make_unique<Capture>(compute_.get(), std::dynamic_pointer_cast<ArenaPool>(memory));
}

std::unique_ptr<Recording> CudaDevice::end_recording() {
  PLSC_CHECK(capture_, "nothing is being recorded");
  const auto capture = std::move(capture_);
  return capture->finish();
}

void CudaDevice::check_not_recording(const char* what) const { PLSC_CHECK(!capture_, "{} cannot be recorded", what); }

}  // namespace plsc
