#include "app/plan/print.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "app/quantity.h"
#include "base/clock.h"
#include "config/step_map.h"

namespace plsc::plan {
namespace {

using Json = nlohmann::ordered_json;

std::string grouped(int64_t n) { return quantity(static_cast<double>(n), ""); }
std::string giga(double x, const char* unit) { return x == 0 ? "-" : fmt::format("{:.4g} {}", x / 1e9, unit); }
std::string time_text(const std::optional<double>& seconds) { return seconds ? quantity(*seconds, "s") : "?"; }
std::string rate_text(const std::optional<double>& rate) {
  return rate ? fmt::format("{:.{}f}", *rate, *rate < 10 ? 2 : 0) : "?";
}
std::string of_room(const std::optional<double>& room) { return room ? " of " + human_bytes(*room) : ""; }

/// What all of them share: "bf16; 1,000,000 classes x 512, full softmax".
std::string work(const Plan& plan) {
  const Setup& s = plan.setup;
  const SamplingConfig& sampling = s.config.head.sampling;
  const std::string active = sampling.method == "full" ? "full softmax"
                             : sampling.active > 0
                                 ? fmt::format("{} {} active", sampling.method, grouped(sampling.active))
                                 : fmt::format("{} ratio {}", sampling.method, sampling.ratio);
  const StoreConfig& store = s.config.head.store;
  return fmt::format("{}; {} classes x {} in {}{}{}, {}", s.arithmetic.precision, grouped(s.classes),
                     s.config.model.embedding_size, store.dtype,
                     store.momentum == store.dtype ? "" : " with momentum in " + store.momentum,
                     store.tier == "host" ? " in host memory" : "", active);
}

std::string title(const Plan& plan) {
  const Setup& s = plan.setup;
  std::string of_step = "a step";
  if (s.config.train.grow.factor > 0) {
    of_step =
        fmt::format("a step at the end, where the batch is {} times as large as at first (train.grow): that is planned",
                    s.config.train.grow.factor);
  }
  return fmt::format("{} rank{} on {}, {}; a rank has {} classes and {} images {}\n", s.ranks, s.ranks == 1 ? "" : "s",
                     plan.on_gpu() ? "GPUs" : "CPUs", work(plan), grouped(plan.run.rows), plan.run.images, of_step);
}

std::string row(const std::string& name, double bytes) {
  return bytes == 0 ? "" : fmt::format("  {:<24}{:>12}\n", name, human_bytes(bytes));
}

std::string memory_table(const Plan& plan) {
  // Not each purpose's own peak: these add up, and fit or do not.
  std::string out =
      fmt::format("\n{}emory of a rank at its peak ({})\n", plan.on_gpu() ? "GPU m" : "m", plan.run.moment);
  for (const Purpose& p : plan.run.device) out += row(p.name, p.bytes);
  out += row("kept for reuse", plan.run.kept);
  if (plan.on_gpu())
    out += fmt::format(
        "  {:<24}{:>12}{}\n  {:<24}{:>12}, to be used again and for recordings; not judged\n\nhost memory of a rank\n",
        "together", human_bytes(plan.device_bytes()), of_room(plan.room.device), "kept beyond that",
        human_bytes(std::max(0.0, plan.run.counted - plan.device_bytes())));
  for (const Purpose& p : plan.run.host) out += row(p.name, p.bytes);
  return out + fmt::format("  {:<24}{:>12}{}\n", "together", human_bytes(plan.host_bytes()), of_room(plan.host_room()));
}

/// "" where gradients are not compressed, or from the first step on as they are later.
std::string warm_up_text(const Plan& plan) {
  const int64_t epochs = plan.run.warm_up;
  if (epochs == 0) return "";
  return fmt::format(
      "sent and time are of a step behind the warm-up of comm.compress ({} epoch{}), in which more is sent; memory is "
      "the warm-up's\n",
      epochs, epochs == 1 ? "" : "s");
}

std::string step_table(const Plan& plan) {
  constexpr const char* kRow = "  {:<16}{:>14}{:>14}{:>14}{:>12}\n";
  std::string out = "\n" + fmt::format(kRow, "a step of a rank", "GFLOP", "memory moved", "sent", "time");
  PhasePlan sum;
  for (const PhasePlan& p : plan.phases) {
    out += fmt::format(kRow, p.name.empty() ? "before" : p.name, giga(p.flop, ""), giga(p.bytes, "GB"),
                       giga(p.wire, "GB"), time_text(p.seconds));
    sum.flop += p.flop;
    sum.bytes += p.bytes;
    sum.far += p.far;
    sum.wire += p.wire;
  }
  out += fmt::format(kRow, "together", giga(sum.flop, ""), giga(sum.bytes, "GB"), giga(sum.wire, "GB"),
                     time_text(plan.step_seconds));
  if (sum.far > 0) out += fmt::format("  and {} between the GPU and its host's memory\n", giga(sum.far, "GB"));
  if (plan.images_per_second())
    out += fmt::format("  {} images/s over all ranks\n", rate_text(plan.images_per_second()));
  if (plan.exposed_seconds.value_or(0) > 0)
    out += fmt::format("  {} of the step waits for other ranks\n", time_text(plan.exposed_seconds));
  if (plan.run.warm_up > 0) out += "  " + warm_up_text(plan);
  if (plan.graph) {
    const std::string far = plan.graph->far > 0 ? giga(plan.graph->far, "GB") + " from its host's memory, " : "";
    out +=
        fmt::format("  the class graph, each time that it is built: {} on each rank, {}{} sent, {}\n",
                    giga(plan.graph->flop, "GFLOP"), far, giga(plan.graph->wire, "GB"), time_text(plan.graph->seconds));
  }
  return out;
}

/// Why there cannot be more classes, where memory is not it.
std::string cap_text(const Plan& plan) {
  return fmt::format("memory is not what ends it, but {}", plan.setup.config.head.sampling.method == "knn"
                                                               ? "how many classes a class graph can have"
                                                               : "how many classes a plan counts");
}

Json bytes_of(const std::vector<Purpose>& purposes) {
  Json out = Json::object();
  for (const Purpose& p : purposes) out[p.name] = p.bytes;
  return out;
}
template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json phase_of(const PhasePlan& p) {
  return {{"phase", p.name},
          {"flop", p.flop},
          {"bytes", p.bytes},
          {"far", p.far},
          {"sent", p.wire},
          {"seconds", or_null(p.seconds)},
          {"exposed", or_null(p.exposed)}};
}

Json options_of(const std::vector<Unknown>& unknown) {
  Json out = Json::array();
  for (const Unknown& u : unknown) out.push_back(u.option.empty() ? "--measure" : u.option);
  return out;
}

Json object(const Plan& plan, const Outlook& outlook) {
  Json phases = Json::array();
  for (const PhasePlan& p : plan.phases) {
    phases.push_back(phase_of(p));
    phases.back()["messages"] = p.messages;
  }
  return {{"ranks", plan.setup.ranks},
          {"device", plan.on_gpu() ? "cuda" : "cpu"},
          {"precision", plan.setup.arithmetic.precision},
          {"classes", plan.setup.classes},
          {"rows", plan.run.rows},
          {"active", plan.run.active},
          {"images", plan.run.images},
          {"growth", growth(plan.setup.config.train)},
          {"parameters", plan.run.parameters},
          {"moment", plan.run.moment},
          {"memory", bytes_of(plan.run.device)},
          {"kept", plan.run.kept},
          {"counted", plan.run.counted},
          {"host_memory", bytes_of(plan.run.host)},
          {"device_bytes", plan.device_bytes()},
          {"host_bytes", plan.host_bytes()},
          {"device_room", or_null(plan.room.device)},
          {"host_room", or_null(plan.host_room())},
          {"fits", plan.fits()},
          {"phases", phases},
          {"graph", plan.graph ? phase_of(*plan.graph) : Json(nullptr)},
          {"step_seconds", or_null(plan.step_seconds)},
          {"exposed_seconds", or_null(plan.exposed_seconds)},
          {"images_per_second", or_null(plan.images_per_second())},
          {"largest_classes", or_null(outlook.largest)},
          {"largest_capped", outlook.capped},
          {"largest_replicated", or_null(outlook.replicated)},
          {"advice", outlook.advice.empty() ? Json(nullptr) : Json(outlook.advice)},
          {"missing_room", options_of(outlook.rooms)},
          {"missing_rates", options_of(outlook.rates)}};
}

}  // namespace

std::string table(const Plan& plan, const Outlook& outlook, const std::string& rates) {
  std::string out = title(plan) + memory_table(plan) + step_table(plan);
  if (!rates.empty()) out += "  " + rates + "\n";
  out += "\n";
  if (const std::string text = unjudged_text(outlook); !text.empty()) out += text + "\n";
  if (outlook.largest)
    out += fmt::format("at most {} classes would fit{}\n", grouped(*outlook.largest),
                       outlook.capped ? ": " + cap_text(plan) : "");
  if (outlook.replicated && *outlook.replicated > 0)
    out += fmt::format(
        "with all classes on each rank, logits stored: at most {}; sharded it is {:.1f} times as many "
        "(PLSC states 2.52 for its own, on 8 V100)\n",
        grouped(*outlook.replicated), static_cast<double>(*outlook.largest) / static_cast<double>(*outlook.replicated));
  if (!outlook.advice.empty()) out += "it does not fit; the first thing to change: " + outlook.advice + "\n";
  return out;
}

std::string json(const Plan& plan, const Outlook& outlook) { return object(plan, outlook).dump(1) + "\n"; }

std::string sweep_table(const std::vector<SweepRow>& rows, const std::string& rates) {
  const auto some = std::ranges::find_if(rows, [](const SweepRow& r) { return r.plan.has_value(); });
  // Of GPUs the memory is theirs; where class centres are their host's it has a column, too.
  const bool with_host =
      some != rows.end() && some->plan->on_gpu() && some->plan->setup.config.head.store.tier == "host";
  const auto line = [&](const std::string& host, const auto&... cells) {
    const auto& [ranks, a_rank, memory, flop, wire, step, waits, images, fits, most] = std::tie(cells...);
    return fmt::format("{:>6}{:>16}{:>14}{}{:>14}{:>14}{:>10}{:>10}{:>10}{:>6}{:>18}\n", ranks, a_rank, memory,
                       with_host ? fmt::format("{:>14}", host) : "", flop, wire, step, waits, images, fits, most);
  };
  std::string out = some != rows.end() ? work(*some->plan) + "\n" : "";
  out += line("host memory", "ranks", "classes a rank", with_host ? "GPU memory" : "memory", "GFLOP", "sent a step",
              "step", "waits", "images/s", "fits", "at most classes");
  bool capped = false;
  for (const SweepRow& r : rows) {
    if (!r.plan) {
      out += fmt::format("{:>6}{:>16}  {}\n", r.ranks, "-", r.error);
      continue;
    }
    const Plan& plan = *r.plan;
    double flop = 0, wire = 0;
    for (const PhasePlan& p : plan.phases) {
      flop += p.flop;
      wire += p.wire;
    }
    capped = capped || r.outlook.capped;
    const char* fits = !plan.fits() ? "no" : r.outlook.rooms.empty() ? "yes" : "?";
    out += line(human_bytes(plan.host_bytes()), r.ranks, grouped(plan.run.rows),
                human_bytes(plan.on_gpu() ? plan.device_bytes() : plan.host_bytes()), giga(flop, ""), giga(wire, "GB"),
                time_text(plan.step_seconds), time_text(plan.exposed_seconds), rate_text(plan.images_per_second()),
                fits, r.outlook.largest ? grouped(*r.outlook.largest) + (r.outlook.capped ? "*" : "") : "?");
  }
  if (some == rows.end()) return out;
  if (capped) out += "* " + cap_text(*some->plan) + "\n";
  out += warm_up_text(*some->plan);
  if (!rates.empty()) out += rates + "\n";
  if (const std::string text = unjudged_text(some->outlook); !text.empty()) out += text + "\n";
  return out;
}

std::string sweep_json(const std::vector<SweepRow>& rows) {
  Json out = Json::array();
  for (const SweepRow& r : rows) {
    if (!r.plan) {
      out.push_back({{"ranks", r.ranks}, {"fits", false}, {"error", r.error}});
      continue;
    }
    out.push_back(object(*r.plan, r.outlook));
  }
  return out.dump(1) + "\n";
}

}  // namespace plsc::plan
