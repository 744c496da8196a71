#include "app/plan/dry_run.h"

#include <algorithm>
#include <cmath>

#include "app/build.h"
#include "app/plan/graph_work.h"
#include "app/plan/on_line.h"
#include "backend/dry/counting.h"
#include "backend/dry/dry_backend.h"
#include "base/error.h"
#include "comm/dry_collective.h"
#include "config/step_map.h"
#include "data/batch_plan.h"
#include "head/class_graph.h"
#include "head/class_sampler.h"
#include "optim/optimizer.h"
#include "train/training_step.h"

namespace plsc::plan {

using counting::number;

namespace {

// What a process takes beside its tensors: the program with its libraries (where the process that plans does not know
// its own), code that they make at run time, stacks of threads. Resident, as seen with oneDNN 2.6 and Open MPI 4.1; of
// CUDA's context an assumption.
constexpr double kProgram = 60 << 20, kAtRunTime = 10 << 20, kMpi = 10 << 20, kGpuContext = 500 << 20;
constexpr double kBatches = 3;  // that the loader holds: one in use, and those that it is ahead

double sum_of(const std::vector<Purpose>& purposes) {
  double sum = 0;
  for (const Purpose& p : purposes) sum += p.bytes;
  return sum;
}

/// This rank's part of each micro-batch of a step.
std::vector<BatchSlice> slices_of(const Setup& setup) {
  return plan_slices(decide_global_batch(setup.config, setup.ranks), setup.config.train.micro_batches(), 0,
                     setup.ranks);
}

int64_t images_of(const std::vector<BatchSlice>& slices) {
  int64_t sum = 0;
  for (const BatchSlice& slice : slices) sum += slice.count;
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
  /// `images`: of the rank, a step, as they decide how many rows are active, where the setup has fewer for a while.
  DryTraining(const Setup& setup, int64_t images)
      : setup_(setup),
        images_(images),
        slices_(slices_of(setup)),
        log_(1),
        backend_(make_dry_backend({setup.device, setup.threads, setup.gpu,
                                   [this](const SampleRows& s) { return active_rows(setup_, images_, s.classes); }},
                                  tally_)),
        tensors_(make_dry_collective({setup.ranks, true, [this](const DryTraffic& t) { return start(t); },
                                      [this](int64_t started) { tally_.wait(started); },
                                      [this](double bytes) { note_buffers(bytes); },
                                      [this](double bytes) { note_room(bytes); },
                                      setup.device == DeviceKind::cpu || setup.config.comm.backend == "mpi"})),
        host_(make_dry_collective({setup.ranks, false, {}, {}, {}})),
        tape_(backend_.device->can_record() ? std::make_unique<Tape>(*backend_.device, *tensors_) : nullptr),
        context_{backend_,
                 tape_ ? static_cast<Collective&>(*tape_) : *tensors_,
                 *host_,
                 log_,
                 setup.arithmetic.activations,
                 setup.config.seed,
                 setup.arithmetic.sums_in_double,
                 setup.arithmetic.loss_scaling,
                 tape_.get()},
        norms_(group_of_norms()),
        node_(group_of_node()),
        backbone_(
            make_backbone(context_, setup.config.model, setup.config.data.image_size, setup.config.data.channels)) {
    context_.norm_group = norms_.get();
    context_.node_group = node_.get();
    backbone_->freeze(setup.config.init.freeze);
    backbone_->require_batch(
        context_, decide_global_batch(setup.config, setup.ranks) / setup.config.train.micro_batches() / setup.ranks);
    head_ = make_margin_head(context_, setup.config.head, setup.classes, backbone_->embedding_size(),
                             head_update(setup.config.optimizer));
    compress_gradients(context_, backbone_->params(), setup.config.comm.compress);
    head_->init();
  }

  DryRun run() {
    TrainingStep step(context_, setup_.config, *backbone_, *head_,
                      [this](const StepPhase& phase) { begin(phase.name); });
    // Compressed gradients take most memory in the first epoch, when most of them is sent; a step is one of the rest.
    const CompressConfig& compress = setup_.config.comm.compress;
    const bool warms_up = compress.on() && compress.warmup_epochs > 0;
    for (int64_t s = 0; s < (warms_up ? 2 : 1) * steps(); ++s) {
      tally_.clear();
      if (warms_up) step.set_epoch(s < steps() ? 0 : compress.warmup_epochs);
      step.prepare(s, decide_global_batch(setup_.config, setup_.ranks), batches());
      step.run(0.1);
      begin("between steps");
    }
    DryRun out;
    if (warms_up) out.warm_up = compress.warmup_epochs;
    out.rows = head_->shard().size();
    out.images = images_of(slices_);
    out.active = setup_.config.head.sampling.method == "full" ? out.rows : active_rows(setup_, images_, out.rows);
    DryCounts counts = tally_.counts();
    out.phases = std::move(counts.phases);
    out.moments = std::move(counts.moments);
    if (ClassGraph* graph = head_->graph()) add_graph(out, graph->spec());
    add_memory(out);
    return out;
  }

 private:
  /// As app/build.h makes it.
  std::unique_ptr<Collective> group_of_norms() {
    const int group = norm_group_size(setup_.config, setup_.ranks);
    return group > 0 ? context_.comm.split(group, *host_) : nullptr;
  }
  std::unique_ptr<Collective> group_of_node() {
    const int size = node_size(setup_.config, setup_.ranks, setup_.ranks_per_host);
    return size > 1 ? context_.comm.split(size, *host_) : nullptr;
  }
  /// Momentum is made in the first. A recording takes memory of its own, and ops are asked for the last time in it.
  int64_t steps() const {
    const bool records = tape_ != nullptr && setup_.config.train.graphs != "false";
    return NetworkRunner::kPlainSteps + (records ? 1 : 0);
  }
  /// `doing` is what has been done since the last time.
  void note_peak(const std::string& doing) {
    if (const size_t peak = device().memory().peak; peak > peak_) {
      peak_ = peak;
      moment_ = doing;
    }
  }
  void begin(const char* phase) {
    note_peak(phase_);
    phase_ = phase;
    tally_.begin(phase);
  }
  int64_t start(const DryTraffic& t) { return tally_.start({t.bytes, t.passes, t.sent(), t.ranks, t.messages()}); }
  void note_buffers(double bytes) {
    buffers_ += bytes;
    most_buffers_ = std::max(most_buffers_, buffers_);
  }
  /// Of NCCL's: where a larger one is needed, smaller ones stay beside it.
  void note_room(double bytes) {
    if (bytes <= largest_room_) return;
    largest_room_ = bytes;
    rooms_ += bytes;
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
    head_->build_graph(context_, steps(), [] { return true; });
    note_peak("building the class graph");
    GraphRows rows{shard, columns, setup_.ranks, spec.scores, 0, false};
    const auto stored = stored_rows();
    for (const StoredRows& part : stored) {
      const bool lags = std::ranges::any_of(stored, [](const StoredRows& r) { return r.name == "last_update"; });
      if (part.name == "centers" || (part.name == "momentum" && lags)) rows.element += part.element;
      rows.far = rows.far || (part.on_host && !backend_.device->is_host());
    }
    out.graph = graph_work(rows);
  }

  const DryDevice& device() const { return static_cast<const DryDevice&>(*backend_.device); }

  /// One of the head's tables.
  struct StoredRows {
    std::string name;  // HeadRows::name
    double bytes = 0;
    double element = 0;    // bytes of one
    bool on_host = false;  // of tier host: tables that are the host's whatever the device
  };
  std::vector<StoredRows> stored_rows() const {
    std::vector<StoredRows> out;
    for (const HeadRows& rows : head_->state()) {
      out.push_back({rows.name, counting::bytes_of(rows.rows),
                     number(static_cast<int64_t>(dtype_size(rows.rows.dtype()))), device().is_table(rows.rows.raw())});
    }
    return out;
  }
  /// Of one table, in the memory that it was taken of; 0 where it is not there.
  double stored(const std::string& name, bool on_host) const {
    double bytes = 0;
    for (const StoredRows& rows : stored_rows()) bytes += rows.name == name && rows.on_host == on_host ? rows.bytes : 0;
    return bytes;
  }

  /// What the network's parameters take.
  struct OfParams {
    int64_t count = 0;
    double weights = 0, gradients = 0;
    double momentum = 0;  // both moments, where there are two
    double own = 0;       // of it, what this rank alone has
    double averages = 0;
    double places = 0;  // tables of exact sums, on the host
  };
  OfParams of_params() const {
    OfParams sum;
    for (const Param* p : backbone_->params()) {
      sum.weights += counting::bytes_of(p->value);
      if (p->kind != ParamKind::buffer) sum.count += p->value.elements();
      if (p->grad.defined()) sum.gradients += counting::bytes_of(p->grad);
      // Of each element of a convolution's weights, where oneDNN has it: see backend/cpu/conv_weight_sums.h.
      if (p->grad.defined() && p->grad.dtype() == Dtype::f64 && p->value.shape().size() == 4)
        sum.places += number(p->value.elements() * static_cast<int64_t>(sizeof(int64_t)));
      if (p->momentum.defined()) sum.momentum += counting::bytes_of(p->momentum);
      if (p->average.defined()) sum.averages += counting::bytes_of(p->average);
      if (p->unsent.defined()) {
        sum.momentum += counting::bytes_of(p->unsent);
        sum.own += counting::bytes_of(p->unsent) + counting::bytes_of(p->momentum);
      }
      if (p->squares.defined()) sum.momentum += counting::bytes_of(p->squares);
    }
    return sum;
  }

  void add_memory(DryRun& out) {
    const OfParams params = of_params();
    out.parameters = params.count;
    out.own_momentum = params.own;
    out.moment = moment_;
    add_device_memory(out, params);
    out.host = {{purpose::kCentres, stored("centers", true)},
                {purpose::kTheirMomentum, stored("momentum", true)},
                {"class graph", number(graph_memory_.kept + graph_memory_.host)},
                {"program and libraries", program_bytes()},
                {"buffers of collectives", setup_.device == DeviceKind::cpu ? most_buffers_ : 0},
                {"tables of exact sums", params.places},
                {"images on their way", kBatches * number(out.images) * image_bytes()}};
  }

  void add_device_memory(DryRun& out, const OfParams& params) {
    const BytesByUse& at_peak = device().peak_by_use();
    const auto use = [&](MemoryUse u) { return static_cast<double>(at_peak[static_cast<size_t>(u)]); };
    out.device = {{purpose::kWeights, params.weights},
                  {"gradients", params.gradients},
                  {purpose::kMomentum, params.momentum},
                  {purpose::kAverages, params.averages},
                  {purpose::kCentres, stored("centers", false)},
                  {purpose::kTheirMomentum, stored("momentum", false)},
                  {purpose::kTheirSecondMoments, stored("second_moment", false)},
                  {purpose::kTheirLastUpdates, stored("last_update", false)},
                  {purpose::kActivations, use(MemoryUse::activations)},
                  {"head's tiles", use(MemoryUse::head)},
                  {purpose::kWorkspaces, use(MemoryUse::workspace)}};
    // Weights of a CPU's network are plain host memory, which the device does not count.
    const double apart = device().is_host() ? params.weights : 0;
    double all = apart;
    for (const size_t bytes : at_peak) all += static_cast<double>(bytes);
    out.device.push_back({"other", std::max(0.0, all - sum_of(out.device))});
    out.kept = std::max(0.0, static_cast<double>(device().resident()) + apart - sum_of(out.device));
    out.counted = static_cast<double>(device().memory().most);
    // Beside what the device counts.
    if (!device().is_host()) out.device.push_back({"sums in bf16", rooms_});
  }

  const Setup& setup_;
  int64_t images_;
  std::vector<BatchSlice> slices_;
  DryTally tally_;
  std::string phase_ = "before the first step", moment_;
  size_t peak_ = 0;
  GraphMemory graph_memory_;
  double buffers_ = 0, most_buffers_ = 0;  // of collectives that are under way
  double rooms_ = 0, largest_room_ = 0;
  Log log_;
  DryDevice nowhere_{DeviceKind::cpu, 1};
  Backend backend_;
  std::unique_ptr<Collective> tensors_, host_;
  std::unique_ptr<Tape> tape_;
  Context context_;
  std::unique_ptr<Collective> norms_, node_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<MarginHead> head_;
};

/// The images of a pass that a plan goes through with: what comes of one image is listed for each, and vendors' code is
/// not made for more than there is memory for. Beyond, everything grows along a line, but for the active rows: these
/// are those of all images from the start.
constexpr int64_t kMostImages = 4096;

DryRun counted_with(const Setup& setup, int64_t images) {
  Setup less = setup;
  less.config.train.batch_per_rank = images * setup.config.train.micro_batches();
  return DryTraining(less, images_of(slices_of(setup))).run();
}

}  // namespace

double DryRun::device_bytes() const { return sum_of(device) + kept; }
double DryRun::host_bytes() const { return sum_of(host); }
double DryRun::of(const std::string& name) const {
  double sum = 0;
  bool known = false;
  for (const auto* side : {&device, &host}) {
    for (const Purpose& p : *side) {
      if (p.name != name) continue;
      sum += p.bytes;
      known = true;
    }
  }
  PLSC_CHECK(known, "no purpose of memory is called {}", name);
  return sum;
}

int64_t most_classes(const Setup& setup) {
  // Of a rank, and of all: the bytes of a rank's rows, and the classes of all ranks, are sure to be an int64_t.
  constexpr int64_t kMost = int64_t{1} << 44, kMostOfAll = int64_t{1} << 62;
  const int64_t most = setup.ranks * std::min(kMost, kMostOfAll / setup.ranks);
  return setup.config.head.sampling.method == "knn" ? std::min(most, kMostGraphClasses) : most;
}

DryRun dry_run(const Setup& setup) {
  if (growth(setup.config.train) > 1) {
    decide_global_batch(setup.config, setup.ranks);  // what it refuses, it names as it was written
    Setup largest = setup;
    largest.config.train = with_largest_batch(setup.config.train);
    return dry_run(largest);
  }
  if (const int64_t most = most_classes(setup); setup.classes > most) {
    fail_hint("plan fewer classes, or more ranks, or head.sampling: {method: full}",
              "{} classes on {} rank(s) with head.sampling.method {}: a plan counts up to {}", setup.classes,
              setup.ranks, setup.config.head.sampling.method, most);
  }
  const int64_t passes = setup.ranks * setup.config.train.micro_batches();
  const double images = number(decide_global_batch(setup.config, setup.ranks)) / number(passes);
  if (images <= number(kMostImages)) return DryTraining(setup, images_of(slices_of(setup))).run();
  DryRun run = on_line({kMostImages / 2, counted_with(setup, kMostImages / 2)},
                       {kMostImages, counted_with(setup, kMostImages)}, images);
  run.images = images_of(slices_of(setup));
  return run;
}

}  // namespace plsc::plan
