// The head's products on a CPU, by the head's own calls to oneDNN.
#include <algorithm>

#include "backend/cpu/head_products.h"
#include "base/clock.h"
#include "base/threads.h"
#include "scripts/bench/head_bench.h"

namespace plsc {
namespace {

/// Operands of one thread's tiles.
struct Operands {
  Operands(const HeadBench& o, int64_t tile)
      : products(host_allocator(), o.batch, o.columns, o.compute()),
        dots(host_allocator(), {tile, o.batch}, Dtype::f32),
        g(host_allocator(), {tile, o.batch}, o.compute()),
        u(host_allocator(), {tile, o.columns}, Dtype::f32),
        dx(host_allocator(), {o.batch, o.columns}, Dtype::f32) {
    std::fill_n(dx.data<float>(), dx.elements(), 0.0F);
    std::fill_n(static_cast<std::byte*>(g.raw()), g.bytes(), std::byte{0x1c});
  }
  void run(int64_t tile, const void* w, const void* x) {
    products.dots(tile, w, x, dots.data<float>());
    products.dots(tile, w, x, dots.data<float>());
    products.add_sample_gradient(tile, g.raw(), w, dx.data<float>());
    products.row_gradient(tile, g.raw(), x, u.data<float>());
  }

  TileProducts products;
  Tensor dots, g, u, dx;
};

}  // namespace

double time_cpu_products(const HeadBench& o, int64_t tile, int64_t rows) {
  const size_t width = dtype_size(o.compute());
  const int64_t tiles = std::max<int64_t>(1, std::min<int64_t>(rows, 131072) / tile);
  Tensor weights(host_allocator(), {tiles * tile, o.columns}, o.compute()),
      x(host_allocator(), {o.batch, o.columns}, o.compute());
  std::fill_n(static_cast<std::byte*>(weights.raw()), weights.bytes(), std::byte{0x3c});
  std::fill_n(static_cast<std::byte*>(x.raw()), x.bytes(), std::byte{0x3c});
  const auto tile_of = [&](int64_t t) {
    return static_cast<const std::byte*>(weights.raw()) + static_cast<size_t>(t * tile * o.columns) * width;
  };
  double best = 1e300;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<double> seconds(static_cast<size_t>(o.threads));
    parallel_ranges(tiles, o.threads, [&](int64_t begin, int64_t end, int part) {
      Operands operands(o, tile);
      operands.run(tile, tile_of(begin), x.raw());  // makes the primitives
      const Stopwatch watch;
      for (int64_t t = begin; t < end; ++t) operands.run(tile, tile_of(t), x.raw());
      seconds[static_cast<size_t>(part)] = watch.seconds();
    });
    best = std::min(best, *std::max_element(seconds.begin(), seconds.end()));
  }
  return best * static_cast<double>(rows) / static_cast<double>(tiles * tile);
}

Backend make_head_backend(const HeadBench& o) {
  return o.on_gpu() ? make_cuda_head_backend(o) : make_cpu_backend(o.threads);
}

}  // namespace plsc
