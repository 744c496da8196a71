// Speed and memory of the margin head: steps of it alone (forward, backward, fused SGD with momentum) on random
// embeddings, beside the two things that no head can do without, measured in the same process: the matrix products at
// the head's own shapes and the best of several tile sizes, and moving the centres' bytes at the device's rate of
// copies. The same step in PyTorch: scripts/bench/head_pytorch.py. The last line is JSON.
//   bench_head --classes 1000000 --batch 128 --precision fp32
//   bench_head --device cuda --classes 1000000 --batch 1024 --precision bf16
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/threads.h"
#include "head/margin_head.h"
#include "kernels/math/rng.h"
#include "runtime/staged_collective.h"
#include "scripts/bench/head_bench.h"
#include "scripts/bench/timeline.h"

namespace plsc {
namespace {

/// The most memory that this process ever held.
double host_peak() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::stod(line.substr(6));
  }
  return 0;
}

struct StepTimes {
  double median = 0, best = 0;  // seconds
  double next = 0;              // to make the next step ready, beside it
  double init = 0;              // to make the head and its first values
  double first_loss = 0, expected = 0;
  int64_t active = 0, device_used = 0;
  std::string description;
};

HeadConfig head_config(const HeadBench& o) {
  HeadConfig config;
  config.store = {.tier = o.tier, .dtype = o.store, .momentum = o.momentum};
  config.update = o.update;
  if (o.ratio < 1) config.sampling = {"uniform", o.ratio};
  return config;
}

std::vector<int64_t> random_labels(const HeadBench& o, int64_t step) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < o.batch; ++i) {
    const uint64_t draw =
        math::random64(3, math::Draw::synthetic, static_cast<uint64_t>(step), static_cast<uint64_t>(i));
    labels.push_back(static_cast<int64_t>(draw % static_cast<uint64_t>(o.classes)));
  }
  return labels;
}

/// Steps as the trainer does them: the next one's labels are there before this one is done.
StepTimes time_steps(const HeadBench& o, Context& context) {
  constexpr int64_t kWarmup = 2;  // the first steps make memory, momentum and plans
  StepTimes times;
  const Stopwatch made;
  auto head = make_margin_head(context, head_config(o), o.classes, o.columns);
  head->init();
  context.device().synchronize();
  times.init = made.seconds();
  Tensor embeddings = context.device().tensor({o.batch, o.columns});
  context.backend.head->init_rows(embeddings, {.seed = 7});
  const auto line = make_timeline(context.device());
  const auto prepare = [&](int64_t step) {
    head->prepare_step(context, {{random_labels(o, step)}, {.step = step, .global_batch = o.batch}});
  };
  times.expected = head->expected_first_loss();
  times.description = head->description();
  prepare(0);
  for (int64_t s = 0; s < kWarmup + o.steps; ++s) {
    if (s >= kWarmup) line->mark("head");
    begin_step(context.backend, {.step = s});
    head->begin_step(context, {.lr = 0.1F, .weight_decay = 5e-4F, .momentum = 0.9F});
    const HeadResult result = head->run(context, embeddings);
    head->end_step(context);
    if (s >= kWarmup) line->mark("between");
    prepare(s + 1);
    times.active = result.active;
    times.device_used = std::max(times.device_used, device_bytes_used(context.device()));
    if (s > 0) continue;
    times.first_loss =
        context.device().start_read(result.sums)->get().values<double>()[0] / static_cast<double>(o.batch);
  }
  std::vector<double> seconds;
  const auto marks = line->read();
  std::vector<double> between;
  for (size_t i = 0; i + 1 < marks.size(); i += 2) seconds.push_back(marks[i + 1].seconds - marks[i].seconds);
  for (size_t i = 1; i + 1 < marks.size(); i += 2) between.push_back(marks[i + 1].seconds - marks[i].seconds);
  times.next = median(between);
  times.median = median(seconds);
  times.best = *std::min_element(seconds.begin(), seconds.end());
  return times;
}

/// Bytes read and written a second when memory is copied.
double copy_rate(const HeadBench& o, Device& device) {
  const int64_t least = int64_t{8} << 20, most = (o.on_gpu() ? int64_t{1} << 30 : int64_t{256} << 20) / 4;
  const int64_t elements = std::clamp(o.classes * o.columns / 4, least / 4, most);
  const Tensor from = device.zeros({elements});
  Tensor to = device.zeros({elements});
  const auto line = make_timeline(device);
  double best = 1e300;
  for (int repeat = 0; repeat < 5; ++repeat) {
    line->mark("copy");
    if (device.is_host()) {
      parallel_ranges(elements, o.threads, [&](int64_t begin, int64_t end, int) {
        std::copy_n(from.data<float>() + begin, end - begin, to.data<float>() + begin);
      });
    } else {
      device.copy(from, to);
    }
    line->mark("end");
    best = std::min(best, line->read().back().seconds);
  }
  return 2.0 * static_cast<double>(from.bytes()) / best;
}

/// What a step must move at the least: the forward pass reads each active centre, the backward pass reads it once more
/// with its momentum, and writes both.
double least_bytes(const HeadBench& o, int64_t rows) {
  const double weight = o.store == "bf16" ? 2 : 4, momentum = o.momentum == "bf16" ? 2 : 4;
  return static_cast<double>(rows) * static_cast<double>(o.columns) * (3 * weight + 2 * momentum);
}

