// In place of timeline_cuda.cpp in a build without CUDA, where no device is a GPU.
#include "base/error.h"
#include "scripts/bench/timeline.h"

namespace plsc {

std::unique_ptr<Timeline> make_cuda_timeline(Device&) { PLSC_CHECK(false, "this build has no CUDA"); }
int64_t cuda_bytes_used() { return 0; }

}  // namespace plsc
