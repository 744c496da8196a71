// Speed and memory of the margin head: one full-softmax step (forward, backward, fused SGD with momentum) on random
// embeddings, beside the matrix products alone that the step is made of, at the step's own shapes and at the best of
// several tile sizes, in the same process. The same step in PyTorch: scripts/bench/head_pytorch.py.
//   bench_head --classes 1000000 --batch 128 --precision fp32
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "backend/cpu/head_products.h"
#include "base/clock.h"
#include "base/threads.h"
#include "head/margin_head.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

struct HeadBench {
  int64_t classes = 1000000, columns = 512, batch = 128, steps = 3;
  int threads = available_cores();
  std::string precision = "fp32", sampling = "full";
  double ratio = 0.1;

  Dtype dtype() const { return precision == "bf16" ? Dtype::bf16 : Dtype::f32; }
  /// Cosines twice, the rows' gradient, the embeddings' gradient: 2 B C D each.
  double flop() const {
    return 8.0 * static_cast<double>(batch) * static_cast<double>(classes) * static_cast<double>(columns);
  }
};

/// A line of /proc/self/status in bytes: VmHWM is the most memory that this process ever held.
double process_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0) return 1024 * std::stod(line.substr(key.size() + 1));
  }
  return 0;
}

Tensor random_values(const HeadBench& o, int64_t rows, int64_t stream) {
  Tensor x(host_allocator(), {rows, o.columns}, Dtype::f32);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const auto r = math::random4(7, math::Draw::synthetic, static_cast<uint64_t>(stream), static_cast<uint64_t>(i));
    x.data<float>()[i] = 2 * math::to_unit_float(r.x[0]) - 1;
  }
  return x;
}

/// Wall time, and the time that this process's threads were running: with one thread the latter does not see what
/// else the machine does.
struct Seconds {
  double wall = 1e300, cpu = 1e300;
  void note(double wall_seconds, double cpu_seconds) {
    wall = std::min(wall, wall_seconds);
    cpu = std::min(cpu, cpu_seconds);
  }
};
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct StepTimes {
  Seconds best;
  double first_loss = 0, expected = 0;
  int64_t active = 0;
};

StepTimes time_steps(const HeadBench& o) {
  auto alone = make_single_collective();
  Backend backend = make_cpu_backend(o.threads);
  Log log(0, LogLevel::warning);
  Context context{backend, *alone, *alone, log};
  context.activations = o.dtype();
  HeadConfig config;
  config.sampling.method = o.sampling;
  config.sampling.ratio = o.ratio;
  auto head = make_margin_head(context, config, o.classes, o.columns);
  head->init();
  StepTimes times;
  times.expected = head->expected_first_loss();
  for (int64_t s = 0; s <= o.steps; ++s) {
    const Tensor embeddings = random_values(o, o.batch, s);
    std::vector<std::vector<int64_t>> step_labels(1);
    std::vector<int64_t>& labels = step_labels[0];
    for (int64_t i = 0; i < o.batch; ++i) {
      labels.push_back(static_cast<int64_t>(
          math::random64(3, math::Draw::synthetic, static_cast<uint64_t>(s), static_cast<uint64_t>(i)) %
          static_cast<uint64_t>(o.classes)));
    }
    const Stopwatch watch;
    const double cpu = cpu_seconds();
    begin_step(backend, {.step = s});
    head->prepare_step(context, {step_labels, {.step = s, .global_batch = o.batch}});
    head->begin_step(context, {.lr = 0.1F, .momentum = 0.9F, .weight_decay = 5e-4F});
    const HeadResult result = head->run(context, embeddings);
    head->end_step(context);
    const double seconds = watch.seconds();
    times.active = result.active;
    if (s == 0) times.first_loss = result.sums.values<double>()[0] / static_cast<double>(o.batch);
    if (s > 0) times.best.note(seconds, cpu_seconds() - cpu);  // the first step makes memory and primitives
    std::printf("  step %ld: %.3f s\n", static_cast<long>(s), seconds);
  }
  return times;
}

