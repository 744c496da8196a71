// A plan for people and for programs.
#pragma once
#include "app/plan/outlook.h"

namespace plsc::plan {

/// A table of memory, one of a step, and what fits. `rates`: what is known of them, in words.
std::string table(const Plan& plan, const Outlook& outlook, const std::string& rates);
/// One JSON object, ended by a line break.
std::string json(const Plan& plan, const Outlook& outlook);

struct SweepRow {
  int ranks = 1;
  std::optional<Plan> plan;  // none: there is no such training,
  std::string error;         // and this says why, in a line
  Outlook outlook;
};
/// One line a number of ranks, and what is not known.
std::string sweep_table(const std::vector<SweepRow>& rows, const std::string& rates);
std::string sweep_json(const std::vector<SweepRow>& rows);

}  // namespace plsc::plan
