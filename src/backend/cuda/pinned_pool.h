// Page-locked host memory that the device writes to: for copies to the host that nobody waits for at once.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "tensor/tensor.h"

namespace plsc {

/// Keeps what is released and hands it out again, at once: only copies of one stream may write to this memory, so a
/// copy that is still under way when its memory is released comes before the next user's.
class PinnedPool final : public Allocator {
 public:
  PinnedPool() = default;
  /// What is on its way must have been waited for.
  ~PinnedPool() override;
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  bool is_host() const override { return true; }

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // by size, a power of two
};

}  // namespace plsc
