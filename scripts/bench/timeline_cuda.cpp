// A GPU's marks: events of its compute stream that keep the time.
#include <cuda_runtime_api.h>

#include "backend/cuda/check.h"
#include "scripts/bench/timeline.h"

namespace plsc {
namespace {

class CudaTimeline final : public Timeline {
 public:
  explicit CudaTimeline(Device& device) : device_(device) {}
  ~CudaTimeline() override {
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  CudaTimeline(const CudaTimeline&) = delete;
  CudaTimeline& operator=(const CudaTimeline&) = delete;

  void mark(const char* name) override {
    if (names_.size() == events_.size()) {
      events_.push_back(nullptr);
      check(cudaEventCreate(&events_.back()), "cudaEventCreate");
    }
    check(cudaEventRecord(events_[names_.size()], static_cast<cudaStream_t>(device_.native_stream())),
          "cudaEventRecord");
    names_.push_back(name);
  }

  std::vector<Mark> read() override {
    device_.synchronize();
    std::vector<Mark> out;
    for (size_t i = 0; i < names_.size(); ++i) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, events_[0], events_[i]), "cudaEventElapsedTime");
      out.push_back({names_[i], 1e-3 * static_cast<double>(milliseconds)});
    }
    names_.clear();
    return out;
  }

 private:
  Device& device_;
  std::vector<cudaEvent_t> events_;  // made once, used again
  std::vector<const char*> names_;
};

}  // namespace

std::unique_ptr<Timeline> make_cuda_timeline(Device& device) { return std::make_unique<CudaTimeline>(device); }

int64_t cuda_bytes_used() {
  size_t free_bytes = 0, total = 0;
  check(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(total - free_bytes);
}

}  // namespace plsc
