#include "app/plan/headline.h"

#include "app/plan/live_setup.h"
#include "app/plan/plan.h"
#include "backend/device_health.h"
#include "base/memory.h"

namespace plsc::plan {

std::string headline_of(Session& session, World& world, const Config& config, int64_t classes) {
  if (world.rank() != 0) return "";
  try {
    const DevicePlace place = place_of(session.context.device());
    const Setup setup = live_setup(session, config, classes);
    Room room = room_beside(known_memory(), setup.program, world.local_size());
    if (place.total > 0) room.device = static_cast<double>(place.free);
    return headline(make_plan(setup, room, {}));
  } catch (const std::exception& error) {
    // What is wrong with the configuration is told when it is put together in earnest, on all ranks.
    session.log.debug("no plan: {}", error.what());
    return "";
  }
}

}  // namespace plsc::plan
