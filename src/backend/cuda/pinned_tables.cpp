#include "backend/cuda/pinned_tables.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/check.h"
#include "backend/table_memory.h"
#include "base/clock.h"

namespace plsc {

void* PinnedTables::allocate(size_t bytes) {
  void* data = host_table_memory().allocate(bytes);
  if (bytes == 0) return data;
  // Large pages that are there already are locked fast; those of cudaHostAlloc would be small.
  const cudaError_t locked = cudaHostRegister(data, bytes, cudaHostRegisterMapped);
  void* seen = nullptr;
  const cudaError_t mapped = locked == cudaSuccess ? cudaHostGetDevicePointer(&seen, data, 0) : locked;
  if (mapped == cudaSuccess && seen == data) return data;
  if (locked == cudaSuccess) cudaHostUnregister(data);
  host_table_memory().release(data, bytes);
  fail_hint("use more ranks on more hosts, or bf16 (head.store.dtype, head.store.momentum)",
            "the GPU cannot be given {} of host memory: {}", human_bytes(static_cast<double>(bytes)),
            mapped == cudaSuccess ? "it would see them at another address" : cudaGetErrorString(mapped));
}

void PinnedTables::release(void* data, size_t bytes) noexcept {
  if (bytes > 0) {
    cudaDeviceSynchronize();
    cudaHostUnregister(data);
  }
  host_table_memory().release(data, bytes);
}

}  // namespace plsc
