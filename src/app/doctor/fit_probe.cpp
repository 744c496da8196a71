// The sizes of this run, asked of the parts that it would use, against the memory that is free now.
#include <algorithm>
#include <cmath>
#include <limits>

#include "app/doctor/fit.h"
#include "app/doctor/probes.h"
#include "backend/device_health.h"
#include "base/error.h"

namespace plsc::doctor {
namespace {

constexpr double kTight = 0.9;            // of the room: more is a warning
constexpr double kWorkspace = 256 << 20;  // bytes: tiles of the head, rings of page-locked memory, libraries
constexpr double kConvWorkspaceShare = 1.0 / 16, kConvWorkspaceMost = 1 << 30;  // of a GPU: backend/cuda

/// Parameters and buffers of the network; its memory is given back.
int64_t count_parameters(Context& context, const Config& config) {
  const auto backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
  int64_t count = 0;
  for (const Param* p : backbone->params()) count += p->value.elements();
  return count;
}

/// What each rank may take: of its GPU, or of its host's memory. Infinite where that is not known.
double room_of(Session& session, World& world, RankSheet& sheet) {
  DevicePlace place;
  try {
    place = place_of(session.context.device());
  } catch (const std::exception& error) {
    sheet.fail_with("memory fit", error.what());
  }
  const std::string where = fmt::format("{}|{}", world.node(), place.bus);
  const std::vector<std::string> all = gather_texts(world.host_collective(), where);
  const auto sharing = static_cast<double>(std::count(all.begin(), all.end(), where));
  constexpr double kNotKnown = std::numeric_limits<double>::infinity();
  const std::optional<int64_t> of_host = known_memory();
  const double of_cpu = of_host ? static_cast<double>(*of_host) : kNotKnown;
  const double free = place.total > 0 ? static_cast<double>(place.free) : of_cpu;
  const double workspace =
      kWorkspace +
      (place.total > 0 ? std::min(kConvWorkspaceMost, kConvWorkspaceShare * static_cast<double>(place.total)) : 0);
  return free / sharing - workspace;
}

int64_t images_of_micro_batch(const Config& config, int ranks) {
  const int64_t pieces = ranks * config.train.accumulate;
  return (decide_global_batch(config, ranks) + pieces - 1) / pieces;
}

struct Sizes {
  NetworkShape network;
  double per_class = 0, stored = 0;
};

Sizes sizes_of(Session& session, const Config& config) {
  const Arithmetic& arithmetic = session.machine.arithmetic;
  Sizes sizes;
  sizes.network.parameters = count_parameters(session.context, config);
  sizes.network.activations = activations_per_image(config.model.backbone, config.data.image_size);
  sizes.network.images = images_of_micro_batch(config, session.context.ranks());
  sizes.network.activation_bytes = arithmetic.activations == Dtype::f32 ? 4 : 2;
  sizes.network.gradients_in_double = arithmetic.sums_in_double;
  const HeadShape head = head_shape(config, arithmetic.loss_scaling);
  sizes.per_class = bytes_per_class(head);
  sizes.stored = stored_per_class(head);
  session.context.device().trim();
  return sizes;
}

/// Who has the least room decides: all ranks hold as many classes.
struct Least {
  double room = 0;
  std::string who;  // "rank 2 (host n3)"
};
Least least_room(World& world, double own) {
  const std::vector<double> rooms = gather_values(world.host_collective(), own);
  const auto least = static_cast<size_t>(std::min_element(rooms.begin(), rooms.end()) - rooms.begin());
  return {rooms[least], fmt::format("rank {} (host {})", least, world.hosts()[least])};
}

/// Not even one class would fit: the classes are not what is too large.
void tell_of_batch(const Fit& result, const Sizes& sizes, const std::string& who, RankSheet& sheet) {
  sheet.fail_of_all(
      "memory fit",
      fmt::format("the network and its batch do not fit, whatever the number of classes: {} has {} and "
                  "would need about {} for {:.2f} M parameters and {} image{} at a time",
                  who, quantity(std::max(0.0, result.room), "B"), quantity(network_bytes(sizes.network), "B"),
                  1e-6 * static_cast<double>(sizes.network.parameters), sizes.network.images,
                  sizes.network.images == 1 ? "" : "s"),
      "an estimate; lower train.batch_size first, or raise train.accumulate; more ranks, 16-bit "
      "precision or a smaller model.backbone take less, too");
}

void judge(const Fit& result, int64_t classes, const std::string& who, RankSheet& sheet) {
  if (std::isinf(result.room)) {
    sheet.warn_of_all("memory fit", "whether it fits is not known: nothing tells how much memory is available");
    return;
  }
  const std::string needed = quantity(result.needed, "B"), room = quantity(std::max(0.0, result.room), "B");
  const std::string hint =
      "an estimate; head.store: {dtype: bf16}, more ranks, 16-bit precision or a smaller batch take less";
  if (result.needed > result.room) {
    sheet.fail_of_all(
        "memory fit",
        fmt::format("{} classes do not fit: {} has {} and would need about {}; the largest number that would fit "
                    "is about {}",
                    quantity(static_cast<double>(classes), ""), who, room, needed,
                    quantity(static_cast<double>(result.largest), "")),
        hint);
  } else if (result.needed > kTight * result.room) {
    sheet.warn_of_all("memory fit", fmt::format("little is left: {} has {} and would need about {}", who, room, needed),
                      hint);
  }
}

void add_facts(const Fit& result, int64_t classes, const Sizes& sizes, RankSheet& sheet) {
  sheet.add({"memory fit", "network",
             fmt::format("network of {:.2f} M parameters", 1e-6 * static_cast<double>(sizes.network.parameters))});
  if (classes > 0) {
    sheet.add({"memory fit", "classes", "{} classes", static_cast<double>(classes)});
    sheet.add({"memory fit", "needed", "about {} a rank", result.needed, "B"});
  }
  if (std::isinf(result.room)) return;
  sheet.add({"memory fit", "room", "{} to take", std::max(0.0, result.room), "B"});
  if (result.largest > 0)
    sheet.add({"memory fit", "largest", "at most about {} classes", static_cast<double>(result.largest)});
}

}  // namespace

int64_t probe_fit(Session& session, World& world, const Config& config, int64_t classes, RankSheet& sheet) {
  const Least least = least_room(world, room_of(session, world, sheet));  // before anything else takes of it
  Sizes sizes;
  try {
    sizes = sizes_of(session, config);
  } catch (const std::exception& error) {
    sheet.fail_with("memory fit", error.what());
    return 0;
  }
  const Fit result = fit({classes, world.size(), sizes.per_class, network_bytes(sizes.network), least.room});
  if (world.rank() == 0) {
    add_facts(result, classes, sizes, sheet);
    if (result.largest == 0 && !std::isinf(result.room)) {
      tell_of_batch(result, sizes, least.who, sheet);
    } else if (classes > 0) {
      judge(result, classes, least.who, sheet);
    }
  }
  // Weights and momentum; buffers have none, and are few.
  return classes == 0
             ? 0
             : static_cast<int64_t>(sizes.stored * static_cast<double>(classes)) + 8 * sizes.network.parameters;
}

}  // namespace plsc::doctor
