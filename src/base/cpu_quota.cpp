// Reads cpu.max (version 2) or cpu.cfs_quota_us and cpu.cfs_period_us (version 1) of the own group and its parents.
#include "base/cpu_quota.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace plsc {
namespace {

double share(const std::string& quota, double period) {
  std::istringstream in(quota);
  double amount = 0;
  // "max" and -1 mean no limit.
  return in >> amount && amount > 0 && period > 0 ? amount / period : 0;
}

double limit_of(const std::filesystem::path& group) {
  if (std::ifstream in(group / "cpu.max"); in) {
    std::string quota;
    double period = 0;
    return in >> quota >> period ? share(quota, period) : 0;
  }
  std::ifstream quota_in(group / "cpu.cfs_quota_us"), period_in(group / "cpu.cfs_period_us");
  std::string quota;
  double period = 0;
  return quota_in >> quota && period_in >> period ? share(quota, period) : 0;
}

double lower(double a, double b) {
  if (a == 0) return b;
  return b == 0 || a < b ? a : b;
}

/// The lowest limit of `group` below `root` and of all folders between them. In a container the own group's path may
/// not be mounted, and the container's limit is then at the root.
double lowest_limit(const std::filesystem::path& root, const std::string& group) {
  double lowest = limit_of(root);
  std::filesystem::path folder = root;
  for (const auto& part : std::filesystem::path(group).relative_path()) {
    if (part == "..") break;
    folder /= part;
    lowest = lower(lowest, limit_of(folder));
  }
  return lowest;
}

}  // namespace

double cpu_quota(const std::string& membership, const std::string& root) {
  double lowest = 0;
  std::istringstream lines(membership);
  // A line is "number:controllers:path"; version 2 is "0::path".
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      lowest = lower(lowest, lowest_limit(root, group));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      for (const char* mount : {"cpu", "cpu,cpuacct"}) {
        lowest = lower(lowest, lowest_limit(std::filesystem::path(root) / mount, group));
      }
    }
  }
  return lowest;
}

double cpu_quota() {
  std::ifstream in("/proc/self/cgroup");
  std::stringstream text;
  text << in.rdbuf();
  return cpu_quota(text.str(), "/sys/fs/cgroup");
}

}  // namespace plsc
