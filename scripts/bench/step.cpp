// Speed and memory of whole training steps, by the product's own parts (TrainingStep on the session that plsc-train
// makes), on images and labels made in memory: what plsc-train does but for its loader, log and checkpoints. One JSON
// line. The same work in PyTorch: scripts/bench/step_pytorch.py.
//   bench_step --device cuda --backbone iresnet50 --batch 128 --precision bf16 --classes 1000000
//   mpirun -np 2 bench_step ... -o comm.backend=mpi        # on several ranks
//   bench_step --probe                                     # the GPUs that CUDA finds, as JSON; no step
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/build.h"
#include "app/version.h"
#include "app/world.h"
#include "base/error.h"
#include "base/threads.h"
#include "kernels/math/rng.h"
#include "optim/optimizer.h"
#include "scripts/bench/marking_ops.h"
#include "train/training_step.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

struct StepBench {
  std::string device = "auto", backbone = "iresnet50", precision = "bf16", store = "fp32", update = "dense";
  int64_t image = 112, channels = 3, embedding_size = 512, batch = 128, classes = 1000000, steps = 20, warmup = 6;
  double ratio = 1;  // of classes that a step samples; 1: full softmax
  int graphs = 1;
  std::vector<std::string> overrides;
  bool probe = false;
};

/// The name of the mark that begins a step.
constexpr const char* kBegin = "begin";

/// A phase of TrainingStep as the mark that it makes; null: none, because an op marks it more closely.
const char* mark_of(const std::string& phase) {
  if (phase == "sample classes") return kBegin;
  if (phase == "head") return kRestOfHead;
  if (phase == "backward") return "backbone backward, all-reduce";
  if (phase == "update") return "optimizer";
  return nullptr;
}

/// The named networks, and two small ones: configs/omniglot.yaml's, and one for a test of this program.
std::string backbone_value(const std::string& name) {
  if (name == "omniglot") return "{kind: iresnet, stem: 32, widths: [32, 64, 128, 256], blocks: [1, 1, 1, 1]}";
  if (name == "tiny") return "{kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}";
  return name;
}

Config make_config(const StepBench& o) {
  std::vector<std::string> values{
      "device=" + o.device,
      "data.train=synthetic",
      fmt::format("data.image_size={}", o.image),
      fmt::format("data.channels={}", o.channels),
      "model.backbone=" + backbone_value(o.backbone),
      fmt::format("model.embedding_size={}", o.embedding_size),
      fmt::format("head.classes={}", o.classes),
      fmt::format("head.store={{dtype: {}}}", o.store),
      "head.update=" + o.update,
      "train.precision=" + o.precision,
      fmt::format("train.batch_size={}", o.batch),
      std::string("train.graphs=") + (o.graphs != 0 ? "auto" : "false"),
  };
  if (o.ratio < 1) values.push_back(fmt::format("head.sampling={{method: uniform, ratio: {}}}", o.ratio));
  values.insert(values.end(), o.overrides.begin(), o.overrides.end());
  return parse_config("{}", "bench_step", values).config;
}

/// The most memory that this process ever held, in bytes.
int64_t host_peak() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::stoll(line.substr(6));
  }
  return 0;
}

