// The CPU share that a container allows, from the control groups (versions 1 and 2). Roots are arguments for tests.
#pragma once
#include <string>

namespace plsc {

/// Cores' worth of time that this process's control group and its parents allow; 0 where there is no limit.
/// The arguments are those of control_groups.
double cpu_quota(const std::string& membership, const std::string& root);
/// Of this process.
double cpu_quota();

}  // namespace plsc
