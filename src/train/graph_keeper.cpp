#include "train/graph_keeper.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace plsc {

GraphKeeper::GraphKeeper(Context& context, const SamplingConfig& config, const GraphSchedule& schedule,
                         MarginHead& head, Interrupted interrupted)
    : context_(context), config_(config), schedule_(schedule), head_(head), interrupted_(std::move(interrupted)) {
  PLSC_CHECK(head.graph() != nullptr);
}

bool GraphKeeper::due(int64_t done) const {
  const ClassGraph& graph = *head_.graph();
  const GraphAction action = schedule_.at(done, graph.built());
  if (action == GraphAction::build) return graph.age().built != done;
  // Not again where it has passed. Where it has not, and the build was interrupted, both come again.
  return action == GraphAction::probe && graph.age().probed != done;
}

std::optional<int64_t> GraphKeeper::age(int64_t done) const {
  const ClassGraph& graph = *head_.graph();
  if (!graph.built()) return {};
  return done - graph.age().built;
}

void GraphKeeper::run(int64_t done, Recorder& recorder) {
  // A search takes much memory for a short time: what steps keep for the next one makes room, and it for them.
  context_.device().trim();
  const bool probes = schedule_.at(done, head_.graph()->built()) == GraphAction::probe;
  if (!probes || probe_fails(done, recorder).value_or(false)) build(done, recorder);
  context_.device().trim();
}

std::optional<bool> GraphKeeper::probe_fails(int64_t done, Recorder& recorder) {
  const Stopwatch watch;
  const std::optional<double> recall = head_.probe_graph(context_, done, interrupted_);
  if (!recall) return {};
  recorder.note({.event = "probed", .seconds = watch.seconds(), .recall = recall, .age = age(done)}, done);
  if (*recall < config_.rebuild.probe_recall.value_or(0)) return true;
  head_.graph()->passed(done);
  return false;
}

void GraphKeeper::build(int64_t done, Recorder& recorder) {
  const Stopwatch watch;
  const std::optional<int64_t> before = age(done);
  const ClassGraph::Built built = head_.build_graph(context_, done, interrupted_);
  if (!built.done) {
    context_.log.info("class graph: left off at step {}; it is built when the run goes on from here", done);
    return;
  }
  recorder.note({.event = "built", .seconds = watch.seconds(), .recall = built.kept, .age = before}, done);
}

void GraphKeeper::announce(int64_t first_step, int64_t total_steps) const {
  const ClassGraph& graph = *head_.graph();
  std::string when = fmt::format("built after step {}", schedule_.first());
  if (schedule_.build_every() == 1) when += ", anew after every step";
  if (schedule_.build_every() > 1) when += fmt::format(", anew every {} steps", schedule_.build_every());
  if (config_.rebuild.probe_recall) {
    when += fmt::format(", probed every {} and anew below a recall of {}", schedule_.probe_every(),
                        *config_.rebuild.probe_recall);
  }
  if (schedule_.grows()) when += " (steps as large as the first)";
  const GraphMemory memory = graph_memory(context_, head_.shard(), head_.row_columns(), graph.spec());
  const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
  const bool gpu = context_.device().kind() == DeviceKind::cuda;
  const std::string building = gpu ? bytes(memory.device) + " of the GPU's and " + bytes(memory.host) + " of the host's"
                                   : bytes(memory.device + memory.host);
  context_.log.info(
      "graph      {} nearest of each class, {}; {} of host memory a rank, up to {} more while it is built",
      config_.neighbours, when, bytes(memory.kept), building);
  context_.log.info("           at the start {}", state(first_step, total_steps));
}

std::string GraphKeeper::state(int64_t first_step, int64_t total_steps) const {
  const ClassGraph& graph = *head_.graph();
  if (graph.built()) return fmt::format("that which was built at step {}", graph.age().built);
  const int64_t next = std::max(first_step, schedule_.first());
  if (next >= total_steps) return "none in this run, which ends before it: sampling is uniform";
  if (next == first_step) return "none yet: it is built before the first step";
  return fmt::format("none yet: sampling is uniform up to step {}", next);
}

}  // namespace plsc
