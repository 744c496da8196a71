// The class graph's products on a GPU, by the backend's own products: cuBLASLt's best algorithm for each shape.
#include <algorithm>

#include "backend/cuda/gemm.h"
#include "scripts/bench/knn_bench.h"
#include "scripts/bench/timeline.h"

namespace plsc {

double cuda_product_rate(Backend& backend, const KnnBench& o) {
  constexpr int64_t kQueries = 2048;
  constexpr int kProducts = 20;
  Device& device = *backend.device;
  GemmCache& gemms = *static_cast<CudaRuntime*>(backend.libraries.get())->gemms;
  double best = 0;
  for (const int64_t keys : {2048, 4096, 8192, 16384}) {
    Tensor queries = device.tensor({kQueries, o.columns}, o.compute());
    Tensor rows = device.tensor({keys, o.columns}, o.compute()), scores = device.tensor({kQueries, keys});
    backend.head->init_rows(queries, {.seed = 1});
    backend.head->init_rows(rows, {.seed = 2});
    const GemmSpec spec{.m = kQueries, .n = keys, .k = o.columns, .transpose_b = true, .in = o.compute()};
    gemms.run(spec, {queries.raw(), rows.raw(), scores.raw()});  // plans it
    const auto line = make_timeline(device);
    line->mark("products");
    for (int i = 0; i < kProducts; ++i) gemms.run(spec, {queries.raw(), rows.raw(), scores.raw()});
    line->mark("end");
    const double flop = 2.0 * kProducts * static_cast<double>(kQueries * keys) * static_cast<double>(o.columns);
    best = std::max(best, flop / line->read().back().seconds);
  }
  return best;
}

}  // namespace plsc
