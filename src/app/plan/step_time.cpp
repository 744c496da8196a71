#include "app/plan/step_time.h"

#include <algorithm>

namespace plsc::plan {
namespace {

bool known(const DryWork& work, const Rates& rates) {
  return rates.compute_known(is_half(work.type)) && (work.far + work.beside == 0 || rates.host > 0);
}

/// An op computes and moves at once, and takes as long as what is slowest.
double seconds_of(const DryWork& work, const Rates& rates) {
  const double products = work.flop / (is_half(work.type) ? rates.half : rates.fp32);
  return std::max({products, work.bytes / rates.memory, work.far > 0 ? work.far / rates.host : 0});
}

/// Without times.
PhasePlan totals(const DryPhase& phase) {
  PhasePlan out;
  out.name = phase.name;
  for (const DryWork& work : phase.work) {
    out.flop += work.flop;
    out.bytes += work.bytes;
    out.far += work.far + work.beside;
  }
  out.wire = phase.wire;
  for (const DryTransfer& transfer : phase.transfers) out.messages += transfer.messages;
  return out;
}

bool all_known(const DryPhase& phase, const Rates& rates) {
  return std::ranges::all_of(phase.work, [&](const DryWork& work) { return known(work, rates); });
}

/// The device and the wire, as a step goes on.
class Clocks {
 public:
  Clocks(const DryRun& run, const Rates& rates, const Cluster& cluster) : run_(run), rates_(rates), cluster_(cluster) {
    for (const DryPhase& phase : run.phases) done_.emplace_back(phase.transfers.size(), 0.0);
  }

  /// Adds to the phase what the moment takes.
  void pass(const DryMoment& moment, PhasePlan& phase) {
    const DryPhase& of = run_.phases[moment.began_in];
    double& done = moment.kind == DryMoment::Kind::work ? device_ : done_[moment.began_in][moment.index];
    if (moment.kind == DryMoment::Kind::start) {
      wire_ = std::max(wire_, device_) + plan::seconds_of(of.transfers[moment.index], cluster_);
      done = wire_;
      return;
    }
    const bool waits = moment.kind == DryMoment::Kind::wait;
    const double takes = waits ? std::max(0.0, done - device_) : seconds_of(of.work[moment.index], rates_);
    device_ += takes;
    *phase.seconds += takes;
    if (waits) *phase.exposed += takes;
  }

 private:
  const DryRun& run_;
  const Rates& rates_;
  const Cluster& cluster_;
  double device_ = 0, wire_ = 0;           // seconds: when they are free
  std::vector<std::vector<double>> done_;  // when each transfer is
};

/// Which phases have a time.
std::vector<bool> known_phases(const DryRun& run, const Rates& rates, const Cluster& cluster) {
  std::vector<bool> out;
  for (const DryPhase& phase : run.phases) out.push_back(all_known(phase, rates));
  if (cluster.known()) return out;
  for (const DryMoment& m : run.moments)
    if (m.kind != DryMoment::Kind::work) out[m.phase] = false;
  return out;
}

}  // namespace

std::vector<PhasePlan> timed_phases(const DryRun& run, const Rates& rates, const Cluster& cluster) {
  const std::vector<bool> known = known_phases(run, rates, cluster);
  std::vector<PhasePlan> out;
  for (size_t p = 0; p < run.phases.size(); ++p) {
    out.push_back(totals(run.phases[p]));
    if (known[p]) out.back().seconds = out.back().exposed = 0;
  }
  Clocks clocks(run, rates, cluster);
  for (const DryMoment& moment : run.moments)
    if (known[moment.phase] && known[moment.began_in]) clocks.pass(moment, out[moment.phase]);
  return out;
}

PhasePlan timed_alone(const DryPhase& phase, const Rates& rates, const Cluster& cluster) {
  PhasePlan out = totals(phase);
  if (!all_known(phase, rates) || (!phase.transfers.empty() && !cluster.known())) return out;
  out.seconds = out.exposed = 0;
  for (const DryWork& work : phase.work) *out.seconds += seconds_of(work, rates);
  for (const DryTransfer& transfer : phase.transfers) *out.exposed += plan::seconds_of(transfer, cluster);
  *out.seconds += *out.exposed;
  return out;
}

}  // namespace plsc::plan