/// This rank's slices of a few batches that take turns.
std::vector<Batch> make_batches(const Config& config, int64_t classes, const Context& context) {
  constexpr int64_t kBatches = 4;
  const int64_t all = config.train.batch_size, begin = range_begin(all, context.ranks(), context.rank()),
                end = range_begin(all, context.ranks(), context.rank() + 1);
  std::vector<Batch> batches;
  for (int64_t b = 0; b < kBatches; ++b) {
    Batch batch;
    batch.first_sample = begin;
    batch.bytes =
        Tensor(host_allocator(),
               {end - begin, config.data.image_size[0], config.data.image_size[1], config.data.channels}, Dtype::u8);
    auto* bytes = batch.bytes.data<uint8_t>();
    const auto stream = static_cast<uint64_t>(b * context.ranks() + context.rank());
    for (int64_t i = 0; i < batch.bytes.elements(); i += 16) {
      const math::Random4 r = math::random4(1, math::Draw::synthetic, stream, static_cast<uint64_t>(i));
      std::memcpy(bytes + i, r.x, static_cast<size_t>(std::min<int64_t>(16, batch.bytes.elements() - i)));
    }
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t draw =
          math::random64(2, math::Draw::synthetic, static_cast<uint64_t>(b), static_cast<uint64_t>(i));
      batch.labels.push_back(static_cast<int64_t>(draw % static_cast<uint64_t>(classes)));
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

struct Measured {
  StepMarks marks;
  int64_t device_used = 0;  // the most that was seen, of all processes on the device
  double first_loss = 0, last_loss = 0;
  int64_t skipped = 0;
};

/// The parts of a run, trained for some steps as the trainer does it: the next step is prepared while one is under way.
Measured run_steps(const StepBench& o, const Config& config, Context& context, MarginHead& head, Backbone& backbone,
                   Timeline& line) {
  Measured out;
  bool measuring = false;
  TrainingStep one(context, config, backbone, head, [&](const StepPhase& phase) {
    const char* name = mark_of(phase.name);
    if (measuring && name != nullptr) line.mark(name);
  });
  const std::vector<Batch> batches = make_batches(config, o.classes, context);
  const auto prepare = [&](int64_t step) {
    one.prepare(step, config.train.batch_size, {batches[static_cast<size_t>(step) % batches.size()]});
  };
  const auto take = [&] {
    const StepRecord record = one.take();
    if (record.step == 1) out.first_loss = record.loss;
    out.last_loss = record.loss;
    out.skipped += record.skipped ? 1 : 0;
  };
  // One step more than is counted: its beginning ends the last one.
  const int64_t all = o.warmup + o.steps + 1;
  prepare(0);
  for (int64_t step = 0; step < all; ++step) {
    if (step == o.warmup) {
      line.read();  // the marks of ops before now
      measuring = true;
    }
    one.run(1e-3);
    line.mark("between steps");
    if (step + 1 < all) prepare(step + 1);
    while (one.under_way() > (context.device().is_host() ? 0U : 1U)) take();
    out.device_used = std::max(out.device_used, device_bytes_used(context.device()));
  }
  while (one.under_way() > 0) take();
  out.marks = split_steps(line.read(), kBegin);
  return out;
}

Json to_json(const StepBench& o, const Config& config, const Session& session, const World& world, const Measured& m) {
  const auto rate = [&](double seconds) { return static_cast<double>(config.train.batch_size) / seconds; };
  const auto [least, most] = std::minmax_element(m.marks.seconds.begin(), m.marks.seconds.end());
  const DeviceMemory memory = session.context.device().memory();
  Json phases;
  for (const auto& [name, seconds] : m.marks.phase_seconds)
    phases[name == kBegin ? "sample classes" : name] = 1e3 * seconds;
  return {
      {"bench", "step"},
      {"program", "plsc-train"},
      {"versions", versions_text(session, world)},
      {"device", session.context.device().description()},
      {"backbone", o.backbone},
      {"image", o.image},
      {"batch", config.train.batch_size},
      {"ranks", world.size()},
      {"precision", session.machine.arithmetic.precision},
      {"classes", o.classes},
      {"embedding", o.embedding_size},
      {"ratio", o.ratio},
      {"store", o.store},
      {"update", o.update},
      {"graphs", o.graphs != 0 && session.context.device().can_record()},
      {"steps", o.steps},
      {"images_per_s", rate(median(m.marks.seconds))},
      {"images_per_s_lowest", rate(*most)},
      {"images_per_s_highest", rate(*least)},
      {"step_ms", 1e3 * median(m.marks.seconds)},
      {"phases_ms", phases},
      {"device_memory_used", m.device_used},
      {"device_memory_peak", memory.peak},
      {"device_memory_reserved", memory.reserved},
      {"host_memory_peak", host_peak()},
      {"first_loss", m.first_loss},
      {"last_loss", m.last_loss},
      {"skipped_steps", m.skipped},
  };
}

int run(const StepBench& o, World& world) {
  const Config config = make_config(o);
  Session session(config, world);
  Context& context = session.context;
  const auto line = make_timeline(context.device());
  mark_ops(context.backend, *line);
  if (context.loss_scaling) set_loss_scale(context.backend, {math::kFirstLossScale, 0});
  const auto backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
  const auto head =
      make_margin_head(context, config.head, o.classes, backbone->embedding_size(), head_update(config.optimizer));
  backbone->init(context);
  head->init();
  const Measured measured = run_steps(o, config, context, *head, *backbone, *line);
  if (world.rank() == 0) std::printf("%s\n", to_json(o, config, session, world, measured).dump().c_str());
  std::fflush(stdout);
  return 0;
}

int print_probe() {
  const CudaProbe probe = probe_cuda();
  Json gpus = Json::array();
  for (const CudaProbe::Gpu& gpu : probe.gpus)
    gpus.push_back({{"name", gpu.name}, {"capability", gpu.capability}, {"memory", gpu.memory}});
  const Json all{{"program", fmt::format("plsc-train {}", kVersion)},
                 {"built", probe.built},
                 {"gpus", gpus},
                 {"problem", probe.problem}};
  std::printf("%s\n", all.dump().c_str());
  return 0;
}

void add_options(CLI::App& app, StepBench& o) {
  app.option_defaults()->take_last();  // so that a script may add to a common part
  app.add_flag("--probe", o.probe, "print the GPUs that CUDA finds, and end");
  app.add_option("--device", o.device)->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--backbone", o.backbone, "iresnet18.., resnet18.., omniglot or tiny");
  app.add_option("--image", o.image, "height and width of the images");
  app.add_option("--channels", o.channels);
  app.add_option("--batch", o.batch, "over all ranks");
  app.add_option("--precision", o.precision)->check(CLI::IsMember({"fp32", "tf32", "bf16", "fp16"}));
  app.add_option("--classes", o.classes);
  app.add_option("--embedding-size", o.embedding_size);
  app.add_option("--ratio", o.ratio, "of the classes that a step samples; 1: all of them");
  app.add_option("--store", o.store, "of the class centres")->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--update", o.update, "of centres that are not sampled")->check(CLI::IsMember({"dense", "lazy"}));
  app.add_option("--steps", o.steps, "that are timed")->check(CLI::PositiveNumber);
  app.add_option("--warmup", o.warmup, "steps before them: algorithms are chosen and a step is recorded");
  app.add_option("--graphs", o.graphs, "0: a GPU is given each step call by call");
  app.add_option("-o", o.overrides, "key=value of a configuration, as plsc-train takes it")->take_all();
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  plsc::StepBench o;
  CLI::App app("Speed and memory of whole training steps on data made in memory");
  plsc::add_options(app, o);
  CLI11_PARSE(app, argc, argv);
  if (o.probe) return plsc::print_probe();
  return plsc::run_in_world({}, [&](plsc::World& world) { return plsc::run(o, world); });
}
