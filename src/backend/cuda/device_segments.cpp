#include "backend/cuda/device_segments.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/check.h"

namespace plsc {
namespace {

class DeviceSegments final : public SegmentSource {
 public:
  void* take(size_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // told here; the next call begins without it
      return nullptr;
    }
    check(status, "cudaMalloc");
    return data;
  }
  void give_back(void* data) noexcept override { cudaFree(data); }
  Room room() const override {
    Room room;
    check(cudaMemGetInfo(&room.free, &room.total), "cudaMemGetInfo");
    return room;
  }
};

}  // namespace

std::unique_ptr<SegmentSource> make_device_segments() { return std::make_unique<DeviceSegments>(); }

}  // namespace plsc
