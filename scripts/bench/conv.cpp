// Speed of every convolution of iresnet18 at 112x112 and of the Omniglot network, in GFLOP/s: each pass by oneDNN's own
// kernel and as a matrix product (conv_products.h). A star marks the way that is used.
//   bench_conv --batch 32            bench_conv --omniglot --batch 128
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/conv_products.h"
#include "backend/cpu/ops_cpu.h"
#include "base/clock.h"
#include "base/threads.h"

namespace plsc {
namespace {

struct Options {
  int64_t batch = 32;
  int threads = available_cores();
  bool omniglot = false;
};

/// in, size, out, kernel, stride
std::vector<std::array<int64_t, 5>> shapes(bool omniglot) {
  if (omniglot) {
    return {{1, 32, 32, 3, 1},   {32, 32, 32, 3, 1},  {32, 32, 32, 3, 2}, {32, 32, 32, 1, 2},  {32, 16, 64, 3, 1},
            {64, 16, 64, 3, 2},  {32, 16, 64, 1, 2},  {64, 8, 128, 3, 1}, {128, 8, 128, 3, 2}, {64, 8, 128, 1, 2},
            {128, 4, 256, 3, 1}, {256, 4, 256, 3, 2}, {128, 4, 256, 1, 2}};
  }
  return {{3, 112, 64, 3, 1},   {64, 112, 64, 3, 1},  {64, 112, 64, 3, 2},  {64, 112, 64, 1, 2},  {64, 56, 64, 3, 1},
          {64, 56, 128, 3, 1},  {128, 56, 128, 3, 2}, {64, 56, 128, 1, 2},  {128, 28, 128, 3, 1}, {128, 28, 256, 3, 1},
          {256, 28, 256, 3, 2}, {128, 28, 256, 1, 2}, {256, 14, 256, 3, 1}, {256, 14, 512, 3, 1}, {512, 14, 512, 3, 2},
          {256, 14, 512, 1, 2}, {512, 7, 512, 3, 1}};
}

/// Seconds of the fastest of a few runs: what the code can do, whatever else the machine does.
template <class Work>
double fastest(const Work& work) {
  work();
  double best = 1e9;
  const Stopwatch all;
  for (int run = 0; run < 50 && (run < 3 || all.seconds() < 0.2); ++run) {
    const Stopwatch watch;
    work();
    best = std::min(best, watch.seconds());
  }
  return best;
}

void time_shape(Backend& backend, const DnnlRuntime& runtime, const ConvSpec& s) {
  Device& device = *backend.device;
  const Tensor x = device.zeros({s.batch, s.height, s.width, s.in_channels}, s.dtype);
  const Tensor w = device.zeros({s.out_channels, s.in_channels, s.kernel, s.kernel});
  Tensor y = device.zeros({s.batch, s.out_height(), s.out_width(), s.out_channels}, s.dtype);
  Tensor dx = device.zeros(x.shape(), s.dtype), dw = device.zeros(w.shape());
  const double gflop = 2e-9 * static_cast<double>(y.elements()) * static_cast<double>(w.elements() / s.out_channels);
  const auto direct = make_cpu_direct_conv(runtime, s);
  ConvProducts products(runtime, s);
  std::printf("%4lld -> %3lld at %3lld, %lldx%lld, stride %lld, %-4s", static_cast<long long>(s.in_channels),
              static_cast<long long>(s.out_channels), static_cast<long long>(s.height),
              static_cast<long long>(s.kernel), static_cast<long long>(s.kernel), static_cast<long long>(s.stride),
              std::string(dtype_name(s.dtype)).c_str());
  const auto report = [&](ConvPass pass, double own, double product) {
    const bool chosen = ConvProducts::preferred(s, pass);
    std::printf(" %7.0f%s %6.0f%s", gflop / own, chosen ? " " : "*", gflop / product, chosen ? "*" : " ");
    std::fflush(stdout);
  };
  report(ConvPass::forward, fastest([&] { direct->forward(x, w, y); }), fastest([&] { products.forward(x, w, y); }));
  report(ConvPass::data, fastest([&] { direct->backward_data(y, w, dx); }),
         fastest([&] { products.backward_data(y, w, dx); }));
  report(ConvPass::weight, fastest([&] { direct->backward_weight(x, y, dw, true); }),
         fastest([&] { products.backward_weight(x, y, dw, true); }));
  std::printf("\n");
}

void run(const Options& o) {
  Backend backend = make_cpu_backend(o.threads);
  const DnnlRuntime runtime(*backend.device, o.threads);
  std::printf("%s, batch %lld; GFLOP/s by oneDNN and as a product\n", backend.device->description().c_str(),
              static_cast<long long>(o.batch));
  std::printf("%35s %16s %16s %16s\n", "", "forward", "data", "weight");
  for (const auto& [in, size, out, kernel, stride] : shapes(o.omniglot)) {
    for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      if (!backend.device->supports(dtype)) continue;
      time_shape(backend, runtime, {o.batch, size, size, in, out, kernel, stride, kernel / 2, dtype});
    }
  }
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::Options o;
  CLI::App app("Speed of convolutions, pass by pass");
  app.add_option("--batch", o.batch);
  app.add_option("--threads", o.threads);
  app.add_flag("--omniglot", o.omniglot, "the shapes of the Omniglot network in place of iresnet18's");
  CLI11_PARSE(app, argc, argv);
  try {
    plsc::run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_conv: %s\n", e.what());
    return 1;
  }
  return 0;
}
