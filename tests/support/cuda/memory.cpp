// Blocks of device and pinned memory. Each has a mapping of its own with a guard on both sides. Fresh memory and freed
// memory is filled with 0xFF, which is NaN in every floating-point type: what was never written, and what is read after
// it was freed, shows in the numbers. Freed blocks stay mapped for a while for that reason.
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>

#include "graph.h"
#include "scheduler.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace plsc::standin {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kGuard = kPage;  // in front, so that blocks lie at page boundaries
constexpr size_t kChecked = 256;  // bytes of each guard that are looked at
constexpr std::byte kGuardByte{0xA5};
constexpr size_t kGranule = 512;            // what a device hands out in
constexpr size_t kKept = size_t{64} << 20;  // freed memory that stays mapped

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// The address sanitizer shall see reads beside blocks and after their end.
void allow(const void* p, size_t bytes, bool allowed) {
#ifdef __SANITIZE_ADDRESS__
  if (allowed) {
    __asan_unpoison_memory_region(p, bytes);
  } else {
    __asan_poison_memory_region(p, bytes);
  }
#else
  static_cast<void>(p), static_cast<void>(bytes), static_cast<void>(allowed);
#endif
}

const char* kind_name(MemoryKind kind) { return kind == MemoryKind::device ? "device" : "pinned"; }

struct Mapping {
  Block block;
  std::byte* base = nullptr;
  size_t mapped = 0;

  std::byte* end() const { return block.data + block.bytes; }
  size_t tail() const { return std::min<size_t>(kChecked, static_cast<size_t>(base + mapped - end())); }
};

class Memory {
 public:
  static Memory& instance() {
    static auto* memory = new Memory;
    return *memory;
  }

