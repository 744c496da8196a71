// Host memory that kernels read and write where it lies, over the link to the host: page-locked and mapped.
#pragma once
#include "tensor/tensor.h"

namespace plsc {

/// For the device that is current when memory is taken. Fresh memory is zero. What kernels of this memory's last user
/// were given must be done before it is released.
class PinnedTables final : public Allocator {
 public:
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) noexcept override;
  bool is_host() const override { return true; }
};

}  // namespace plsc
