// One optimizer step: what the device is given, and what the host learns of it afterwards. The host is a step ahead of
// the device where there is one: nothing in here waits for it but `take`.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "data/loader.h"
#include "head/margin_head.h"
#include "nn/module.h"
#include "optim/grad_sync.h"
#include "optim/optimizer.h"
#include "optim/weight_average.h"
#include "train/network_runner.h"
#include "train/recorder.h"
#include "train/step_order.h"
#include "train/step_trace.h"

namespace plsc {

/// The phase whose collectives travel beside its work: gradients do, while the layers before them are computed.
inline constexpr const char* kBackwardPhase = "backward";

/// Where a step is.
struct StepPhase {
  int64_t step = 0;
  const char* name = "";     // a literal
  int64_t micro_batch = -1;  // of several; -1: of the whole step
  bool operator==(const StepPhase& o) const {
    return step == o.step && std::string_view(name) == o.name && micro_batch == o.micro_batch;
  }
};
using NotePhase = std::function<void(const StepPhase&)>;

class TrainingStep {
 public:
  /// References outlive the object. `note_phase` is told of phases as they begin; it may be empty.
  TrainingStep(Context& context, const Config& config, Backbone& backbone, MarginHead& head, NotePhase note_phase);
  ~TrainingStep();
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  /// Takes the batches of step `step` (0, 1, ...): the ranks exchange their labels.
  void prepare(int64_t step, int64_t global_batch, std::vector<Batch> batches);
  /// The epoch of the steps that come: where gradients are compressed, how much of them is sent depends on it. Without
  /// it as much as after the warm-up.
  void set_epoch(int64_t epoch);
  /// Gives the device all work of the step that was prepared, with this learning rate.
  void run(double lr);

  /// After the network was used for something else than training (an evaluation).
  void network_was_used() { network_.forget(); }

  /// Steps that were given to the device and not taken.
  size_t under_way() const { return under_way_.size(); }
  /// Where the collectives of its steps go, beside the metrics. May be null.
  void set_trace(StepTrace* trace) { trace_ = trace; }
  /// What the oldest of them gave: loss, correct, samples, lr, grad_norm, loss scale. Waits for it. Error naming the
  /// step where its loss or its gradient was not finite: nothing has been updated since.
  StepRecord take();

 private:
  struct Prepared {
    std::vector<Batch> batches;
    StepInfo info;
    std::vector<CommSpan> spans;  // of its collectives so far
    int64_t sent = 0;             // bytes, by them
  };
  struct UnderWay {
    StepRecord record;
    std::unique_ptr<HostRead> sums, state;
    std::vector<CommSpan> spans;
    int64_t sent = 0;
  };
  /// Its collectives count for a step as long as it lives.
  class Listening;
  math::StepInputs inputs(double lr) const;
  std::vector<CommSpan> take_spans();
  /// A stage of one of the micro-batches, as train/step_order.h has them.
  void stage(const StageOf& which, const std::vector<Batch>& batches, double lr);
  /// The network's passes are of this micro-batch from here on.
  void tell_state_of(const Batch& batch, double lr);
  void forward(size_t index, const Batch& batch, int64_t told);
  void backward(size_t index, int64_t told);
  void finish_step();
  void phase(const char* name, int64_t micro_batch = -1);

  Context& context_;
  const Config& config_;
  Backbone& backbone_;
  MarginHead& head_;
  NotePhase note_phase_;
  StepPhase phase_;  // that was told last
  std::vector<Param*> params_;
  Optimizer optimizer_;
  WeightAverage average_;
  GradSync sync_;
  NetworkRunner network_;
  std::optional<Prepared> prepared_;
  StepInfo info_;
  Tensor sums_;          // (3) fp64, device memory: HeadResult::sums over the micro-batches
  int64_t samples_ = 0;  // of all ranks in these
  std::deque<UnderWay> under_way_;
  StepTrace* trace_ = nullptr;
};

}  // namespace plsc
