#include "backend/dry/tally.h"

namespace plsc {

void DryTally::begin(const std::string& name) {
  for (now_ = 0; now_ < phases_.size(); ++now_) {
    if (phases_[now_].name == name) return;
  }
  phases_.push_back({name, {}, 0, 0});
}

void DryTally::clear() {
  phases_.assign(1, {});
  now_ = 0;
}

std::vector<DryPhase> DryTally::phases() const {
  std::vector<DryPhase> found;
  for (const DryPhase& phase : phases_) {
    if (!phase.work.empty() || phase.collectives > 0) found.push_back(phase);
  }
  return found;
}

}  // namespace plsc
