// What a run tells: metrics.jsonl for programs, the progress line and the log for people. Only rank 0 writes.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "eval/evaluator.h"
#include "kernels/math/loss_scale.h"

namespace plsc {

/// What a rank's communication was in one step.
struct CommRecord {
  double exposed = 0;  // seconds that its work stood still for it (CommSpan::exposed)
  int64_t sent = 0;    // bytes of tensors (Collective::bytes_sent)
};

/// One optimizer step, as all ranks agree on it.
struct StepRecord {
  int64_t step = 0;  // steps done, this one included
  double epoch = 0;
  double loss = 0;                   // mean over the global batch
  std::optional<double> intra_loss;  // D-Softmax: the part of it that is the targets'; the rest is the others'
  int64_t correct = 0, samples = 0;
  double lr = 0;
  double grad_norm = 0;                       // before clipping; with train.clip_head the head's, too
  double data_wait = 0;                       // seconds this rank waited for its batch
  bool skipped = false;                       // fp16: an overflow; nothing was updated
  int64_t updates = 0;                        // steps that were not skipped, this one included
  std::optional<math::LossScale> loss_scale;  // fp16: of the next step
  std::optional<int64_t> graph_age;           // steps since the class graph was built, where there is one
  std::optional<CommRecord> comm;             // where there are several ranks
};

/// What was done with the class graph (head.sampling.method knn).
struct GraphRecord {
  const char* event = "";  // "built" or "probed"
  double seconds = 0;
  std::optional<double> recall;  // of the graph so far; nothing where there was none
  std::optional<int64_t> age;    // its, in steps
};
/// "class graph built in 4 s; the one before, 600 steps old, had 91.3 % of it"
std::string summary(const GraphRecord& record);

/// "lfw: accuracy 99.82 +- 0.21 %, AUC 0.9990, TAR 98.90 % at FAR 1e-3 (13,233 images, 42 s)", or "lfw (averaged
/// weights): ..."
std::string summary(const EvalResult& result);

class Recorder {
 public:
  struct Options {
    std::string output;        // run directory
    int64_t every_steps = 10;  // a metrics line each
    int64_t first_step = 0;    // steps done when this process started
    int64_t total_steps = 0;
    int64_t images = 0;        // of the steps between
    bool batch_grows = false;  // and is told with the progress
    bool writes = true;        // rank 0
  };
  /// Opens metrics.jsonl; lines of steps after `first_step` (a run that was cut off) are removed first.
  Recorder(const Options& options, Log& log);
  /// Tries once more to write the lines that wait. Those that cannot be are told as an error with their steps, and what
  /// there is of the first of them is taken away.
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// Every step. Writes a line each `every_steps`, with means over the steps since the last one.
  void note(const StepRecord& record);
  /// Writes the line of steps that wait for theirs: nothing of a run that stops is lost.
  void flush(const StepRecord& last);
  /// Time that was no training (evaluation, checkpoints) does not count in images/s.
  void pause() { paused_ = Stopwatch(); }
  void resume() { idle_ += paused_.seconds(); }

  void note(const EvalResult& result, int64_t step);
  void note(const GraphRecord& record, int64_t step);

 private:
  void write_line(const StepRecord& last);
  void start_window();
  /// Of a sum over the steps that were not skipped.
  double mean(double sum) const;
  double top1() const;
  void show(const StepRecord& record);
  void append(int64_t step, const std::string& line);
  /// The lines that wait, as far as there is room for them; else what the system says.
  std::optional<std::string> write_waiting();
  void give_up(const std::string& why);

  Options options_;
  Log& log_;
  std::optional<File> file_;  // rank 0
  struct Line {
    int64_t step = 0;
    std::string text;
  };
  std::deque<Line> waiting_;  // lines that a full disk did not take
  size_t begun_ = 0;          // bytes of the first of them that it did
  Stopwatch window_, run_, paused_;
  double idle_ = 0;  // of the window
  double total_idle_ = 0;
  int64_t images_done_ = 0;  // by this process
  int64_t steps_ = 0, skipped_ = 0, samples_ = 0;
  int64_t judged_ = 0, correct_ = 0;  // samples of steps that were not skipped
  double loss_ = 0, intra_loss_ = 0, wait_ = 0, exposed_ = 0;
  int64_t sent_ = 0;
  double images_per_second_ = 0;
};

}  // namespace plsc
