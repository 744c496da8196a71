#include "app/plan/dry_run.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "app/build.h"
#include "backend/dry/dry_backend.h"
#include "base/error.h"
#include "comm/dry_collective.h"
#include "data/batch_plan.h"
#include "head/class_graph.h"
#include "head/class_sampler.h"
#include "train/training_step.h"

namespace plsc::plan {
namespace {

// What a process takes beside its tensors: the program with its libraries (where the process that plans does not know
// its own), code that they make at run time, stacks of threads. Resident, as seen with oneDNN 2.6 and Open MPI 4.1; of
// CUDA's context an assumption.
constexpr double kProgram = 60 << 20, kAtRunTime = 10 << 20, kMpi = 10 << 20, kGpuContext = 500 << 20;
constexpr double kValue = 4;    // bytes of an fp32 value
constexpr double kBatches = 3;  // that the loader holds: one in use, and those that it is ahead

double number(int64_t n) { return static_cast<double>(n); }

double sum_of(const std::vector<Purpose>& purposes) {
  double sum = 0;
  for (const Purpose& p : purposes) sum += p.bytes;
  return sum;
}

/// Rows of a rank that a sampled step takes: the chosen share of them, and no fewer than its part of the positives.
int64_t active_rows(const Setup& setup, int64_t images_of_rank, int64_t rows) {
  const double share = active_part(setup.config.head.sampling, setup.classes) * number(rows);
  return std::min(rows, std::max(static_cast<int64_t>(std::llround(share)), images_of_rank));
}

/// A training without a machine: what app/build.h puts together for a real one.
class DryTraining {
 public:
  explicit DryTraining(const Setup& setup)
      : setup_(setup),
        slices_(
            plan_slices(decide_global_batch(setup.config, setup.ranks), setup.config.train.accumulate, 0, setup.ranks)),
        log_(1),
        backend_(make_dry_backend({setup.device,
                                   setup.threads,
                                   {},
                                   [this](const SampleRows& s) { return active_rows(setup_, images(), s.classes); }},
                                  tally_)),
        tensors_(make_dry_collective({setup.ranks, true, [this](double bytes) { tally_.send(bytes); },
                                      [this](double bytes) { note_buffers(bytes); }})),
        host_(make_dry_collective({setup.ranks, false, {}, {}})),
        context_{backend_,
                 *tensors_,
                 *host_,
                 log_,
                 setup.arithmetic.activations,
                 setup.config.seed,
                 setup.arithmetic.sums_in_double,
                 setup.arithmetic.loss_scaling},
        backbone_(
            make_backbone(context_, setup.config.model, setup.config.data.image_size, setup.config.data.channels)) {
    backbone_->freeze(setup.config.init.freeze);
    backbone_->require_batch(
        context_, decide_global_batch(setup.config, setup.ranks) / setup.config.train.accumulate / setup.ranks);
    head_ = make_margin_head(context_, setup.config.head, setup.classes, backbone_->embedding_size());
    head_->init();
  }

  DryRun run() {
    TrainingStep step(context_, setup_.config, *backbone_, *head_,
                      [this](int64_t, const char* name) { tally_.begin(name); });
    for (int64_t s = 0; s < kSteps; ++s) {
      tally_.clear();
      step.prepare(s, decide_global_batch(setup_.config, setup_.ranks), batches());
      step.run(0.1);
    }
    DryRun out;
    out.rows = head_->shard().size();
    out.images = images();
    out.active = setup_.config.head.sampling.method == "full" ? out.rows : active_rows(setup_, out.images, out.rows);
    out.phases = tally_.phases();
    if (ClassGraph* graph = head_->graph()) add_graph(out, graph->spec());
    add_memory(out);
    return out;
  }

 private:
  static constexpr int64_t kSteps = 2;  // momentum is made in the first

  int64_t images() const {
    int64_t sum = 0;
    for (const BatchSlice& slice : slices_) sum += slice.count;
    return sum;
  }
  void note_buffers(double bytes) {
    buffers_ += bytes;
    most_buffers_ = std::max(most_buffers_, buffers_);
  }
  double image_bytes() const {
    const DataConfig& data = setup_.config.data;
    return number(data.image_size[0] * data.image_size[1] * data.channels);
  }

  double program_bytes() const {
    const double program = (setup_.program > 0 ? number(setup_.program) : kProgram) + kAtRunTime;
    if (setup_.running) return program;
    return program + (setup_.ranks > 1 ? kMpi : 0) + (setup_.device == DeviceKind::cuda ? kGpuContext : 0);
  }

