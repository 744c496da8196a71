// Which keys an optimizer uses, and what of them cannot be combined.
#include <algorithm>

#include "base/error.h"
#include "config/validate.h"

namespace plsc {
namespace {

/// Something that was given and has no effect is never what was meant.
class UnusedKeys {
 public:
  UnusedKeys(OptimizerConfig& config, const Origins& origins)
      : config_(config),
        origins_(origins),
        head_(config.head.name == "auto" ? config.name : config.head.name),
        chosen_(origins.on_command_line("optimizer.name") || origins.on_command_line("optimizer.head.name")) {}

  /// `kinds`: the optimizers that use it.
  template <class T>
  void settle(const char* name, T OptimizerConfig::*member, const std::vector<std::string>& kinds) {
    const OptimizerConfig unset;
    const auto used = [&](const std::string& kind) { return std::ranges::find(kinds, kind) != kinds.end(); };
    if (config_.*member == unset.*member || used(config_.name) || used(head_)) return;
    const std::string key = std::string("optimizer.") + name;
    if (chosen_ && !origins_.on_command_line(key)) {
      config_.*member = unset.*member;
      return;
    }
    std::string words;
    for (const std::string& kind : kinds) words += (words.empty() ? "" : " or ") + kind;
    const std::string beside = head_ == config_.name ? "" : fmt::format(" and optimizer.head.name {}", head_);
    fail("{}: found {} with optimizer.name {}{}, expected optimizer.name {}, or the key left out", origins_.at(key),
         config_.*member, config_.name, beside, words);
  }

 private:
  OptimizerConfig& config_;
  const Origins& origins_;
  std::string head_;
  bool chosen_;
};

}  // namespace

void settle_optimizer(Config& config, const Origins& origins) {
  OptimizerConfig& o = config.optimizer;
  UnusedKeys unused(o, origins);
  unused.settle("momentum", &OptimizerConfig::momentum, {"sgd", "lars"});
  unused.settle("nesterov", &OptimizerConfig::nesterov, {"sgd"});
  unused.settle("beta1", &OptimizerConfig::beta1, {"adamw", "lamb"});
  unused.settle("beta2", &OptimizerConfig::beta2, {"adamw", "lamb"});
  unused.settle("epsilon", &OptimizerConfig::epsilon, {"adamw", "lamb"});
  unused.settle("trust", &OptimizerConfig::trust, {"lars"});
  if (o.nesterov && o.momentum == 0)
    fail("{}: found true with optimizer.momentum 0, expected momentum above 0", origins.at("optimizer.nesterov"));
  if (!o.decay_norms && o.norms.weight_decay.value_or(0) != 0)
    fail("{}: found {} with optimizer.decay_norms false, which is a weight_decay of 0, expected one of the two",
         origins.at("optimizer.norms.weight_decay"), *o.norms.weight_decay);
  const std::string& head = o.head.name == "auto" ? o.name : o.head.name;
  if (head == "lamb" && config.head.sampling.method != "full" && config.head.update == "dense")
    fail(
        "{}: found dense with class centres that are updated by lamb and sampled ({}), expected head.update lazy: a "
        "step of lamb without a gradient depends on the length that a centre has in that step, so that those left out "
        "cannot be caught up in one",
        origins.at("head.update"), origins.at(o.head.name == "auto" ? "optimizer.name" : "optimizer.head.name"));
}

}  // namespace plsc
