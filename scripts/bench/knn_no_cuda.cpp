// A build without CUDA has no GPU to measure.
#include "base/error.h"
#include "scripts/bench/knn_bench.h"

namespace plsc {

double cuda_product_rate(Backend&, const KnnBench&) { throw Error("this build has no CUDA", "build the preset cuda"); }

}  // namespace plsc