  /// Without pixels. The labels are the rank's own first classes.
  std::vector<Batch> batches() {
    const DataConfig& data = setup_.config.data;
    std::vector<Batch> out;
    for (const BatchSlice& slice : slices_) {
      Batch batch;
      batch.bytes = Tensor(nowhere_, {slice.count, data.image_size[0], data.image_size[1], data.channels}, Dtype::u8);
      batch.flip = Tensor(nowhere_, {slice.count}, Dtype::u8);
      for (int64_t i = 0; i < slice.count; ++i) batch.labels.push_back((slice.first + i) % setup_.classes);
      batch.first_sample = slice.first;
      out.push_back(std::move(batch));
    }
    return out;
  }

  /// The search is left off after its first block, when it has all of its memory; its work follows from the sizes.
  void add_graph(DryRun& out, const GraphSpec& spec) {
    const ClassShard shard = head_->shard();
    const int64_t columns = head_->row_columns();
    graph_memory_ = graph_memory(context_, shard, columns, spec);
    backend_.device->trim();  // as train/graph_keeper.cpp does
    head_->build_graph(context_, kSteps, [] { return true; });
    const double rows = number(shard.size()), all = number(shard.total) * number(columns);
    // Each block of own rows meets all classes.
    const double rounds = std::ceil(rows / number(NeighbourRounds::block_rows(columns)));
    const double others = 1 - 1 / number(setup_.ranks);
    out.graph = DryPhase{"class graph",
                         {{.flop = 2 * rows * all, .bytes = rounds * all * kValue, .type = spec.scores},
                          {.bytes = rounds * all * kValue}},
                         setup_.ranks == 1 ? 0 : 2 * others * all * kValue,
                         0};
  }

  void add_memory(DryRun& out) {
    double weights = 0, gradients = 0, momentum = 0, places = 0;
    for (const Param* p : backbone_->params()) {
      weights += number(static_cast<int64_t>(p->value.bytes()));
      if (p->kind != ParamKind::buffer) out.parameters += p->value.elements();
      if (p->grad.defined()) gradients += number(static_cast<int64_t>(p->grad.bytes()));
      // Of each element of a convolution's weights, where oneDNN has it: see backend/cpu/conv_weight_sums.h.
      if (p->grad.defined() && p->grad.dtype() == Dtype::f64 && p->value.shape().size() == 4)
        places += number(p->value.elements() * static_cast<int64_t>(sizeof(int64_t)));
      if (p->momentum.defined()) momentum += number(static_cast<int64_t>(p->momentum.bytes()));
    }
    const auto& device = static_cast<const DryDevice&>(*backend_.device);
    // Each in the memory that it was taken of: of tier host, tables that are the host's whatever the device.
    std::map<std::string, double> stored, of_host;
    for (const HeadRows& rows : head_->state()) {
      auto& side = device.is_table(rows.rows.raw()) ? of_host : stored;
      side[rows.name] = number(static_cast<int64_t>(rows.rows.bytes()));
    }
    const auto use = [&](MemoryUse u) { return static_cast<double>(device.peak_by_use()[static_cast<size_t>(u)]); };
    const auto memory = device.memory();
    out.device = {{"weights", weights},
                  {"gradients", gradients},
                  {"momentum", momentum},
                  {"class centres", stored["centers"]},
                  {"their momentum", stored["momentum"]},
                  {"their last updates", stored["last_update"]},
                  {"activations", use(MemoryUse::activations)},
                  {"head's tiles", use(MemoryUse::head)},
                  {"workspaces", use(MemoryUse::workspace)}};
    // Weights of a CPU's network are plain host memory, which the device does not count.
    const double apart = backend_.device->is_host() ? weights : 0;
    double at_peak = apart;
    for (const size_t bytes : device.peak_by_use()) at_peak += static_cast<double>(bytes);
    out.device.push_back({"other", std::max(0.0, at_peak - sum_of(out.device))});
    out.kept = std::max(0.0, static_cast<double>(device.resident()) + apart - sum_of(out.device));
    out.counted = static_cast<double>(memory.most);
    out.host = {{"class centres", of_host["centers"]},
                {"their momentum", of_host["momentum"]},
                {"class graph", number(graph_memory_.kept + graph_memory_.host)},
                {"program and libraries", program_bytes()},
                {"buffers of collectives", setup_.device == DeviceKind::cpu ? most_buffers_ : 0},
                {"tables of exact sums", places},
                {"images on their way", kBatches * number(out.images) * image_bytes()}};
  }

