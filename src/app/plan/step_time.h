// How long the counted work takes by given rates.
#pragma once
#include <vector>

#include "app/plan/plan.h"

namespace plsc::plan {

/// The phases of a step. It is run through in its order: ops take their turn on the device, collectives theirs on the
/// wire, one after another, from when they are started; where one is waited for that is not done, the device waits. So
/// what overlaps is what the training's own step lets overlap. Phases that hang on an unknown rate have no time.
std::vector<PhasePlan> timed_phases(const DryRun& run, const Rates& rates, const Cluster& cluster);

/// Work that is no part of a step: nothing overlaps.
PhasePlan timed_alone(const DryPhase& phase, const Rates& rates, const Cluster& cluster);

}  // namespace plsc::plan
