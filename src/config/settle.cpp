#include "config/settle.h"

#include <algorithm>
#include <vector>

namespace plsc {
namespace {

std::string or_none(const std::string& expected) { return expected + ", or the key left out"; }

}  // namespace

void settle_optimizer(Config& config, const Origins& origins) {
  OptimizerConfig& o = config.optimizer;
  const OptimizerConfig unset;
  const std::string head = o.head.name == "auto" ? o.name : o.head.name;
  const Choice choice{origins,
                      fmt::format("with optimizer.name {}{}", o.name,
                                  head == o.name ? "" : fmt::format(" and optimizer.head.name {}", head)),
                      origins.on_command_line("optimizer.name") || origins.on_command_line("optimizer.head.name")};
  // `kinds`: the optimizers that use it.
  const auto settle = [&](const char* name, auto member, const std::vector<std::string>& kinds) {
    const auto used = [&](const std::string& kind) { return std::ranges::find(kinds, kind) != kinds.end(); };
    if (used(o.name) || used(head)) return;
    settle_unused(choice, std::string("optimizer.") + name, o.*member, unset.*member,
                  or_none(fmt::format("optimizer.name {}", fmt::join(kinds, " or "))));
  };
  settle("momentum", &OptimizerConfig::momentum, {"sgd", "lars"});
  settle("nesterov", &OptimizerConfig::nesterov, {"sgd"});
  settle("beta1", &OptimizerConfig::beta1, {"adamw", "lamb"});
  settle("beta2", &OptimizerConfig::beta2, {"adamw", "lamb"});
  settle("epsilon", &OptimizerConfig::epsilon, {"adamw", "lamb"});
  settle("trust", &OptimizerConfig::trust, {"lars"});
}

void settle_sampling(SamplingConfig& s, const Origins& origins) {
  const SamplingConfig unset;
  const Choice choice{origins, "with head.sampling.method " + s.method,
                      origins.on_command_line("head.sampling.method")};
  const auto settle = [&](const char* name, auto& value, const auto& without, const char* methods) {
    settle_unused(choice, std::string("head.sampling.") + name, value, without,
                  or_none(std::string("head.sampling.method ") + methods));
  };
  if (s.method == "full") {
    settle("ratio", s.ratio, unset.ratio, "uniform or knn");
    settle("active", s.active, unset.active, "uniform or knn");
  }
  if (s.method == "knn") return;
  settle("neighbours", s.neighbours, unset.neighbours, "knn");
  settle("uniform_share", s.uniform_share, unset.uniform_share, "knn");
  settle("scoring", s.scoring, unset.scoring, "knn");
  double every = s.rebuild.every_epochs.value_or(1), probe = s.rebuild.probe_recall.value_or(0);
  settle("rebuild.every_epochs", every, 1.0, "knn");
  settle("rebuild.probe_recall", probe, 0.0, "knn");
  s.rebuild = {};
}

void settle_schedule(ScheduleConfig& s, const Origins& origins) {
  const ScheduleConfig unset;
  const Choice choice{origins, "with schedule.name " + s.name, origins.on_command_line("schedule.name")};
  const auto settle = [&](const char* name, auto member, const std::vector<std::string>& schedules) {
    if (std::ranges::find(schedules, s.name) != schedules.end()) return;
    settle_unused(choice, std::string("schedule.") + name, s.*member, unset.*member,
                  or_none(fmt::format("schedule.name {}", fmt::join(schedules, " or "))));
  };
  settle("power", &ScheduleConfig::power, {"poly"});
  settle("milestones", &ScheduleConfig::milestones, {"step"});
  settle("milestone_steps", &ScheduleConfig::milestone_steps, {"step"});
  settle("factor", &ScheduleConfig::factor, {"step"});
  settle("final_lr", &ScheduleConfig::final_lr, {"poly", "cosine", "one_cycle"});
}

void settle_switches(Config& config, const Origins& origins) {
  const auto off = [&](const std::string& section, const char* key) {
    return [&origins, section,
            choice = Choice{origins, fmt::format("without {}.{}", section, key),
                            origins.on_command_line(fmt::format("{}.{}", section, key))}](
               const char* name, auto& value, const auto& unset, const std::string& expected) {
      settle_unused(choice, fmt::format("{}.{}", section, name), value, unset, expected);
    };
  };
  if (CompressConfig& k = config.comm.compress; !k.on()) {
    const CompressConfig unset;
    const auto settle = off("comm.compress", "method");
    const std::string expected = or_none("comm: {compress: {method: topk}}");
    settle("ratio", k.ratio, unset.ratio, expected);
    settle("warmup_epochs", k.warmup_epochs, unset.warmup_epochs, expected);
    settle("exclude", k.exclude, unset.exclude, expected);
    settle("intra_node", k.intra_node, unset.intra_node, expected);
  }
  if (GrowConfig& grow = config.train.grow; grow.factor == 0) {
    const auto settle = off("train.grow", "factor");
    settle("from_epoch", grow.from_epoch, 0.0, "both or none");
    settle("until_epoch", grow.until_epoch, 0.0, "both or none");
  }
  if (EmaConfig& ema = config.train.ema; ema.decay == 0)
    off("train.ema", "decay")("every", ema.every, EmaConfig{}.every, "both or none");
}

}  // namespace plsc
