// What one key alone cannot show to be wrong: combinations.
#pragma once
#include <map>
#include <string>

#include "config/config.h"

namespace plsc {

/// Where each key that the user gave stands; a key that is missing has its default.
struct Origins {
  std::string file;  // for what is missing
  std::map<std::string, std::string> given;

  /// "file.yaml:12: train.batch_size", or "file.yaml: train.batch_size" for a default.
  std::string at(const std::string& key) const;
  bool on_command_line(const std::string& key) const;
};

/// Fills in what follows from other keys, then throws Error for the first combination that cannot be.
void complete_and_validate(Config& config, const Origins& origins);

}  // namespace plsc
