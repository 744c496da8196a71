#include "app/plan/outlook.h"

#include <algorithm>

namespace plsc::plan {
namespace {

const Unknown kGpu{"GPU", "--device-memory"}, kHost{"host", "--host-memory"};

bool host_matters(const Plan& plan) { return !plan.on_gpu() || plan.setup.config.head.store.tier == "host"; }

std::vector<Unknown> unknown_rooms(const Plan& plan) {
  std::vector<Unknown> found;
  if (plan.on_gpu() && !plan.room.device) found.push_back(kGpu);
  if (host_matters(plan) && !plan.room.host) found.push_back(kHost);
  return found;
}

/// Rates that a plan's times hang on.
struct Needed {
  bool half = false, host = false, link = false;
};
Needed needed_by(const Plan& plan) {
  Needed out;
  const auto add = [&](const DryPhase& phase) {
    out.link = out.link || phase.wire > 0;
    for (const DryWork& work : phase.work) {
      out.half = out.half || is_half(work.type);
      out.host = out.host || work.far + work.beside > 0;
    }
  };
  for (const DryPhase& phase : plan.run.phases) add(phase);
  if (plan.run.graph) add(*plan.run.graph);
  return out;
}

void add_unknown_wires(const Cluster& cluster, std::vector<Unknown>& found) {
  if (cluster.known()) return;
  const bool between = cluster.lacks_network();
  if (cluster.link <= 0 && !(between && cluster.ranks_per_host == 1)) found.push_back({"link", "--link-gbps"});
  if (between) found.push_back({"network between hosts", "--network-gbps"});
}

std::vector<Unknown> unknown_rates(const Plan& plan) {
  const Needed needed = needed_by(plan);
  const Rates& rates = plan.rates;
  const bool in_half = is_half(plan.setup.arithmetic.activations);
  std::vector<Unknown> found;
  if (rates.fp32 <= 0) found.push_back({"products", "--tflops", true});
  // A network in fp32 whose class graph is scored in bf16: --tflops is of the network.
  if (needed.half && rates.half <= 0 && !(in_half && rates.fp32 <= 0))
    found.push_back({"16-bit products", in_half ? "--tflops" : "", true});
  if (rates.memory <= 0) found.push_back({"memory", "--memory-gbps", true});
  if (needed.host && rates.host <= 0) found.push_back({"to and from the host", "--host-gbps", true});
  if (needed.link) add_unknown_wires(cluster_of(plan), found);
  return found;
}

std::string with_option(const Unknown& unknown, RateSource source) {
  std::string by = unknown.option;
  if (unknown.measurable && source.measurable && !source.measured) by += by.empty() ? "--measure" : " or --measure";
  return by.empty() ? unknown.what : fmt::format("{} ({})", unknown.what, by);
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

}  // namespace

Outlook outlook_of(const Plan& plan, bool with_advice) {
  Outlook out;
  out.largest = largest_classes(plan);
  out.capped = out.largest == most_classes(plan.setup);
  if (out.largest.value_or(0) > 0 && !out.capped) out.replicated = largest_replicated(plan);
  if (with_advice) out.advice = advice(plan);
  out.rooms = unknown_rooms(plan);
  out.rates = unknown_rates(plan);
  return out;
}

std::string unjudged_text(const Outlook& outlook) {
  if (outlook.rooms.empty()) return "";
  std::string what, options;
  for (const Unknown& room : outlook.rooms) {
    what += (what.empty() ? "the " : " and the ") + room.what;
    options += (options.empty() ? "" : " and ") + room.option;
  }
  return fmt::format("whether it fits {} was not judged, nor how many classes would: not known without {}", what,
                     options);
}

std::string rates_text(const std::vector<const Plan*>& plans, RateSource source) {
  if (plans.empty()) return "";
  Needed needed;
  std::vector<Unknown> unknown;
  for (const Plan* plan : plans) {
    const Needed more = needed_by(*plan);
    needed = {needed.half || more.half, needed.host || more.host, needed.link || more.link};
    for (const Unknown& rate : unknown_rates(*plan))
      if (std::ranges::find(unknown, rate) == unknown.end()) unknown.push_back(rate);
  }
  const Rates& rates = plans.front()->rates;
  std::vector<std::string> known, missing;
  if (rates.half > 0) known.push_back(fmt::format("16 bit {:.4g} TFLOP/s", rates.half / 1e12));
  if (rates.fp32 > 0)
    known.push_back(fmt::format("fp32 {:.4g} TFLOP/s{}", rates.fp32 / 1e12, rates.fp32_assumed ? " (assumed)" : ""));
  if (rates.memory > 0) known.push_back(fmt::format("memory {:.4g} GB/s", rates.memory / 1e9));
  if (needed.host && rates.host > 0) known.push_back(fmt::format("to and from the host {:.4g} GB/s", rates.host / 1e9));
  if (needed.link && rates.link > 0) known.push_back(fmt::format("link {:.4g} GB/s", rates.link / 1e9));
  if (needed.link && rates.network > 0)
    known.push_back(fmt::format("network of a host {:.4g} GB/s", rates.network / 1e9));
  for (const Unknown& rate : unknown) missing.push_back(with_option(rate, source));
  if (known.empty()) return "time: not known without the rates of " + joined(missing);
  std::string from = !source.measured ? "as given" : source.given ? "measured here and as given" : "measured here";
  if (!source.gpu.empty())
    from = fmt::format("of {} as --help says{}", source.gpu, source.given ? " and as given" : "");
  std::string text = fmt::format("rates {}: {}", from, joined(known));
  if (!missing.empty()) text += "; a time is not known (?) where it hangs on " + joined(missing);
  return text;
}

}  // namespace plsc::plan
