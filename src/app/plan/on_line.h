// A dry run of more images than there is one for, by two of fewer.
#pragma once
#include "app/plan/dry_run.h"

namespace plsc::plan {

struct Counted {
  int64_t images = 0;  // of a pass
  DryRun run;
};

/// What the two say of a pass of `images`, where all that grows with them grows along a line. What does not is that of
/// `more`.
DryRun on_line(const Counted& few, const Counted& more, double images);

}  // namespace plsc::plan