/// Seconds for the products of one whole step, on weights of as many rows as fit the run: the time of a part of the
/// tiles is scaled up. Each thread has its own tiles, as in the head.
Seconds time_products(const HeadBench& o, int64_t tile, int64_t rows) {
  const size_t width = dtype_size(o.dtype());
  Tensor weights(host_allocator(), {rows, o.columns}, o.dtype()), x(host_allocator(), {o.batch, o.columns}, o.dtype());
  std::fill_n(static_cast<std::byte*>(weights.raw()), weights.bytes(), std::byte{0x3c});
  std::fill_n(static_cast<std::byte*>(x.raw()), x.bytes(), std::byte{0x3c});
  Seconds best;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::vector<double> seconds(static_cast<size_t>(o.threads));
    double cpu = 0;
    parallel_ranges(rows / tile, o.threads, [&](int64_t begin, int64_t end, int part) {
      TileProducts products(host_allocator(), o.batch, o.columns, o.dtype());
      Tensor dots(host_allocator(), {tile, o.batch}, Dtype::f32), g(host_allocator(), {tile, o.batch}, o.dtype());
      Tensor u(host_allocator(), {tile, o.columns}, Dtype::f32), dx(host_allocator(), {o.batch, o.columns}, Dtype::f32);
      std::fill_n(dx.data<float>(), dx.elements(), 0.0F);
      std::fill_n(static_cast<std::byte*>(g.raw()), g.bytes(), std::byte{0x1c});
      const auto one_tile = [&](int64_t t) {
        const void* w =
            static_cast<const std::byte*>(weights.raw()) + static_cast<size_t>(t * tile * o.columns) * width;
        products.dots(tile, w, x.raw(), dots.data<float>());
        products.dots(tile, w, x.raw(), dots.data<float>());
        products.add_sample_gradient(tile, g.raw(), w, dx.data<float>());
        products.row_gradient(tile, g.raw(), x.raw(), u.data<float>());
      };
      one_tile(begin);  // makes the primitives
      const Stopwatch watch;
      if (part == 0) cpu = cpu_seconds();
      for (int64_t t = begin; t < end; ++t) one_tile(t);
      seconds[static_cast<size_t>(part)] = watch.seconds();
    });
    cpu = cpu_seconds() - cpu;
    const double whole = static_cast<double>(o.classes) / static_cast<double>(rows / tile * tile);
    best.note(whole * *std::max_element(seconds.begin(), seconds.end()), whole * cpu);
  }
  return best;
}

void print(const std::string& what, const Seconds& seconds, const HeadBench& o) {
  std::printf("%-26s %.3f s, %.0f GFLOP/s, CPU time %.3f s\n", what.c_str(), seconds.wall,
              o.flop() / seconds.wall * 1e-9, seconds.cpu);
}

void run(HeadBench o) {
  std::printf("%ld classes x %ld, batch %ld, %s, %s, %d threads\n", static_cast<long>(o.classes),
              static_cast<long>(o.columns), static_cast<long>(o.batch), o.precision.c_str(), o.sampling.c_str(),
              o.threads);
  const StepTimes step = time_steps(o);
  const double peak = process_bytes("VmHWM");
  o.classes = step.active;  // what the products are counted for and compared on
  print("step", step.best, o);
  std::printf("peak memory of the process %s, first loss %.4f (expected %.4f)\n", human_bytes(peak).c_str(),
              step.first_loss, step.expected);
  Seconds best;
  for (const int64_t tile : {128, 256, 512, 1024, 2048}) {
    const Seconds seconds = time_products(o, tile, std::min<int64_t>(o.classes, 131072));
    print("products, tiles of " + std::to_string(tile), seconds, o);
    best.note(seconds.wall, seconds.cpu);
  }
  std::printf("the step runs at %.1f %% of the rate of its matrix products alone (%.1f %% in CPU time)\n",
              100 * best.wall / step.best.wall, 100 * best.cpu / step.best.cpu);
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::HeadBench o;
  CLI::App app("Speed and memory of the margin head");
  app.add_option("--classes", o.classes);
  app.add_option("--columns", o.columns);
  app.add_option("--batch", o.batch);
  app.add_option("--steps", o.steps);
  app.add_option("--threads", o.threads);
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--sampling", o.sampling)->check(CLI::IsMember({"full", "uniform"}));
  app.add_option("--ratio", o.ratio);
  CLI11_PARSE(app, argc, argv);
  plsc::run(o);
}
