// The compute seam, part 1: a device's memory and copies. The CPU is the device whose memory is the host's.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "backend/table_memory.h"
#include "tensor/tensor.h"

namespace plsc {

enum class DeviceKind { cpu, cuda };

/// Bytes of a device's memory that this process holds.
struct DeviceMemory {
  size_t in_use = 0;    // by tensors and ops
  size_t peak = 0;      // the most that was ever in use
  size_t reserved = 0;  // in use, and kept to be used again
  size_t most = 0;      // that was ever reserved
};

/// What memory is taken for: an error that there is no more of it says where it went.
enum class MemoryUse { other, parameters, optimizer, centers, activations, head, workspace };

/// A copy to host memory that is under way.
class HostRead {
 public:
  virtual ~HostRead() = default;
  /// The values as they were when the read was started. Waits for them where they are not there yet.
  virtual const Tensor& get() = 0;
};

/// A place in a device's order, and when the device came by it.
class TimeMark {
 public:
  virtual ~TimeMark() = default;
  /// By steady_seconds (base/clock.h). Only where the host knows that the device has passed the mark: it has waited
  /// for something that the device was given later.
  virtual double seconds() const = 0;
};

/// Work that a device was given once and can be given again as a whole, in the same memory.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

/// Memory of recordings that are always replayed in the same order: what one has released a later one uses again. It
/// is theirs alone as long as one of them or this lives.
class RecordingMemory {
 public:
  virtual ~RecordingMemory() = default;
};

/// How the host waits for a device: calls `done` until it says true. Throws where something is wrong meanwhile (another
/// rank is gone, a collective failed).
using HostWait = std::function<void(const std::function<bool()>& done)>;

/// One device of one rank. It does what it is given (ops, copies, fills) in that order, and may still be at it when
/// the call returns. What callers rely on, and every device keeps:
/// - Host memory is never in use behind a caller's back. A copy to it holds the values when the call returns; host
///   memory that a copy or an op reads may be changed or freed then (a device may keep a copy of its own meanwhile).
/// - Device memory may be released while the device still works on it: whoever is handed it next comes later in the
///   order. Collectives on device memory take their place in the order too (comm/collective.h).
/// So nobody needs `synchronize` for the sake of values; it is for clocks, and for errors to surface.
class Device : public Allocator {
 public:
  virtual DeviceKind kind() const = 0;
  /// "cpu, 2 threads, avx512_core_amx": for the log, manifests and the resume check.
  virtual std::string description() const = 0;
  /// "oneDNN 2.6.3": what results depend on beside this program.
  virtual std::string library_versions() const = 0;
  /// Compute threads on a CPU; 1 on a GPU.
  virtual int threads() const = 0;
  /// False where activations of this type cannot be computed (bf16 on a CPU without AVX-512 bf16 or AMX).
  virtual bool supports(Dtype dtype) const = 0;
  /// All zero where the device does not count.
  virtual DeviceMemory memory() const { return {}; }

  /// Gives memory that is kept to be used again back to the system: after a phase whose sizes do not come again.
  virtual void trim() {}

  /// Copies between any two of host and device memory; shapes must hold as many elements of the same type.
  virtual void copy(const Tensor& from, Tensor& to) = 0;
  virtual void fill_zero(Tensor& t) = 0;
  /// Starts a copy to host memory that takes its place in the order, without waiting for it.
  virtual std::unique_ptr<HostRead> start_read(const Tensor& from);
  /// Waits until everything given so far is done.
  virtual void synchronize() = 0;
  /// Here, behind all that was given so far. Not while work is recorded. Without an override it is the host's now.
  virtual std::shared_ptr<const TimeMark> mark();
  /// Waits for the device, and sets the clock of later marks by the host's anew: the two drift apart.
  virtual void set_clock() {}

  /// What memory taken from now on is for; returns what it was for before. See MemoryScope.
  virtual MemoryUse exchange_use(MemoryUse) { return MemoryUse::other; }

  /// Whether work can be recorded. What ops are given between begin and end is recorded instead of done, and memory
  /// that is taken meanwhile comes from `memory`. Nothing may be waited for or read in between. end_recording gives
  /// null where there was nothing to record.
  virtual bool can_record() const { return false; }
  virtual std::shared_ptr<RecordingMemory> make_recording_memory() { return nullptr; }
  virtual void begin_recording(const std::shared_ptr<RecordingMemory>&) {
    PLSC_CHECK(false, "this device records nothing");
  }
  virtual std::unique_ptr<Recording> end_recording() { PLSC_CHECK(false, "this device records nothing"); }

  /// How this device's waits are done; without it they poll for ever.
  virtual void set_host_wait(HostWait) {}
  /// What a vendor's library calls this device's order: a cudaStream_t; null on a CPU. For the composition root, which
  /// hands it to a library that has to keep that order.
  virtual void* native_stream() const { return nullptr; }

  /// Host memory that this device's ops read and write where it lies: for tables that are larger than its own memory.
  /// Fresh memory is zero. Other than with the device's own, the host waits (synchronize) before it touches or releases
  /// what ops were given.
  virtual Allocator& table_memory() { return host_table_memory(); }

  Tensor tensor(Shape shape, Dtype dtype = Dtype::f32) { return Tensor(*this, shape, dtype); }
  Tensor zeros(Shape shape, Dtype dtype = Dtype::f32) {
    Tensor t(*this, shape, dtype);
    fill_zero(t);
    return t;
  }
};

/// Memory that is taken while this lives is for `use`.
class MemoryScope {
 public:
  MemoryScope(Device& device, MemoryUse use) : device_(device), before_(device.exchange_use(use)) {}
  ~MemoryScope() { device_.exchange_use(before_); }
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  Device& device_;
  MemoryUse before_;
};

}  // namespace plsc
