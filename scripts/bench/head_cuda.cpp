// The head's products on a GPU, by the backend's own products: cuBLASLt's best algorithm for each shape.
#include <algorithm>
#include <array>

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/head_ops_cuda.h"
#include "scripts/bench/head_bench.h"
#include "scripts/bench/timeline.h"

namespace plsc {
namespace {

/// The head aligns a sample's row so.
constexpr int64_t kSampleMultiple = 8;

/// The operands of a tile, two of them in turn; values as they are in a head, because a GPU's clock depends on them.
class Products {
 public:
  Products(Backend& backend, const HeadBench& o, int64_t tile)
      : gemms_(*static_cast<CudaRuntime*>(backend.libraries.get())->gemms),
        o_(o),
        tile_(tile),
        stride_((o.batch + kSampleMultiple - 1) / kSampleMultiple * kSampleMultiple) {
    Device& device = *backend.device;
    const auto drawn = [&](int64_t rows, int64_t columns, Dtype type, float std) {
      Tensor t = device.tensor({rows, columns}, type);
      backend.head->init_rows(t, {.seed = 1, .std = std});
      return t;
    };
    x_ = drawn(o.batch, o.columns, o.compute(), 0.04F);
    dx_ = device.zeros({o.batch, o.columns});
    for (Slot& slot : slots_) {
      slot.w = drawn(tile, o.columns, o.compute(), 0.01F);
      slot.g = drawn(tile, stride_, o.compute(), 1e-4F);
      slot.dots = device.tensor({tile, stride_});
      slot.u = device.tensor({tile, o.columns});
    }
  }

  void run(int64_t t) {
    Slot& s = slots_[static_cast<size_t>(t % 2)];
    const GemmSpec dots{
        .m = tile_, .n = o_.batch, .k = o_.columns, .transpose_b = true, .in = o_.compute(), .ldc = stride_};
    gemms_.run(dots, {s.w.raw(), x_.raw(), s.dots.raw()});
    gemms_.run(dots, {s.w.raw(), x_.raw(), s.dots.raw()});
    gemms_.run({.m = o_.batch, .n = o_.columns, .k = tile_, .transpose_a = true, .in = o_.compute(), .lda = stride_},
               {s.g.raw(), s.w.raw(), dx_.raw(), 1, 1});
    gemms_.run({.m = tile_, .n = o_.columns, .k = o_.batch, .in = o_.compute(), .lda = stride_},
               {s.g.raw(), x_.raw(), s.u.raw()});
  }

 private:
  struct Slot {
    Tensor w, g, dots, u;
  };
  GemmCache& gemms_;
  const HeadBench& o_;
  int64_t tile_, stride_;
  Tensor x_, dx_;
  std::array<Slot, 2> slots_;
};

}  // namespace

Backend make_cuda_head_backend(const HeadBench& o) {
  Backend backend = make_cuda_backend({.tf32 = o.precision == "tf32"});
  if (o.head_tile > 0) {
    const auto& runtime = *static_cast<const CudaRuntime*>(backend.libraries.get());
    backend.head = make_cuda_head_ops(static_cast<CudaDevice&>(*backend.device), runtime,
                                      static_cast<math::StepState*>(backend.step_state.raw()), {o.head_tile});
  }
  return backend;
}

double time_cuda_products(Backend& backend, const HeadBench& o, int64_t tile, int64_t rows) {
  const int64_t tiles = std::clamp<int64_t>(rows / tile, 2, 64);
  Products products(backend, o, tile);
  products.run(0);  // plans them
  products.run(1);
  const auto line = make_timeline(*backend.device);
  double best = 1e300;
  for (int repeat = 0; repeat < 3; ++repeat) {
    line->mark("products");
    for (int64_t t = 0; t < tiles; ++t) products.run(t);
    line->mark("end");
    best = std::min(best, line->read().back().seconds);
  }
  return best * static_cast<double>(rows) / static_cast<double>(tiles * tile);
}

}  // namespace plsc
