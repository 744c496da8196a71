// What a dry run's ops would have computed and moved, by phase of the step and in its order: no arithmetic is done, it
// is counted.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace plsc {

/// One op: it computes and moves at the same time, so that whichever takes longer is its time.
struct DryWork {
  double flop = 0;          // of its matrix products
  double bytes = 0;         // of device memory that it reads and writes
  Dtype type = Dtype::f32;  // of the products' inputs
  double far = 0;           // bytes of host memory that a GPU reads and writes over the link between the two
  double beside = 0;        // the same, while it computes: only where it takes longer than a step is it waited for
};

/// One collective of the device's tensors.
struct DryTransfer {
  double bytes = 0;      // of the whole tensor
  int passes = 1;        // over the ranks: 2 of an all-reduce
  double sent = 0;       // bytes that this rank sends
  int ranks = 0;         // that take part: consecutive ones; 0: all
  int64_t messages = 0;  // that this rank sends, where each sends to every other itself, as over MPI
};

struct DryPhase {
  std::string name;  // as the training step calls it
  std::vector<DryWork> work;
  std::vector<DryTransfer> transfers;  // that began in it
  double wire = 0;                     // bytes that this rank sends in these
};

/// What happened next: an op, or a collective that was started or waited for.
struct DryMoment {
  enum class Kind : uint8_t { work, start, wait };
  Kind kind = Kind::work;
  size_t phase = 0;     // it happened in, among DryCounts::phases
  size_t index = 0;     // among the work, or the transfers, of the phase
  size_t began_in = 0;  // of a wait: the phase of that transfer; else `phase`
};

/// A step.
struct DryCounts {
  std::vector<DryPhase> phases;    // those with work or transfers, in the order of their first time
  std::vector<DryMoment> moments;  // in order
};

class DryTally {
 public:
  DryTally() : phases_(1) {}
  /// What comes from now on is of this phase; a phase may come again.
  void begin(const std::string& name);
  void add(const DryWork& work);
  /// What is added in between is not counted but handed out, for whoever plays it back to add.
  void begin_recording() { recording_ = true; }
  std::vector<DryWork> end_recording();
  /// Its number, to be waited for by.
  int64_t start(const DryTransfer& transfer);
  void wait(int64_t transfer);
  /// Forgets what was counted.
  void clear();
  DryCounts counts() const;

 private:
  std::vector<DryPhase> phases_;  // the first has no name: before the first phase began
  std::vector<DryMoment> moments_;
  std::vector<size_t> starts_;  // by number, less those that are forgotten: their moments
  int64_t forgotten_ = 0;
  size_t now_ = 0;
  bool recording_ = false;
  std::vector<DryWork> recorded_;
};

}  // namespace plsc
