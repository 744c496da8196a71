// What a dry run's ops would have computed and moved, by phase of the step: no arithmetic is done, it is counted.
#pragma once
#include <string>
#include <utility>
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

struct DryPhase {
  std::string name;  // as the training step calls it
  std::vector<DryWork> work;
  double wire = 0;          // bytes that this rank sends in collectives of the device's tensors
  int64_t collectives = 0;  // of these
};

class DryTally {
 public:
  DryTally() : phases_(1) {}
  /// What comes from now on is of this phase; a phase may come again.
  void begin(const std::string& name);
  void add(const DryWork& work) { phases_[now_].work.push_back(work); }
  void send(double bytes) {
    phases_[now_].wire += bytes;
    ++phases_[now_].collectives;
  }
  /// Forgets what was counted.
  void clear();
  /// Those with work or bytes, in the order of their first time.
  std::vector<DryPhase> phases() const;

 private:
  std::vector<DryPhase> phases_;  // the first has no name: before the first phase began
  size_t now_ = 0;
};

}  // namespace plsc
