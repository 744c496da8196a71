// The training loop: steps, evaluation, checkpoints, stopping.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/loader.h"
#include "eval/evaluator.h"
#include "head/margin_head.h"
#include "nn/module.h"
#include "optim/schedule.h"
#include "train/best.h"
#include "train/graph_keeper.h"
#include "train/recorder.h"
#include "train/state.h"
#include "train/training_step.h"

namespace plsc {

/// What app/ builds and the trainer drives. References outlive the trainer.
struct TrainParts {
  Backbone& backbone;
  MarginHead& head;
  Loader& loader;
  Evaluator* evaluator = nullptr;               // null: no set is configured
  const std::vector<std::string>& class_names;  // of the head's classes, by id; empty where they have none
  Schedule schedule;
  /// True once this process was asked to stop (SIGTERM, SIGUSR1, SIGINT).
  std::function<bool()> stop_requested;
  /// Told (step, phase) as they change, for the monitor that names a hung rank.
  std::function<void(int64_t step, const char* phase)> note_phase;
};

enum class TrainEnd { complete, stopped };

class Trainer {
 public:
  Trainer(Context& context, const Config& config, TrainParts parts, RunMeta meta);
  /// Runs steps [first_step, meta.total_steps). Returns `stopped` after a stop request, with a checkpoint written.
  TrainEnd run(int64_t first_step);

 private:
  /// One step with what follows it; false after a stop request.
  bool run_step(int64_t step);
  /// Tells of the steps that the device has done before an error ends the run.
  void settle();
  void prepare(int64_t step);
  /// Tells of steps that the device has done, until `left` are under way.
  void take_records(size_t left);
  void check_first_loss(const StepRecord& record) const;
  void evaluate(int64_t step);
  void update_graph(int64_t step);
  void note_if_best(const EvalResult& result, int64_t step);
  CheckpointContent state(int64_t step);
  /// As large as that of any step to come.
  CheckpointContent largest_state(int64_t step);
  void save(int64_t step);
  bool try_to_save(int64_t step);
  void report_skipped();
  void stop();
  bool all_agree_to_stop();
  bool due(int64_t step, int64_t every_steps, double every_epochs, bool at_end) const;
  void phase(int64_t step, const char* name, int64_t micro_batch = -1);
  const StepMap& map() const { return parts_.loader.steps(); }
  /// After so many steps, the last of which may be all.
  void write_trace(int64_t steps_done);

  Context& context_;
  const Config& config_;
  TrainParts parts_;
  RunMeta meta_;
  std::unique_ptr<Recorder> recorder_;
  TrainingStep one_;
  std::optional<StepTrace> trace_;    // of log.trace
  std::optional<GraphKeeper> graph_;  // of head.sampling.method knn
  std::deque<double> data_waits_;     // seconds, of the steps that are prepared or under way
  StepRecord last_;                   // that was taken
  int64_t skips_in_a_row_ = 0;
  int64_t saved_step_ = -1;
  int64_t skipped_ = 0;  // records, as far as they have been reported
  std::optional<Best> best_;
};

}  // namespace plsc
