// Reads /proc/meminfo, and the limits of control groups: memory.max and memory.current (version 2), or
// memory.limit_in_bytes and memory.usage_in_bytes (version 1), with memory.stat.
#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include "base/control_group.h"

namespace plsc {
namespace {

std::optional<int64_t> number_in(const std::filesystem::path& path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value) return value;
  return {};  // not there, or "max"
}

/// The number behind `key` in a file of "key number" lines; 0: there is none.
int64_t value_of(const std::filesystem::path& path, const std::string& key) {
  std::ifstream in(path);
  int64_t value = 0;
  for (std::string word; in >> word;) {
    if (word == key && in >> value) return value;
    in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

struct Names {
  const char *limit, *used, *cached;
};

}  // namespace

std::optional<int64_t> group_memory(const std::string& membership, const std::string& root) {
  std::optional<int64_t> lowest;
  for (const std::filesystem::path& group : control_groups(membership, root, "memory")) {
    for (const Names& names : {Names{"memory.max", "memory.current", "inactive_file"},
                               Names{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}}) {
      const auto limit = number_in(group / names.limit), used = number_in(group / names.used);
      if (!limit || !used) continue;
      const int64_t cached = std::clamp<int64_t>(value_of(group / "memory.stat", names.cached), 0, *used);
      const int64_t left = std::max<int64_t>(0, *limit - (*used - cached));
      lowest = std::min(left, lowest.value_or(left));
    }
  }
  return lowest;
}

int64_t available_memory() {
  const int64_t kib = value_of("/proc/meminfo", "MemAvailable:");
  const int64_t node = kib > 0 ? kib * 1024 : std::numeric_limits<int64_t>::max();
  return std::min(node, group_memory(control_group_membership(), kControlGroupRoot).value_or(node));
}

int64_t resident_memory() { return value_of("/proc/self/status", "VmRSS:") * 1024; }

std::optional<int64_t> known_memory() {
  const int64_t available = available_memory();
  if (available == std::numeric_limits<int64_t>::max()) return {};
  return available;
}

}  // namespace plsc
