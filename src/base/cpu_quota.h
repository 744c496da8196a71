// The CPU share that a container allows, from the control groups (versions 1 and 2). Roots are arguments for tests.
#pragma once
#include <string>

namespace plsc {

/// Cores' worth of time that this process's control group and its parents allow; 0 where there is no limit.
/// `membership` is the text of /proc/self/cgroup, `root` where the groups are mounted (/sys/fs/cgroup).
double cpu_quota(const std::string& membership, const std::string& root);
/// Of this process.
double cpu_quota();

}  // namespace plsc