struct Products {
  double seconds = 1e300;
  int64_t tile = 0;
};

Products best_products(const HeadBench& o, Backend& backend, int64_t rows) {
  std::vector<int64_t> tiles = o.tiles;
  if (tiles.empty() && o.on_gpu()) tiles = {2048, 4096, 8192, 16384, 32768};
  if (tiles.empty()) tiles = {128, 256, 512, 1024, 2048};
  Products best;
  for (const int64_t tile : tiles) {
    const double seconds = o.on_gpu() ? time_cuda_products(backend, o, tile, rows) : time_cpu_products(o, tile, rows);
    std::printf("products, tiles of %-8lld %.6f s, %.0f GFLOP/s\n", static_cast<long long>(tile), seconds,
                1e-9 * o.flop(rows) / seconds);
    if (seconds < best.seconds) best = {seconds, tile};
  }
  return best;
}

void print(const HeadBench& o, const Context& context, const StepTimes& step, const Products& products, double copies) {
  const double bytes = least_bytes(o, step.active), moving = bytes / copies;
  const bool memory_binds = moving > products.seconds;
  const double bound = std::max(moving, products.seconds);
  std::printf("the least: products %.6f s (tiles of %lld), moving %s at %.1f GB/s %.6f s; %s bind\n", products.seconds,
              static_cast<long long>(products.tile), human_bytes(bytes).c_str(), 1e-9 * copies, moving,
              memory_binds ? "bytes" : "products");
  std::printf("the head runs at %.1f %% of that\n", 100 * bound / step.median);
  const DeviceMemory memory = context.device().memory();
  const nlohmann::ordered_json line{
      {"bench", "head"},
      {"device", context.device().description()},
      {"head", step.description},
      {"batch", o.batch},
      {"classes", o.classes},
      {"embedding", o.columns},
      {"active", step.active},
      {"precision", o.precision},
      {"store", o.store},
      {"momentum", o.momentum},
      {"tier", o.tier},
      {"ratio", o.ratio},
      {"head_tile", o.head_tile},
      {"steps", o.steps},
      {"head_ms", 1e3 * step.median},
      {"head_ms_lowest", 1e3 * step.best},
      {"next_ms", 1e3 * step.next},
      {"init_s", step.init},
      {"products_ms", 1e3 * products.seconds},
      {"products_tile", products.tile},
      {"products_gflop_per_s", 1e-9 * o.flop(step.active) / products.seconds},
      {"bytes", bytes},
      {"copy_gb_per_s", 1e-9 * copies},
      {"bytes_ms", 1e3 * moving},
      {"binds", memory_binds ? "bytes" : "products"},
      {"fraction", bound / step.median},
      {"device_memory_used", step.device_used},
      {"device_memory_peak", memory.peak},
      {"host_memory_peak", host_peak()},
      {"first_loss", step.first_loss},
      {"expected_first_loss", step.expected},
  };
  std::printf("%s\n", line.dump().c_str());
}

void run(const HeadBench& o) {
  auto alone = make_single_collective();
  Backend backend = make_head_backend(o);
  const auto tensors = o.on_gpu() ? make_device_single_collective(*backend.device) : nullptr;
  Log log(0, LogLevel::warning);
  Context context{backend, tensors ? *tensors : *alone, *alone, log};
  context.activations = o.compute();
  std::printf("%lld classes x %lld, batch %lld, %s, on %s\n", static_cast<long long>(o.classes),
              static_cast<long long>(o.columns), static_cast<long long>(o.batch), o.precision.c_str(),
              backend.device->description().c_str());
  const StepTimes step = time_steps(o, context);
  std::printf("step %.6f s (best %.6f), %.0f GFLOP/s counted as 8BCD\n", step.median, step.best,
              1e-9 * o.flop(step.active) / step.median);
  std::printf("the next step is ready after %.6f s more; first values took %.1f s\n", step.next, step.init);
  std::printf("peak memory of the process %s, first loss %.4f (expected %.4f)\n", human_bytes(host_peak()).c_str(),
              step.first_loss, step.expected);
  const Products products = best_products(o, backend, step.active);
  print(o, context, step, products, copy_rate(o, *backend.device));
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::HeadBench o;
  o.threads = plsc::available_cores();
  CLI::App app("Speed and memory of the margin head");
  app.option_defaults()->take_last();  // so that a script may add to a common part
  app.add_option("--device", o.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--classes", o.classes);
  app.add_option("--columns", o.columns);
  app.add_option("--batch", o.batch);
  app.add_option("--steps", o.steps, "timed steps, after two that are not")->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "on a CPU");
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
  app.add_option("--store", o.store, "of the class centres")->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--momentum", o.momentum, "of the class centres")->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--tier", o.tier, "whose memory these are in")->check(CLI::IsMember({"device", "host"}));
  app.add_option("--update", o.update, "of centres that are not sampled")->check(CLI::IsMember({"dense", "lazy"}));
  app.add_option("--ratio", o.ratio, "of the classes that a step samples; 1: all of them");
  app.add_option("--tiles", o.tiles, "rows of a tile, for the products alone: the best of these counts")->take_all();
  app.add_option("--head-tile", o.head_tile, "rows of the head's own tiles on a GPU; 0: as it chooses");
  CLI11_PARSE(app, argc, argv);
  try {
    plsc::run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_head: %s\n", e.what());
    return 1;
  }
  return 0;
}
