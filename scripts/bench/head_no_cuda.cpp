// In place of head_cuda.cpp in a build without CUDA.
#include "base/error.h"
#include "scripts/bench/head_bench.h"

namespace plsc {

Backend make_cuda_head_backend(const HeadBench&) { return make_cuda_backend({}); }  // says what the build lacks

double time_cuda_products(Backend&, const HeadBench&, int64_t, int64_t) { PLSC_CHECK(false, "this build has no CUDA"); }

}  // namespace plsc
