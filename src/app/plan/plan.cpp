#include "app/plan/plan.h"

#include <algorithm>
#include <cmath>

#include "app/plan/step_time.h"
#include "backend/dry/counting.h"
#include "base/clock.h"
#include "base/error.h"
#include "config/step_map.h"

namespace plsc::plan {
namespace {

constexpr double kNeighbour = 4;          // bytes of a neighbour's number
constexpr int kMostAdvisedRanks = 4096;   // that are advised,
constexpr int64_t kMostPasses = 1 << 10;  // and micro-batches

Plan with(const Plan& plan, const Setup& setup) { return make_plan(setup, plan.room, {}); }

/// Bytes that are left on the side that has least; negative where it does not fit.
double left(const Plan& plan) {
  double least = INFINITY;
  if (plan.room.device && plan.on_gpu()) least = *plan.room.device - plan.device_bytes();
  if (const auto host = plan.host_room()) least = std::min(least, *host - plan.host_bytes());
  return least;
}

/// What a number of classes leaves.
struct Tried {
  int64_t classes = 0;
  double left = 0;  // bytes
};
Tried tried(const Plan& plan, int64_t classes) { return {classes, left(with_classes(plan, classes))}; }

bool on_host(const Setup& setup) { return setup.config.head.store.tier == "host"; }

/// To four digits, which is as near as the search comes: two plans of one machine say the same.
int64_t rounded_down(int64_t classes) {
  int64_t step = 1;
  while (classes / step >= 10'000) step *= 10;
  return classes / step * step;
}

bool room_known(const Plan& plan) {
  if (plan.on_gpu() && !plan.room.device) return false;
  return plan.room.host || (plan.on_gpu() && !on_host(plan.setup));
}

/// A change of the configuration that takes less memory.
struct Change {
  std::string text;
  Setup setup;
};

/// Stores that take less of what there is too little of, those that cost least first. Whether class centres fit the
/// host of a GPU is a question only where its memory is known.
std::vector<StoreConfig> smaller_stores(const Plan& plan) {
  const StoreConfig now = plan.setup.config.head.store;
  const StoreConfig rounded{now.tier, "bf16", now.momentum}, half{now.tier, "bf16", "bf16"};
  std::vector<StoreConfig> found{rounded, half};
  if (plan.on_gpu() && plan.room.host) {
    found.push_back({"host", now.dtype, now.momentum});
    found.push_back({"host", "bf16", "bf16"});
  }
  std::erase(found, now);
  return found;
}

/// "head.store: {dtype: bf16}": the keys that change.
std::string store_text(const StoreConfig& from, const StoreConfig& to) {
  std::string keys;
  const auto add = [&](const char* key, const std::string& before, const std::string& after) {
    if (before != after) keys += fmt::format("{}{}: {}", keys.empty() ? "" : ", ", key, after);
  };
  add("tier", from.tier, to.tier);
  add("dtype", from.dtype, to.dtype);
  add("momentum", from.momentum, to.momentum);
  return "head.store: {" + keys + "}";
}

/// "[stem, layer1]", or "all" alone.
std::string list_text(const std::vector<std::string>& parts) {
  if (parts.size() == 1) return parts.front();
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return "[" + text + "]";
}

/// Parts to be computed again, from the images up, where feature maps are largest: each longer than what is there now.
/// Nothing but time is given for them, and the stem costs next to none.
std::vector<std::vector<std::string>> longer_recomputations(const ModelConfig& model) {
  if (model.recompute == std::vector<std::string>{"all"}) return {};
  std::vector<std::vector<std::string>> found;
  std::vector<std::string> parts = model.recompute;
  const auto add = [&](const std::string& part) {
    if (std::ranges::find(parts, part) != parts.end()) return false;
    parts.push_back(part);
    return true;
  };
  add("stem");
  for (size_t stage = 1; stage < model.backbone.blocks.size(); ++stage) {
    if (add(fmt::format("layer{}", stage))) found.push_back(parts);
  }
  found.push_back({"all"});
  return found;
}

/// "16 ranks on 2 hosts": as many hosts as they need, where it is known what one holds.
std::string ranks_text(const Room& room, int ranks) {
  const int hosts = (ranks + room.sharing(ranks) - 1) / room.sharing(ranks);
  return room.host && hosts > 1 ? fmt::format("{} ranks on {} hosts", ranks, hosts) : fmt::format("{} ranks", ranks);
}

std::vector<Change> changes(const Plan& plan) {
  const Setup& now = plan.setup;
  const double centers = plan.run.of(purpose::kCentres) + plan.run.of(purpose::kTheirMomentum);
  const double activations = plan.run.of(purpose::kActivations) + plan.run.of(purpose::kWorkspaces);
  std::vector<Change> found;
  const auto add = [&](const std::string& text, const auto& change) {
    Setup setup = now;
    change(setup);
    found.push_back({text, std::move(setup)});
  };
  const auto smaller_store = [&] {
    for (const StoreConfig& store : smaller_stores(plan))
      add(store_text(now.config.head.store, store), [&](Setup& s) { s.config.head.store = store; });
  };
  const auto smaller_passes = [&] {
    for (const auto& parts : longer_recomputations(now.config.model))
      add("model.recompute: " + list_text(parts), [&](Setup& s) { s.config.model.recompute = parts; });
    const TrainConfig& train = now.config.train;
    const int64_t most = std::min(plan.run.images / growth(train) / train.pipeline, kMostPasses);
    const bool grows = train.grow.factor > 0;
    const int64_t batch = std::max(train.batch_size, train.batch_per_rank);
    const auto cuts = [&](int64_t passes) { return !grows || batch % passes == 0; };
    // The same micro-batches, of which fewer are held at a time: the same training.
    for (int64_t n = 2; n <= train.pipeline; ++n) {
      if (train.pipeline % n != 0 || !cuts(n * train.accumulate)) continue;
      const int64_t passes = n * train.accumulate, pipeline = train.pipeline / n;
      add(fmt::format("train: {{accumulate: {}, pipeline: {}}}", passes, pipeline), [&](Setup& s) {
        s.config.train.accumulate = passes;
        s.config.train.pipeline = pipeline;
      });
    }
    for (int64_t n = 2 * train.accumulate; n <= most && cuts(n); n *= 2)
      add(fmt::format("train.accumulate: {}", n), [&](Setup& s) { s.config.train.accumulate = n; });
  };
  if (centers >= activations) {
    smaller_store();
    smaller_passes();
  } else {
    smaller_passes();
    smaller_store();
  }
  for (int ranks = 2 * now.ranks; ranks <= kMostAdvisedRanks; ranks *= 2)
    add(ranks_text(plan.room, ranks), [&](Setup& s) { s.ranks = ranks; });
  return found;
}

/// "1.2 GiB", and of the host of a GPU what class centres make it take.
std::string taken(const Plan& plan) {
  const std::string own = human_bytes(plan.on_gpu() ? plan.device_bytes() : plan.host_bytes());
  return plan.on_gpu() && on_host(plan.setup) ? own + ", and of its host " + human_bytes(plan.host_bytes()) : own;
}

}  // namespace

std::optional<double> Plan::host_room() const {
  if (!room.host) return std::nullopt;
  return *room.host / room.sharing(setup.ranks);
}

std::optional<double> Plan::images_per_second() const {
  if (!step_seconds || *step_seconds <= 0) return std::nullopt;
  return static_cast<double>(run.images * setup.ranks) / *step_seconds;
}

Room room_beside(std::optional<double> left_of_host, int64_t program, int ranks_of_host) {
  Room room;
  room.ranks_per_host = ranks_of_host;
  if (left_of_host) room.host = *left_of_host + static_cast<double>(program) * ranks_of_host;
  return room;
}

double steady_part(int64_t bytes) {
  int64_t step = 1;
  while (bytes / step >= 128) step *= 2;
  return static_cast<double>(bytes / step * step);
}

bool Plan::fits() const { return left(*this) >= 0; }

Plan with_classes(const Plan& plan, int64_t classes) {
  Setup setup = plan.setup;
  setup.classes = classes;
  return with(plan, setup);
}

int64_t checkpoint_bytes(const Plan& plan) {
  const DryRun& run = plan.run;
  const double rows = run.of(purpose::kCentres) + run.of(purpose::kTheirMomentum) +
                      run.of(purpose::kTheirSecondMoments) + run.of(purpose::kTheirLastUpdates);
  const SamplingConfig& sampling = plan.setup.config.head.sampling;
  const double neighbours = sampling.method == "knn" ? kNeighbour * static_cast<double>(sampling.neighbours) : 0;
  const double a_class = rows / static_cast<double>(run.rows) + neighbours;
  // Every rank writes what it alone has.
  const double momentum = run.of(purpose::kMomentum) + run.own_momentum * (plan.setup.ranks - 1);
  return std::llround(run.of(purpose::kWeights) + momentum + run.of(purpose::kAverages) +
                      a_class * static_cast<double>(plan.setup.classes));
}

Cluster cluster_of(const Plan& plan) {
  const Rates& rates = plan.rates;
  return {plan.setup.ranks, plan.room.ranks_per_host, rates.link, rates.network, rates.latencies, rates.link_of_host};
}

Plan make_plan(const Setup& setup, const Room& room, const Rates& rates) {
  Plan plan;
  plan.setup = setup;
  plan.room = room;
  plan.rates = rates;
  plan.run = dry_run(setup);
  const Cluster cluster = cluster_of(plan);
  plan.phases = timed_phases(plan.run, rates, cluster);
  double sum = 0, exposed = 0, beside = 0;
  for (const DryPhase& phase : plan.run.phases)
    for (const DryWork& work : phase.work) beside += work.beside;
  for (const PhasePlan& phase : plan.phases) {
    sum += phase.seconds.value_or(0);
    exposed += phase.exposed.value_or(0);
  }
  if (std::ranges::all_of(plan.phases, [](const PhasePlan& p) { return p.seconds.has_value(); })) {
    plan.step_seconds = beside > 0 ? std::max(sum, beside / rates.host) : sum;
    plan.exposed_seconds = exposed;
  }
  if (plan.run.graph) plan.graph = timed_alone(*plan.run.graph, rates, cluster);
  return plan;
}

std::optional<int64_t> largest_classes(const Plan& plan) {
  if (!room_known(plan)) return std::nullopt;
  constexpr int64_t kTimes = 16;
  const int64_t most = most_classes(plan.setup);
  Tried below = tried(plan, plan.setup.ranks);  // one a rank
  if (below.left < 0) return 0;
  Tried above = below;
  while (above.left >= 0) {
    if (above.classes == most) return most;
    below = above;
    above = tried(plan, above.classes > most / kTimes ? most : kTimes * above.classes);
  }
  // Memory grows with the classes nearly along a line: the secant finds the place, and bisection makes sure of it.
  for (int turn = 0; turn < 24; ++turn) {
    const int64_t between = above.classes - below.classes;
    if (between <= std::max<int64_t>(below.classes / 2000, plan.setup.ranks)) break;
    const double at = turn % 3 == 2 ? 0.5 : std::clamp(below.left / (below.left - above.left), 0.001, 0.999);
    const Tried middle =
        tried(plan, below.classes + std::max<int64_t>(1, std::llround(at * static_cast<double>(between))));
    (middle.left >= 0 ? below : above) = middle;
  }
  return rounded_down(below.classes);
}

std::optional<int64_t> largest_replicated(const Plan& plan) {
  const HeadConfig& head = plan.setup.config.head;
  if (plan.setup.ranks == 1 || head.sampling.method != "full" || !(head.store == StoreConfig{})) return std::nullopt;
  const std::optional<double> room = plan.on_gpu() ? plan.room.device : plan.host_room();
  if (!room) return std::nullopt;
  const Plan least = with_classes(plan, plan.setup.ranks);
  const double columns = static_cast<double>(plan.setup.config.model.embedding_size);
  const double a_class = counting::kValue * (3 * columns + 2 * static_cast<double>(plan.run.images));
  return static_cast<int64_t>(
      std::max(0.0, (*room - (plan.on_gpu() ? least.device_bytes() : least.host_bytes())) / a_class));
}

std::string advice(const Plan& plan) {
  if (plan.fits()) return "";
  for (const Change& change : changes(plan)) {
    try {
      const Plan changed = with(plan, change.setup);
      if (!changed.fits()) continue;
      return fmt::format("{}: then a rank takes {}", change.text, taken(changed));
    } catch (const Error&) {  // no training at all: a batch that is too small for so many ranks
    }
  }
  return "fewer classes, a smaller model.embedding_size or model.backbone: no other single change is enough";
}

std::string headline(const Plan& plan) {
  const auto of = [](const std::optional<double>& room) { return room ? " of " + human_bytes(*room) : ""; };
  const bool host_too = plan.on_gpu() && on_host(plan.setup);
  std::vector<Purpose> most = plan.run.device;
  if (host_too || !plan.on_gpu()) most.insert(most.end(), plan.run.host.begin(), plan.run.host.end());
  std::ranges::stable_sort(most, [](const Purpose& a, const Purpose& b) { return a.bytes > b.bytes; });
  std::string text = plan.on_gpu() ? human_bytes(plan.device_bytes()) + of(plan.room.device)
                                   : human_bytes(plan.host_bytes()) + of(plan.host_room());
  text += " a rank";
  if (host_too) text += ", " + human_bytes(plan.host_bytes()) + of(plan.host_room()) + " of host memory";
  for (size_t i = 0; i < 3; ++i)
    text += fmt::format("{} {} {}", i == 0 ? ":" : ",", most[i].name, human_bytes(most[i].bytes));
  if (plan.step_seconds) text += fmt::format("; a step {:.3g} s", *plan.step_seconds);
  return text;
}

}  // namespace plsc::plan
