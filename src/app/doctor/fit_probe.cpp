// The plan of this run against the memory that is free now.
#include <algorithm>
#include <cmath>
#include <limits>

#include "app/doctor/probes.h"
#include "app/plan/live_setup.h"
#include "app/plan/plan.h"
#include "app/quantity.h"
#include "backend/device_health.h"
#include "base/error.h"
#include "base/memory.h"
#include "config/step_map.h"

namespace plsc::doctor {
namespace {

constexpr const char* kSection = "memory fit";
constexpr double kTight = 0.9;  // of the room: more is a warning
constexpr double kNotKnown = std::numeric_limits<double>::infinity();

/// What a rank may take of its GPU, and of its host beside what it has. Infinite where that is not known, or there is
/// no GPU.
struct Rooms {
  double device = kNotKnown, host = kNotKnown;
};

Rooms rooms_of(Session& session, World& world, RankSheet& sheet) {
  DevicePlace place;
  try {
    place = place_of(session.context.device());
  } catch (const std::exception& error) {
    sheet.fail_with(kSection, error.what());
  }
  const int sharing = ranks_sharing(world, place);
  Rooms rooms;
  if (place.total > 0) rooms.device = static_cast<double>(place.free) / sharing;
  if (const std::optional<int64_t> host = known_memory()) rooms.host = static_cast<double>(*host) / world.local_size();
  return rooms;
}

/// Who has the least room decides: all ranks hold as many classes.
struct Least {
  double room = 0;
  std::string who;  // "rank 2 (host n3)"
};
Least least_room(World& world, double own) {
  const std::vector<double> rooms = gather_values(world.host_collective(), own);
  const auto least = static_cast<size_t>(std::min_element(rooms.begin(), rooms.end()) - rooms.begin());
  return {std::max(0.0, rooms[least]), fmt::format("rank {} (host {})", least, world.hosts()[least])};
}
struct LeastRooms {
  Least device, host;
  int sharing = 1;  // ranks of a host
};

plan::Plan plan_for(Session& session, const Config& config, int64_t classes, const LeastRooms& least) {
  plan::Setup setup = plan::live_setup(session, config, std::max<int64_t>(classes, session.context.ranks()));
  setup.ranks_per_host = least.sharing;  // the doctor makes no groups of a host's ranks
  std::optional<double> of_host;
  if (least.host.room < kNotKnown) of_host = least.host.room * least.sharing;
  plan::Room room = plan::room_beside(of_host, setup.program, least.sharing);
  if (setup.device == DeviceKind::cuda && least.device.room < kNotKnown) room.device = least.device.room;
  return plan::make_plan(setup, room, {});
}

/// A memory that this run is judged by.
struct Side {
  std::string of;    // "of GPU memory "; empty where it is the only one
  std::string fact;  // what its facts' names begin with
  double needed = 0, room = 0;
  std::string who;
  bool shown = true;
};

/// The one that is filled most comes first.
std::vector<Side> sides_of(const plan::Plan& plan, const LeastRooms& least) {
  const Side host{"", "", plan.host_bytes(), plan.host_room().value_or(kNotKnown), least.host.who};
  if (!plan.on_gpu()) return {host};
  std::vector<Side> sides{{"of GPU memory ", "", plan.device_bytes(), least.device.room, least.device.who}, host};
  sides[1].of = "of host memory ";
  sides[1].fact = "host ";
  sides[1].shown = plan.setup.config.head.store.tier == "host";
  const auto filled = [](const Side& s) { return s.needed / std::max(1.0, s.room); };
  if (filled(sides[1]) > filled(sides[0])) std::swap(sides[0], sides[1]);
  return sides;
}

/// Not even one class would fit: the classes are not what is too large.
void tell_of_batch(const plan::Plan& least, const Side& side, RankSheet& sheet) {
  const int64_t passes = with_largest_batch(least.setup.config.train).accumulate;  // a pipeline holds all of a pass
  const int64_t images = (least.run.images + passes - 1) / passes;
  sheet.fail_of_all(
      kSection,
      fmt::format("the network and its batch do not fit, whatever the number of classes: {} has {} {}and would need "
                  "about {} for {:.2f} M parameters and {} image{} at a time",
                  side.who, quantity(side.room, "B"), side.of, quantity(side.needed, "B"),
                  1e-6 * static_cast<double>(least.run.parameters), images, images == 1 ? "" : "s"),
      "lower train.batch_size first, set model.recompute: all or raise train.accumulate; more ranks, 16-bit precision "
      "or a smaller "
      "model.backbone take less, too; `plsc-train plan` shows where the memory goes");
}

void judge(const plan::Plan& plan, const Side& side, int64_t largest, RankSheet& sheet) {
  const std::string needed = quantity(side.needed, "B"), room = quantity(side.room, "B");
  if (side.needed > side.room) {
    sheet.fail_of_all(
        kSection,
        fmt::format("{} classes do not fit: {} has {} {}and would need about {}; the largest number that would fit "
                    "is about {}",
                    quantity(static_cast<double>(plan.setup.classes), ""), side.who, room, side.of, needed,
                    quantity(static_cast<double>(largest), "")),
        plan::advice(plan) + "; `plsc-train plan` shows where the memory goes");
  } else if (side.needed > kTight * side.room) {
    sheet.warn_of_all(
        kSection, fmt::format("little is left: {} has {} {}and would need about {}", side.who, room, side.of, needed),
        "`plsc-train plan` shows where the memory goes");
  }
}

void add_facts(const plan::Plan& plan, const std::vector<Side>& sides, int64_t classes, RankSheet& sheet) {
  sheet.add({kSection, "network",
             fmt::format("network of {:.2f} M parameters", 1e-6 * static_cast<double>(plan.run.parameters))});
  if (classes > 0) sheet.add({kSection, "classes", "{} classes", static_cast<double>(classes)});
  const auto bytes = [&](const Side& side, const char* name, const std::string& text, double number) {
    sheet.add({kSection, side.fact + name, text, number, "B", Agreement::none, Grade::warn, side.shown});
  };
  for (const Side& side : sides) {
    if (classes > 0) bytes(side, "needed", "about {} " + side.of + "a rank", side.needed);
    if (side.room < kNotKnown) bytes(side, "room", "{} " + side.of + "to take", side.room);
  }
}

/// What head.sampling asks for and is not to be had here: training would end at its start.
std::string mistake_of(Session& session, const Config& config, int64_t classes) {
  const SamplingConfig& sampling = config.head.sampling;
  const Device& device = session.context.device();
  return sampling_mistake(sampling, classes > 0 ? classes : sampling.active,
                          device.supports(Dtype::bf16) ? "" : device.description());
}

/// What rank 0 tells of all.
void tell(const plan::Plan& plan, const LeastRooms& least, int64_t classes, RankSheet& sheet) {
  const std::vector<Side> sides = sides_of(plan, least);
  add_facts(plan, sides, classes, sheet);
  const std::optional<int64_t> largest = plan::largest_classes(plan);
  if (!largest) {
    sheet.warn_of_all(kSection, "whether it fits is not known: nothing tells how much memory is available");
  } else if (*largest == 0) {
    const plan::Plan none = plan::with_classes(plan, plan.setup.ranks);
    tell_of_batch(none, sides_of(none, least).front(), sheet);
  } else {
    sheet.add({kSection, "largest", "at most about {} classes", static_cast<double>(*largest)});
    if (classes > 0) judge(plan, sides.front(), *largest, sheet);
  }
}

}  // namespace

int64_t probe_fit(Session& session, World& world, const Config& config, int64_t classes, RankSheet& sheet) {
  const Rooms own = rooms_of(session, world, sheet);  // before anything else takes of it
  const LeastRooms least{least_room(world, own.device), least_room(world, own.host), world.local_size()};
  if (const std::string mistake = mistake_of(session, config, classes); !mistake.empty()) {
    sheet.fail_with(kSection, mistake);
    return 0;
  }
  try {
    const plan::Plan plan = plan_for(session, config, classes, least);
    if (world.rank() == 0) tell(plan, least, classes, sheet);
    return classes == 0 ? 0 : plan::checkpoint_bytes(plan);
  } catch (const std::exception& error) {
    sheet.fail_with(kSection, error.what());
    return 0;
  }
}

}  // namespace plsc::doctor
