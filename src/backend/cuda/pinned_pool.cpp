#include "backend/cuda/pinned_pool.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>

#include "backend/cuda/check.h"

namespace plsc {
namespace {

size_t size_class(size_t bytes) {
  constexpr size_t kPage = 4096;
  return std::bit_ceil(std::max(bytes, kPage));
}

}  // namespace

PinnedPool::~PinnedPool() {
  for (const auto& [size, blocks] : free_) {
    for (void* block : blocks) cudaFreeHost(block);
  }
}

void* PinnedPool::allocate(size_t bytes) {
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  std::vector<void*>& blocks = free_[size];
  if (!blocks.empty()) {
    void* block = blocks.back();
    blocks.pop_back();
    return block;
  }
  void* block = nullptr;
  check(cudaHostAlloc(&block, size, cudaHostAllocDefault), "cudaHostAlloc");
  return block;
}

void PinnedPool::release(void* data, size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  free_[size_class(bytes)].push_back(data);
}

}  // namespace plsc
