// Speed of a backbone: images a second of forward + backward + SGD on images made in memory. The same work in PyTorch:
// scripts/bench/backbone_pytorch.py.
//   bench_backbone --backbone iresnet18 --batch 32 --precision fp32 [--profile]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "base/threads.h"
#include "kernels/math/rng.h"
#include "nn/module.h"
#include "optim/grad_sync.h"
#include "optim/optimizer.h"
#include "scripts/bench/timed_ops.h"

namespace plsc {
namespace {

struct BenchOptions {
  std::string backbone = "iresnet18", precision = "fp32";
  int64_t batch = 32, channels = 3, size = 112, embedding_size = 512, steps = 8, warmup = 2;
  int threads = available_cores();
  bool profile = false, cpu_time = false;
};

BackboneConfig backbone_config(const std::string& name) {
  if (name != "omniglot") return named_backbone(name);
  BackboneConfig config;  // the network of configs/omniglot.yaml
  config.name.clear();
  config.stem = 32;
  config.widths = {32, 64, 128, 256};
  config.blocks = {1, 1, 1, 1};
  return config;
}

Tensor random_images(const BenchOptions& o) {
  Tensor x(host_allocator(), {o.batch, o.size, o.size, o.channels}, Dtype::f32);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const auto bits = math::random4(1, math::Draw::synthetic, 0, static_cast<uint64_t>(i));
    x.data<float>()[i] = 2 * math::to_unit_float(bits.x[0]) - 1;
  }
  return x;
}

void run(const BenchOptions& o) {
  auto alone = make_single_collective();
  Backend backend = make_cpu_backend(o.threads);
  OpTimes times;
  times.cpu_time = o.cpu_time;
  if (o.profile) time_ops(backend, times);
  Log log(0, LogLevel::warning);
  Context context{backend, *alone, *alone, log};
  context.activations = o.precision == "bf16" ? Dtype::bf16 : Dtype::f32;

  ModelConfig model;
  model.backbone = backbone_config(o.backbone);
  model.embedding_size = o.embedding_size;
  const auto network = make_backbone(context, model, {o.size, o.size}, o.channels);
  network->init(context);
  const auto params = network->params();
  GradSync sync(context, *network);
  const Optimizer optimizer(OptimizerConfig{});
  const Tensor images = random_images(o);
  Tensor dy(host_allocator(), {o.batch, o.embedding_size}, Dtype::f32);
  for (int64_t i = 0; i < dy.elements(); ++i) dy.data<float>()[i] = 1e-3f * std::cos(static_cast<float>(i));

  std::vector<double> seconds;
  for (int64_t step = 0; step < o.warmup + o.steps; ++step) {
    if (step == o.warmup) times.clear();
    const BenchWatch watch(o.cpu_time);
    const StepInfo info{step, 0, o.batch};
    begin_step(context.backend, {.step = step, .clip_norm = 5, .rule = optimizer.rule(1e-4)});
    zero_grad(params);
    network->forward(context, images, Mode::train, info);
    network->backward(context, dy);
    sync.run(context);
    optimizer.step(context, params);
    network->finish_step(context);
    if (step >= o.warmup) seconds.push_back(watch.seconds());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "%s, %s, batch %lld, %lldx%lldx%lld, %s, %d threads: %.1f images/s (median of %lld steps, %.1f ms; best %.1f)\n",
      network->description().c_str(), backend.device->description().c_str(), static_cast<long long>(o.batch),
      static_cast<long long>(o.size), static_cast<long long>(o.size), static_cast<long long>(o.channels),
      o.precision.c_str(), o.threads, static_cast<double>(o.batch) / median, static_cast<long long>(o.steps),
      median * 1e3, static_cast<double>(o.batch) / seconds.front());
  if (o.profile) times.print(static_cast<double>(o.steps));
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::BenchOptions o;
  CLI::App app("Images a second of a backbone's training step");
  app.add_option("--backbone", o.backbone, "a name, or omniglot for its small network");
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--batch", o.batch);
  app.add_option("--channels", o.channels);
  app.add_option("--size", o.size, "height and width of the images");
  app.add_option("--embedding-size", o.embedding_size);
  app.add_option("--steps", o.steps, "timed steps");
  app.add_option("--threads", o.threads);
  app.add_flag("--cpu-time", o.cpu_time, "CPU instead of wall seconds: for a busy machine, with --threads 1");
  app.add_flag("--profile", o.profile, "print where the time goes, op by op");
  CLI11_PARSE(app, argc, argv);
  try {
    plsc::run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_backbone: %s\n", e.what());
    return 1;
  }
  return 0;
}
