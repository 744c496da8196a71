// Keys that another key's value leaves without effect.
#pragma once
#include <fmt/ranges.h>

#include <string>

#include "base/error.h"
#include "config/validate.h"

namespace plsc {

/// A value that leaves other keys without effect.
struct Choice {
  const Origins& origins;
  std::string words;             // "with optimizer.name adamw"
  bool on_command_line = false;  // made there
};

/// Something that was given and has no effect is never what was meant: Error that says what is `expected` instead. But
/// where the choice was made on the command line and the key was given by the file, the key rests: it becomes `unset`.
template <class T>
void settle_unused(const Choice& choice, const std::string& key, T& value, const T& unset,
                   const std::string& expected) {
  if (value == unset) return;
  if (!choice.on_command_line || choice.origins.on_command_line(key))
    fail("{}: found {} {}, expected {}", choice.origins.at(key), value, choice.words, expected);
  value = unset;
}

/// Each settles its part's keys, in this way; what cannot be combined is for complete_and_validate.
void settle_optimizer(Config& config, const Origins& origins);
void settle_sampling(SamplingConfig& sampling, const Origins& origins);
void settle_schedule(ScheduleConfig& schedule, const Origins& origins);
/// What is on or off as a whole: comm.compress, train.grow, train.ema.
void settle_switches(Config& config, const Origins& origins);

}  // namespace plsc
