#include "backend/dry/tally.h"

#include <algorithm>
#include <utility>

namespace plsc {

void DryTally::begin(const std::string& name) {
  for (now_ = 0; now_ < phases_.size(); ++now_) {
    if (phases_[now_].name == name) return;
  }
  phases_.push_back({name, {}, {}, 0});
}

void DryTally::add(const DryWork& work) {
  if (recording_) {
    recorded_.push_back(work);
    return;
  }
  moments_.push_back({DryMoment::Kind::work, now_, phases_[now_].work.size(), now_});
  phases_[now_].work.push_back(work);
}

std::vector<DryWork> DryTally::end_recording() {
  recording_ = false;
  return std::exchange(recorded_, {});
}

int64_t DryTally::start(const DryTransfer& transfer) {
  DryPhase& phase = phases_[now_];
  starts_.push_back(moments_.size());
  moments_.push_back({DryMoment::Kind::start, now_, phase.transfers.size(), now_});
  phase.transfers.push_back(transfer);
  phase.wire += transfer.sent;
  return forgotten_ + static_cast<int64_t>(starts_.size()) - 1;
}

void DryTally::wait(int64_t transfer) {
  if (transfer < forgotten_) return;  // of a step before, in which it was counted
  const DryMoment& start = moments_[starts_[static_cast<size_t>(transfer - forgotten_)]];
  moments_.push_back({DryMoment::Kind::wait, now_, start.index, start.phase});
}

void DryTally::clear() {
  phases_.assign(1, {});
  moments_.clear();
  forgotten_ += static_cast<int64_t>(starts_.size());
  starts_.clear();
  now_ = 0;
}

DryCounts DryTally::counts() const {
  DryCounts found;
  std::vector<size_t> place(phases_.size());
  for (size_t p = 0; p < phases_.size(); ++p) {
    place[p] = found.phases.size();
    const bool used = std::ranges::any_of(moments_, [&](const DryMoment& m) { return m.phase == p; });
    if (used) found.phases.push_back(phases_[p]);
  }
  for (DryMoment m : moments_) {
    m.phase = place[m.phase];
    m.began_in = place[m.began_in];
    found.moments.push_back(m);
  }
  return found;
}

}  // namespace plsc
