// What is told beside a plan: how many classes would fit, what to change, and what is not known for want of an option.
#pragma once
#include "app/plan/plan.h"

namespace plsc::plan {

/// Something that a plan does not know, and the option that says it.
struct Unknown {
  std::string what;    // "link"
  std::string option;  // "--link-gbps"
  bool measurable = false;
  bool operator==(const Unknown&) const = default;
};

struct Outlook {
  std::optional<int64_t> largest, replicated;  // classes
  bool capped = false;                         // `largest` is most_classes, and no memory's
  std::string advice;                          // empty: it fits, or nobody asked
  std::vector<Unknown> rooms, rates;           // that are not known: by the first it cannot be judged, by others timed
};

Outlook outlook_of(const Plan& plan, bool with_advice = true);

/// "whether it fits the GPU was not judged ...": empty where it was.
std::string unjudged_text(const Outlook& outlook);

/// Where rates come from.
struct RateSource {
  bool measured = false, measurable = false;  // on this machine
  bool given = false;                         // some of them
  std::string gpu = {};                       // whose they are, as far as they are not given
};
/// "rates as given: ...; not given: link (--link-gbps) ...", of all these plans.
std::string rates_text(const std::vector<const Plan*>& plans, RateSource source);

}  // namespace plsc::plan
