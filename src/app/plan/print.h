// A plan for people and for programs.
#pragma once
#include "app/plan/plan.h"

namespace plsc::plan {

/// What is told beside the plan itself.
struct Outlook {
  std::optional<int64_t> largest, replicated;  // classes
  std::string advice;                          // empty: it fits
  std::string rates;                           // what is known of them, in words; empty: nothing
};

/// A table of memory, one of a step, and what fits.
std::string table(const Plan& plan, const Outlook& outlook);
/// One JSON object, ended by a line break.
std::string json(const Plan& plan, const Outlook& outlook);

struct SweepRow {
  int ranks = 1;
  std::optional<Plan> plan;        // none: there is no such training,
  std::string error;               // and this says why, in a line
  std::optional<int64_t> largest;  // classes
};
/// One line a number of ranks.
std::string sweep_table(const std::vector<SweepRow>& rows);
std::string sweep_json(const std::vector<SweepRow>& rows);

}  // namespace plsc::plan
