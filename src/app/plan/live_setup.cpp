#include "app/plan/live_setup.h"

#include "backend/device_health.h"
#include "base/memory.h"

namespace plsc::plan {

Setup live_setup(Session& session, const Config& config, int64_t classes) {
  Device& device = session.context.device();
  Setup setup;
  setup.config = config;
  setup.ranks = session.context.ranks();
  const Collective* node = session.context.node_group;
  setup.ranks_per_host = node != nullptr ? node->size() : 1;
  setup.classes = classes;
  setup.device = device.kind();
  setup.threads = device.threads();
  setup.arithmetic = session.machine.arithmetic;
  setup.gpu.bf16 = device.supports(Dtype::bf16);
  if (device.kind() == DeviceKind::cuda) setup.gpu.cache = second_level_cache(place_of(device).number);
  setup.program = resident_memory();
  setup.running = true;
  return setup;
}

}  // namespace plsc::plan
