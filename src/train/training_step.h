// One optimizer step: what the device is given, and what the host learns of it afterwards. The host is a step ahead of
// the device where there is one: nothing in here waits for it but `take`.
#pragma once
#include <deque>
#include <functional>
#include <memory>
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
#include "train/step_trace.h"

namespace plsc {

/// The phase whose collectives travel beside its work: gradients do, while the layers before them are computed.
inline constexpr const char* kBackwardPhase = "backward";

class TrainingStep {
 public:
  /// References outlive the object. `note_phase` is told (step, phase) as they change.
  TrainingStep(Context& context, const Config& config, Backbone& backbone, MarginHead& head,
               std::function<void(int64_t step, const char* phase)> note_phase);
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
  void micro_batch(const Batch& batch, StepRecord& record);
  void finish_step();
  void phase(const char* name) const {
    if (note_phase_) note_phase_(info_.step, name);
  }

  Context& context_;
  const Config& config_;
  Backbone& backbone_;
  MarginHead& head_;
  std::function<void(int64_t step, const char* phase)> note_phase_;
  std::vector<Param*> params_;
  Optimizer optimizer_;
  WeightAverage average_;
  GradSync sync_;
  NetworkRunner network_;
  std::optional<Prepared> prepared_;
  StepInfo info_;
  Tensor sums_;  // (3) fp64, device memory: HeadResult::sums over the micro-batches
  std::deque<UnderWay> under_way_;
  StepTrace* trace_ = nullptr;
};

}  // namespace plsc
