// The class graph's products on a CPU, by the backend's own calls to oneDNN: each thread has its own tiles of scores.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "backend/cpu/head_products.h"
#include "base/clock.h"
#include "base/threads.h"
#include "scripts/bench/knn_bench.h"

namespace plsc {
namespace {

struct Tile {
  int64_t queries, keys;
};

/// Seconds of one thread's products: the slowest thread's.
double seconds_of(const KnnBench& o, const Tile& tile, int64_t products) {
  constexpr int64_t kKeyTiles = 32;  // the keys come from memory, as in a search
  Tensor keys(host_allocator(), {kKeyTiles * tile.keys, o.columns}, o.compute());
  std::fill_n(static_cast<std::byte*>(keys.raw()), keys.bytes(), std::byte{0x3c});
  std::vector<double> seconds(static_cast<size_t>(o.threads));
  parallel_ranges(o.threads, o.threads, [&](int64_t, int64_t, int part) {
    TileProducts gemm(host_allocator(), tile.keys, o.columns, o.compute());
    Tensor queries(host_allocator(), {tile.queries, o.columns}, o.compute());
    Tensor scores(host_allocator(), {tile.queries, tile.keys}, Dtype::f32);
    std::fill_n(static_cast<std::byte*>(queries.raw()), queries.bytes(), std::byte{0x3c});
    const auto run = [&](int64_t t) {
      const auto* key = static_cast<const std::byte*>(keys.rows(t % kKeyTiles * tile.keys, tile.keys).raw());
      gemm.dots(tile.queries, queries.raw(), key, scores.data<float>());
    };
    run(0);  // makes the primitive
    const Stopwatch watch;
    for (int64_t t = 0; t < products; ++t) run(t);
    seconds[static_cast<size_t>(part)] = watch.seconds();
  });
  return *std::ranges::max_element(seconds);
}

}  // namespace

double cpu_product_rate(const KnnBench& o) {
  constexpr int kRepeats = 3;
  double best = 0;
  for (const Tile tile : {Tile{64, 1024}, {128, 512}, {128, 1024}, {256, 512}, {256, 1024}, {512, 512}, {1024, 256}}) {
    const double one = 2.0 * static_cast<double>(tile.queries * tile.keys) * static_cast<double>(o.columns);
    const auto products = static_cast<int64_t>(1e10 / one) + 1;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      const double rate = o.threads * one * static_cast<double>(products) / seconds_of(o, tile, products);
      best = std::max(best, rate);
      std::printf("products of %lld queries x %lld keys: %.0f GFLOP/s\n", static_cast<long long>(tile.queries),
                  static_cast<long long>(tile.keys), 1e-9 * rate);
    }
  }
  return best;
}

}  // namespace plsc