  const Setup& setup_;
  std::vector<BatchSlice> slices_;
  DryTally tally_;
  GraphMemory graph_memory_;
  double buffers_ = 0, most_buffers_ = 0;  // of collectives that are under way
  Log log_;
  DryDevice nowhere_{DeviceKind::cpu, 1};
  Backend backend_;
  std::unique_ptr<Collective> tensors_, host_;
  Context context_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<MarginHead> head_;
};

/// The images of a pass that a plan goes through with: what comes of one image is listed for each, and vendors' code is
/// not made for more than there is memory for. Beyond, everything grows along a line.
constexpr int64_t kMostImages = 4096;

struct Counted {
  int64_t images = 0;  // of a pass
  DryRun run;
};

DryRun counted_with(const Setup& setup, int64_t images) {
  Setup less = setup;
  less.config.train.batch_per_rank = images * setup.config.train.accumulate;
  return DryTraining(less).run();
}

/// What two numbers of images say of a third.
DryRun on_line(const Counted& few, const Counted& more, double images) {
  const double t = (images - number(few.images)) / number(more.images - few.images);
  const auto extend = [&](double& of_more, double of_few) { of_more = std::max(0.0, of_few + t * (of_more - of_few)); };
  const auto extend_all = [&](std::vector<Purpose>& of_more, const std::vector<Purpose>& of_few) {
    for (size_t i = 0; i < of_more.size(); ++i) extend(of_more[i].bytes, of_few[i].bytes);
  };
  DryRun run = more.run;
  extend_all(run.device, few.run.device);
  extend_all(run.host, few.run.host);
  extend(run.kept, few.run.kept);
  extend(run.counted, few.run.counted);
  PLSC_CHECK(run.phases.size() == few.run.phases.size());
  for (size_t p = 0; p < run.phases.size(); ++p) {
    DryPhase& phase = run.phases[p];
    const DryPhase& of_few = few.run.phases[p];
    PLSC_CHECK(phase.work.size() == of_few.work.size());
    extend(phase.wire, of_few.wire);
    for (size_t w = 0; w < phase.work.size(); ++w) {
      extend(phase.work[w].flop, of_few.work[w].flop);
      extend(phase.work[w].bytes, of_few.work[w].bytes);
      extend(phase.work[w].far, of_few.work[w].far);
      extend(phase.work[w].beside, of_few.work[w].beside);
    }
  }
  return run;
}

}  // namespace

double DryRun::device_bytes() const { return sum_of(device) + kept; }
double DryRun::host_bytes() const { return sum_of(host); }
double DryRun::of(const std::string& purpose) const {
  double sum = 0;
  for (const auto* side : {&device, &host}) {
    for (const Purpose& p : *side) sum += p.name == purpose ? p.bytes : 0;
  }
  return sum;
}

int64_t most_classes(const Setup& setup) {
  // Of a rank, and of all: the bytes of a rank's rows, and the classes of all ranks, are sure to be an int64_t.
  constexpr int64_t kMost = int64_t{1} << 44, kMostOfAll = int64_t{1} << 62;
  const int64_t most = setup.ranks * std::min(kMost, kMostOfAll / setup.ranks);
  return setup.config.head.sampling.method == "knn" ? std::min(most, kMostGraphClasses) : most;
}

DryRun dry_run(const Setup& setup) {
  if (const int64_t most = most_classes(setup); setup.classes > most) {
    fail_hint("plan fewer classes, or more ranks, or head.sampling: {method: full}",
              "{} classes on {} rank(s) with head.sampling.method {}: a plan counts up to {}", setup.classes,
              setup.ranks, setup.config.head.sampling.method, most);
  }
  const int64_t passes = setup.ranks * setup.config.train.accumulate;
  const double images = number(decide_global_batch(setup.config, setup.ranks)) / number(passes);
  if (images <= number(kMostImages)) return DryTraining(setup).run();
  DryRun run = on_line({kMostImages / 2, counted_with(setup, kMostImages / 2)},
                       {kMostImages, counted_with(setup, kMostImages)}, images);
  run.images = std::llround(images * number(setup.config.train.accumulate));
  return run;
}

}  // namespace plsc::plan
