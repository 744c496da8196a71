// Reads cpu.max (version 2) or cpu.cfs_quota_us and cpu.cfs_period_us (version 1) of the own group and its parents.
#include "base/cpu_quota.h"

#include <fstream>
#include <sstream>

#include "base/control_group.h"

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

}  // namespace

double cpu_quota(const std::string& membership, const std::string& root) {
  double lowest = 0;
  for (const std::filesystem::path& group : control_groups(membership, root, "cpu")) {
    const double limit = limit_of(group);
    if (limit > 0 && (lowest == 0 || limit < lowest)) lowest = limit;
  }
  return lowest;
}

double cpu_quota() { return cpu_quota(control_group_membership(), kControlGroupRoot); }

}  // namespace plsc
