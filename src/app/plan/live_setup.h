// What a plan is made for where the ranks run already.
#pragma once
#include "app/build.h"
#include "app/plan/dry_run.h"

namespace plsc::plan {

/// A training by the ranks of this session, on the device that this rank has. Error where the GPU cannot be asked.
Setup live_setup(Session& session, const Config& config, int64_t classes);

}  // namespace plsc::plan
