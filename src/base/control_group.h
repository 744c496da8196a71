// The control groups (versions 1 and 2) that this process is in: where containers and schedulers set limits.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace plsc {

/// The folders that may hold `controller`'s limits for this process: its own group's and its parents', whose limits
/// hold for it too. In a container the own group's path may not be mounted, and the container's limit is then at the
/// root. `membership` is the text of /proc/self/cgroup, `root` where the groups are mounted (/sys/fs/cgroup).
std::vector<std::filesystem::path> control_groups(const std::string& membership, const std::string& root,
                                                  const std::string& controller);

/// The text of /proc/self/cgroup; empty where there is none.
std::string control_group_membership();
constexpr const char* kControlGroupRoot = "/sys/fs/cgroup";

}  // namespace plsc
