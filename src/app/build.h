// The composition root: which backend, which data, which network; every valid pairing is decided here.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "app/devices.h"
#include "backend/device_health.h"
#include "comm/world.h"
#include "config/config.h"
#include "data/source.h"
#include "head/margin_head.h"
#include "head/neighbour_graph.h"
#include "nn/module.h"
#include "runtime/context.h"

namespace plsc {

/// What this rank computes on, and how its tensors reach the other ranks.
struct Machine {
  Arithmetic arithmetic;
  Transport transport = Transport::local;
  Backend backend;
  std::unique_ptr<Collective> tensors;  // of the device's memory, which it must not outlive; null: the world's serves
  // Of several ranks. Around it and, where the host computes, around the collective of host values.
  std::unique_ptr<CommTimes> times;
  std::unique_ptr<Collective> timed_tensors, timed_host;
  std::unique_ptr<Tape> tape;         // around all of it, where the device can record
  std::unique_ptr<Collective> norms;  // Context::norm_group, where there are groups
  std::unique_ptr<Collective> node;   // Context::node_group, the same
};

/// The device that config.device means for each rank, and what joins the devices. All ranks together; Error on all of
/// them, naming what the build or a machine lacks.
Machine build_machine(const Config& config, World& world, Log& log);

/// What every command on ranks begins with: the log, the backend, and the context that refers to them.
struct Session {
  /// `console`: what rank 0 says on the console, and worse.
  Session(const Config& config, World& world, LogLevel console = LogLevel::info);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Log log;
  Machine machine;
  Context context;
};

/// The ranks of a group where model.sync_batch_norm makes groups that are not all ranks; else 0. Error where they do
/// not come out even.
int norm_group_size(const Config& config, int ranks);
/// Makes these groups, for a training. All ranks call it.
void group_norms(Session& session, const Config& config, World& world);

/// The ranks of each host where comm.compress.intra_node has these sum their gradients first; 1 where each rank is for
/// itself. `per_host`: that a host has, or has at most. Error where hosts have not all as many.
int node_size(const Config& config, int ranks, int per_host);
/// Makes these groups, for a training. All ranks call it; Error on all of them.
void group_nodes(Session& session, const Config& config, World& world);

/// The number of classes: head.classes, or what the source says. Where that is more than head.classes, the ranks look
/// at a part of the labels each; Error on all of them names the first sample whose label is outside.
int64_t decide_classes(Context& context, const Config& config, const DataSource& source);

/// What head.sampling asks for and so many classes, or such a device, cannot give, whatever memory there is, as the
/// text of an error; "" where there is nothing. `device`: what has no bf16; "" where it has.
std::string sampling_mistake(const SamplingConfig& sampling, int64_t classes, const std::string& device);

/// Classes of which there can be a class graph.
inline constexpr int64_t kMostGraphClasses = GraphSpec::kMostClasses;

/// Bytes that a rank may take of memory that it shares.
struct RankRoom {
  int64_t host = 0;               // of its host's, beside what it has
  std::optional<int64_t> device;  // of its GPU's; none on a CPU
};
/// This rank's part of what its host and its GPU have left. All ranks call it; Error on all of them where one's GPU
/// does not say.
RankRoom room_of(Session& session, World& world);
/// Ranks whose device is at the same place, this one among them. All ranks call it.
int ranks_sharing(World& world, const DevicePlace& place);

/// Error on all ranks where head.sampling asks for what these classes, this device or its memory cannot give: the class
/// graph is first built when the warm-up is over, and what it takes then is known now. What the network takes of a GPU
/// beside it is not counted: `plsc-train plan` does.
void require_sampling(Context& context, const Config& config, int64_t classes, const RankRoom& room);

/// Error on all ranks, before one of them has taken any, where the host's memory does not hold the class centres with
/// their momentum (head.store.tier: host) of all ranks of a host together.
void require_tables(Context& context, const Config& config, int64_t classes, int local_ranks);

/// The global batch: train.batch_size, or batch_per_rank times the ranks. Error when a rank would get no sample.
int64_t decide_global_batch(const Config& config, int ranks);

/// "plsc-train 0.1.0, oneDNN 2.6.3, Open MPI 4.1.4", and NCCL's where it carries tensors.
std::string versions_text(const Session& session, const World& world);

}  // namespace plsc
