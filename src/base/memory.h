// How much memory this process could still take.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace plsc {

/// Bytes that the limits of the process's control group and its parents leave; none where nothing is limited. What the
/// kernel would give back first, cached pages of files not in use, counts as free. The arguments are those of
/// control_groups.
std::optional<int64_t> group_memory(const std::string& membership, const std::string& root);

/// The node's available memory, or the control group's where that is less. The largest int64_t where neither is known.
int64_t available_memory();
/// The same; none where neither is known (no /proc is mounted).
std::optional<int64_t> known_memory();
/// Bytes of memory that this process has now, those that it shares with others among them; 0 where that is not known.
int64_t resident_memory();

}  // namespace plsc
