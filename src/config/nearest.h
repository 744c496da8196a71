// "Did you mean": the nearest of some names.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace plsc {

/// Insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal string alignment), letters
/// compared without case and '-' as '_'.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate with the least edit distance, the first of equals; empty where even that one is too far to be a slip
/// of the pen (more than a third of the longer name, at least 1).
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?" or, where nothing is near, "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace plsc