  /// Null where the system has no more, or the device's `limit` would be passed.
  void* allocate(MemoryKind kind, size_t bytes, int device, size_t limit) {
    const std::lock_guard lock(mutex_);
    if (kind == MemoryKind::device && (bytes > limit || used(device) + rounded(bytes, kGranule) > limit))
      return nullptr;
    Mapping m;
    m.mapped = kGuard + rounded(bytes, kPage) + kPage;
    void* base = mmap(nullptr, m.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    m.base = static_cast<std::byte*>(base);
    m.block = {m.base + kGuard, bytes, kind, device};
    allow(m.base, m.mapped, true);  // a mapping before this one may have left its marks
    fill_fresh(m.block.data, bytes);
    std::fill_n(m.block.data - kChecked, kChecked, kGuardByte);
    std::fill_n(m.end(), m.tail(), kGuardByte);
    set_guards(m, false);
    live_[reinterpret_cast<uintptr_t>(m.block.data)] = m;
    apply(m);
    return m.block.data;
  }

  void open(bool open) {
    const std::lock_guard lock(mutex_);
    if (open_ == open) return;
    open_ = open;
    for (const auto& [address, m] : live_) apply(m);
  }

  void release(MemoryKind kind, void* p, const char* call) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(p));
    if (found == live_.end()) misuse("{} of {}, which was not allocated or was freed before", call, p);
    const Mapping m = found->second;
    if (m.block.kind != kind) misuse("{} of {}, which is {} memory", call, p, kind_name(m.block.kind));
    permit(m, true);
    check(m, call);
    live_.erase(found);
    fill_fresh(m.block.data, m.block.bytes);
    allow(m.base, m.mapped, false);
    kept_.push_back(m);
    kept_bytes_ += m.mapped;
    while (kept_bytes_ > kKept) {
      kept_bytes_ -= kept_.front().mapped;
      allow(kept_.front().base, kept_.front().mapped, true);
      munmap(kept_.front().base, kept_.front().mapped);
      kept_.pop_front();
    }
  }

  std::optional<Block> find(const void* p) {
    const std::lock_guard lock(mutex_);
    const auto address = reinterpret_cast<uintptr_t>(p);
    auto next = live_.upper_bound(address);
    if (next == live_.begin()) return std::nullopt;
    const Block& block = std::prev(next)->second.block;
    // The end of a block belongs to it: a span of no elements may lie there.
    if (address > reinterpret_cast<uintptr_t>(block.data) + block.bytes) return std::nullopt;
    return block;
  }

  void check_all(const std::string& after) {
    const std::lock_guard lock(mutex_);
    for (const auto& [address, m] : live_) check(m, after);
  }

  size_t used_now(int device) {
    const std::lock_guard lock(mutex_);
    return used(device);
  }

  /// Of memory that is not the stand-in's. False where a part of it is locked already.
  bool lock_pages(const void* p, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto begin = reinterpret_cast<uintptr_t>(p);
    const auto next = locked_.lower_bound(begin);
    if (next != locked_.end() && next->first < begin + bytes) return false;
    if (next != locked_.begin() && std::prev(next)->first + std::prev(next)->second > begin) return false;
    locked_[begin] = bytes;
    return true;
  }
  bool unlock_pages(const void* p) {
    const std::lock_guard lock(mutex_);
    return locked_.erase(reinterpret_cast<uintptr_t>(p)) == 1;
  }
  bool is_locked(const void* p) {
    const std::lock_guard lock(mutex_);
    return locked_.contains(reinterpret_cast<uintptr_t>(p));
  }

  int64_t live_bytes() {
    const std::lock_guard lock(mutex_);
    int64_t sum = 0;
    for (const auto& [address, m] : live_) {
      if (m.block.kind == MemoryKind::device) sum += static_cast<int64_t>(m.block.bytes);
    }
    return sum;
  }

  void report() {
    const std::lock_guard lock(mutex_);
    for (const auto& [address, m] : live_) {
      std::fprintf(stderr, "stand-in: leaked %zu bytes of %s memory on device %d\n", m.block.bytes,
                   kind_name(m.block.kind), m.block.device);
    }
    for (const auto& [address, bytes] : locked_) {
      std::fprintf(stderr, "stand-in: %zu bytes of host memory are still registered\n", bytes);
    }
  }

 private:
  static void permit(const Mapping& m, bool permitted) {
    if (m.block.kind == MemoryKind::device) mprotect(m.base, m.mapped, permitted ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
  void apply(const Mapping& m) const { permit(m, open_); }

  static void set_guards(const Mapping& m, bool allowed) {
    allow(m.base, kGuard, allowed);
    // Whole granules of the sanitizer's only: a block's last bytes may share one with the guard.
    allow(m.end(), static_cast<size_t>(m.base + m.mapped - m.end()), allowed);
  }

  static void check(const Mapping& m, const std::string& after) {
    set_guards(m, true);
    const auto intact = [](const std::byte* p, size_t bytes) {
      return std::all_of(p, p + bytes, [](std::byte b) { return b == kGuardByte; });
    };
    const bool before = intact(m.block.data - kChecked, kChecked);
    const bool behind = intact(m.end(), m.tail());
    set_guards(m, false);
    if (before && behind) return;
    misuse("{}: somebody wrote {} a block of {} bytes of {} memory", after, before ? "behind" : "in front of",
           m.block.bytes, kind_name(m.block.kind));
  }

  size_t used(int device) const {
    size_t sum = 0;
    for (const auto& [address, m] : live_) {
      if (m.block.kind == MemoryKind::device && m.block.device == device) sum += rounded(m.block.bytes, kGranule);
    }
    return sum;
  }

  std::mutex mutex_;
  bool open_ = true;
  std::map<uintptr_t, Mapping> live_;   // by the block's address
  std::map<uintptr_t, size_t> locked_;  // bytes that cudaHostRegister was given, by address
  std::deque<Mapping> kept_;
  size_t kept_bytes_ = 0;
};

cudaError_t allocate_pinned(void** p, size_t bytes, const char* call) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  if (p == nullptr) return told(cudaErrorInvalidValue);
  refuse_in_capture(scheduler, call);
  ++scheduler.counters.pinned_allocations;
  *p = bytes == 0 ? nullptr : Memory::instance().allocate(MemoryKind::pinned, bytes, current_device(), 0);
  return told(bytes > 0 && *p == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

/// As the real ones do, freeing waits for everything that the device was given.
cudaError_t release(MemoryKind kind, void* p, const char* call) {
  if (p == nullptr) return cudaSuccess;
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  refuse_in_capture(scheduler, call);
  const auto block = find_block(p);
  ++scheduler.counters.synchronisations;
  if (block) scheduler.drain(lock, block->device);
  Memory::instance().release(kind, p, call);
  return cudaSuccess;
}

}  // namespace

std::optional<Block> find_block(const void* p) { return Memory::instance().find(p); }
void open_device_memory(bool open) { Memory::instance().open(open); }
void check_guards(const std::string& after) { Memory::instance().check_all(after); }
size_t used_memory(int device) { return Memory::instance().used_now(device); }
void report_live_blocks() { Memory::instance().report(); }
int64_t live_device_bytes() { return Memory::instance().live_bytes(); }

bool is_device_memory(const void* p, size_t bytes) {
  if (bytes == 0) return true;
  const auto block = find_block(p);
  return block && block->kind == MemoryKind::device &&
         static_cast<const std::byte*>(p) + bytes <= block->data + block->bytes;
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudaError_t cudaMalloc(void** p, size_t bytes) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  if (p == nullptr) return told(cudaErrorInvalidValue);
  refuse_in_capture(scheduler, "cudaMalloc");
  explain_host_access();
  ++scheduler.counters.device_allocations;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = Memory::instance().allocate(MemoryKind::device, bytes, current_device(), scheduler.options.memory);
  return told(*p == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* p) { return release(MemoryKind::device, p, "cudaFree"); }

cudaError_t cudaMallocHost(void** p, size_t bytes) { return allocate_pinned(p, bytes, "cudaMallocHost"); }

cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned int flags) {
  if ((flags & ~(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined)) != 0) {
    return told(cudaErrorInvalidValue);
  }
  return allocate_pinned(p, bytes, "cudaHostAlloc");
}

cudaError_t cudaFreeHost(void* p) { return release(MemoryKind::pinned, p, "cudaFreeHost"); }

// Memory of the host's own that kernels may use: they run in this process, so there is nothing to map.
cudaError_t cudaHostRegister(void* p, size_t bytes, unsigned int flags) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  refuse_in_capture(scheduler, "cudaHostRegister");
  if (p == nullptr || bytes == 0 || (flags & ~(cudaHostRegisterPortable | cudaHostRegisterMapped)) != 0) {
    return told(cudaErrorInvalidValue);
  }
  return told(Memory::instance().lock_pages(p, bytes) ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void* p) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  refuse_in_capture(scheduler, "cudaHostUnregister");
  scheduler.drain(lock, current_device());
  return told(Memory::instance().unlock_pages(p) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaHostGetDevicePointer(void** seen, void* p, unsigned int flags) {
  const auto lock = Scheduler::instance().enter();
  if (seen == nullptr || flags != 0 || !Memory::instance().is_locked(p)) return told(cudaErrorInvalidValue);
  *seen = p;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  *total = scheduler.options.memory;
  const size_t used = used_memory(current_device());
  *free_bytes = *total - std::min(used, *total);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const auto lock = Scheduler::instance().enter();
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  attributes->device = cudaInvalidDeviceId;
  const auto block = find_block(p);
  if (!block || static_cast<const std::byte*>(p) == block->data + block->bytes) return cudaSuccess;
  attributes->device = block->device;
  attributes->devicePointer = const_cast<void*>(p);
  if (block->kind == MemoryKind::device) {
    attributes->type = cudaMemoryTypeDevice;
  } else {
    attributes->type = cudaMemoryTypeHost;
    attributes->hostPointer = const_cast<void*>(p);
  }
  return cudaSuccess;
}
