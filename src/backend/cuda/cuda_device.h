// One GPU as a device. Everything that ops, copies and fills do is in the order of one stream, the compute stream; that
// is what keeps the promises of backend/device.h. Uploads of input images have a stream of their own beside it, and so
// have collectives (src/comm), both tied to the compute stream by events.
#pragma once
#include <memory>
#include <string>

#include "backend/arena.h"
#include "backend/backend.h"
#include "backend/capability.h"
#include "backend/cuda/device_clock.h"
#include "backend/cuda/event.h"
#include "backend/cuda/pinned_pool.h"
#include "backend/cuda/pinned_ring.h"
#include "backend/cuda/pinned_tables.h"
#include "backend/cuda/recording.h"

namespace plsc {

/// For the thread that made it, whose current device it becomes; `release` alone may be called from others.
class CudaDevice final : public Device {
 public:
  /// Throws Error where there is no such GPU, or one that this program has no code for.
  explicit CudaDevice(const CudaOptions& options);
  /// Waits for the device. No collective may be under way.
  ~CudaDevice() override;

  void* allocate(size_t bytes) override { return arena_.allocate(bytes); }
  void release(void* data, size_t) noexcept override { arena_.release(data); }
  bool is_host() const override { return false; }

  DeviceKind kind() const override { return DeviceKind::cuda; }
  /// "NVIDIA H200, 139.8 GiB, sm_90"
  std::string description() const override;
  /// "CUDA 13.0, driver 13.1, cuBLASLt 13.1.0, cuDNN 9.19.0"
  std::string library_versions() const override;
  int threads() const override { return 1; }
  bool supports(Dtype dtype) const override;
  /// Whether fp32 products may round their factors to TF32.
  bool supports_tf32() const { return capability_ >= kTf32Capability; }
  DeviceMemory memory() const override { return arena_.memory(); }
  void trim() override { arena_.trim(); }
  Allocator& table_memory() override { return tables_; }

  void copy(const Tensor& from, Tensor& to) override;
  void fill_zero(Tensor& t) override;
  std::unique_ptr<HostRead> start_read(const Tensor& from) override;
  void synchronize() override;
  std::shared_ptr<const TimeMark> mark() override;
  void set_clock() override { clock_.set(); }
  MemoryUse exchange_use(MemoryUse use) override { return arena_.exchange_use(use); }

  /// Recordings are CUDA graphs. They must end before the device. None is handed what is kept for reuse: their memory
  /// is their own. A trim before the first makes room; inside one, cudaFree would break the capture.
  bool can_record() const override { return true; }
  std::shared_ptr<RecordingMemory> make_recording_memory() override { return std::make_shared<ArenaPool>(arena_); }
  void begin_recording(const std::shared_ptr<RecordingMemory>& memory) override;
  std::unique_ptr<Recording> end_recording() override;
  void set_host_wait(HostWait wait) override { waiter_.set_hook(std::move(wait)); }
  void* native_stream() const override { return compute_.get(); }

  const CudaOptions& options() const { return options_; }
  const Waiter& waiter() const { return waiter_; }
  int capability() const { return capability_; }  // 90 for 9.0
  cudaStream_t compute_stream() const { return compute_.get(); }
  cudaStream_t copy_stream() const { return copies_.get(); }
  /// Copies host memory to device memory behind what `stream` was given; `from` may be changed when this returns.
  void upload(const void* from, void* to, size_t bytes, cudaStream_t stream);
  /// A PLSC_CHECK; `what` begins its sentence.
  void check_not_recording(const char* what) const;

 private:
  CudaDevice(const CudaOptions& options, const cudaDeviceProp& gpu);
  void download(const void* from, void* to, size_t bytes);

  CudaOptions options_;
  std::string name_;
  size_t memory_ = 0;
  int capability_ = 0;
  Stream compute_, copies_;
  Waiter waiter_;
  DeviceClock clock_{compute_.get(), waiter_};
  Event idle_;
  PinnedPool reads_;
  PinnedTables tables_;
  PinnedRing uploads_;
  Arena arena_;
  std::unique_ptr<Capture> capture_;  // while work is recorded
};

}  // namespace plsc
