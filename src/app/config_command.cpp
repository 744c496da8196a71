// plsc-train config: the effective configuration, each value with where it came from.
#include <algorithm>
#include <cstdio>

#include "app/commands.h"
#include "base/error.h"

namespace plsc {

int config_command(const CommandLine& line) {
  if (line.reference) {
    fmt::print("{}", config_reference());
    return 0;
  }
  const LoadedConfig loaded = load_config(line.config, line.overrides);
  size_t width = 0;
  for (const ValueOrigin& v : loaded.values)
    width = std::max(width, std::min<size_t>(48, v.key.size() + v.value.size()));
  for (const ValueOrigin& v : loaded.values) {
    fmt::print("{}: {:<{}}  # {}\n", v.key, v.value, width - std::min(width, v.key.size()), v.origin);
  }
  return 0;
}

}  // namespace plsc
