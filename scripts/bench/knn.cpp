// Speed of the class graph: the K nearest of all class centres, on random rows, beside the matrix products that it
// cannot do without (2 C^2 D FLOP), measured in the same process before and after it. The last line is JSON.
//   bench_knn --classes 300000 --columns 128 --neighbours 100 --scoring fp32
//   bench_knn --device cuda --classes 1000000 --columns 512 --scoring bf16
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/tensor_rows.h"
#include "base/clock.h"
#include "base/threads.h"
#include "head/neighbour_graph.h"
#include "runtime/staged_collective.h"
#include "scripts/bench/knn_bench.h"

namespace plsc {
namespace {

double product_rate(const KnnBench& o, Backend& backend) {
  return o.on_gpu() ? cuda_product_rate(backend, o) : cpu_product_rate(o);
}

void run(const KnnBench& o) {
  auto alone = make_single_collective();
  Backend backend = o.on_gpu() ? make_cuda_backend({}) : make_cpu_backend(o.threads);
  const auto tensors = o.on_gpu() ? make_device_single_collective(*backend.device) : nullptr;
  Log log(0);
  Context context{backend, tensors ? *tensors : *alone, *alone, log};
  Device& device = *backend.device;
  std::printf("%lld classes x %lld, %lld neighbours, scores in %s, on %s\n", static_cast<long long>(o.classes),
              static_cast<long long>(o.columns), static_cast<long long>(o.neighbours), o.scoring.c_str(),
              device.description().c_str());
  Tensor centers = device.tensor({o.classes, o.columns});
  backend.head->init_rows(centers, {.seed = 5});
  TensorRows rows(centers);
  const ClassShard shard = class_shard(o.classes, 1, 0);
  const GraphSpec spec{o.neighbours, o.compute()};

  const double before = product_rate(o, backend);
  const auto held = static_cast<int64_t>(device.memory().in_use);
  const Stopwatch watch;
  build_graph(context, rows, shard, spec);
  const double seconds = watch.seconds();
  const auto taken = static_cast<int64_t>(device.memory().peak) - held;
  const double products = std::max(before, product_rate(o, backend));

  const double flop = 2.0 * static_cast<double>(o.classes) * static_cast<double>(o.classes * o.columns);
  const double rate = flop / seconds;
  std::printf("graph %.2f s, %.0f GFLOP/s counted as 2 C^2 D; products alone %.0f GFLOP/s: %.1f %% of that\n", seconds,
              1e-9 * rate, 1e-9 * products, 100 * rate / products);
  const nlohmann::ordered_json line{
      {"bench", "knn"},
      {"device", device.description()},
      {"classes", o.classes},
      {"columns", o.columns},
      {"neighbours", o.neighbours},
      {"scoring", o.scoring},
      {"seconds", seconds},
      {"gflop_per_s", 1e-9 * rate},
      {"products_gflop_per_s", 1e-9 * products},
      {"fraction", rate / products},
      {"device_memory_taken", taken},
      {"device_memory_bound", graph_memory(context, shard, o.columns, spec).device},
  };
  std::printf("%s\n", line.dump().c_str());
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::KnnBench o;
  o.threads = plsc::available_cores();
  CLI::App app("Speed of the graph of nearest classes");
  app.option_defaults()->take_last();
  app.add_option("--device", o.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--classes", o.classes)->check(CLI::PositiveNumber);
  app.add_option("--columns", o.columns)->check(CLI::PositiveNumber);
  app.add_option("--neighbours", o.neighbours)->check(CLI::Range(int64_t{1}, plsc::SamplingConfig::kMostNeighbours));
  app.add_option("--scoring", o.scoring)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--threads", o.threads, "on a CPU");
  CLI11_PARSE(app, argc, argv);
  try {
    plsc::run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_knn: %s\n", e.what());
    return 1;
  }
  return 0;
}
