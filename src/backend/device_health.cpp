// Which GPUs a list of architectures covers, by NVIDIA's rules: machine code runs on its own generation from its own
// minor number on, PTX on everything later.
#include "backend/device_health.h"

#include <algorithm>
#include <charconv>
#include <sstream>

namespace plsc {

GpuCode code_for(int capability, const std::string& architectures) {
  GpuCode best = GpuCode::none;
  std::istringstream list(architectures);
  for (std::string entry; std::getline(list, entry, ',');) {
    int number = 0;
    const auto [rest, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    if (error != std::errc()) return GpuCode::unknown;
    const std::string kind(rest, static_cast<const char*>(entry.data() + entry.size()));
    // "90a": for that very GPU alone; "100f": for its generation. Neither has PTX for later ones.
    const bool special = !kind.empty() && kind.front() != '-';
    const bool machine_code = kind.find("-virtual") == std::string::npos;
    const bool ptx = kind.find("-real") == std::string::npos && !special;
    const bool runs =
        number == capability || (!kind.starts_with('a') && number / 10 == capability / 10 && number <= capability);
    if (machine_code && runs) return GpuCode::native;
    if (ptx && number <= capability) best = GpuCode::ptx;
  }
  return best;
}

}  // namespace plsc
