// The plan of a training that is about to start, in a line.
#pragma once
#include <string>

#include "app/build.h"

namespace plsc::plan {

/// Memory of a rank against what there is now, on rank 0; "" on the others, and where no plan could be made.
std::string headline_of(Session& session, World& world, const Config& config, int64_t classes);

}  // namespace plsc::plan
