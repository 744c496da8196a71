#include "app/plan/on_line.h"

#include <algorithm>

#include "backend/dry/counting.h"
#include "base/error.h"

namespace plsc::plan {

using counting::number;

DryRun on_line(const Counted& few, const Counted& more, double images) {
  const double t = (images - number(few.images)) / number(more.images - few.images);
  const auto extend = [&](double& of_more, double of_few) { of_more = std::max(0.0, of_few + t * (of_more - of_few)); };
  const auto extend_all = [&](std::vector<Purpose>& of_more, const std::vector<Purpose>& of_few) {
    for (size_t i = 0; i < of_more.size(); ++i) extend(of_more[i].bytes, of_few[i].bytes);
  };
  DryRun run = more.run;
  extend_all(run.device, few.run.device);
  extend_all(run.host, few.run.host);
  extend(run.kept, few.run.kept);
  extend(run.counted, few.run.counted);
  PLSC_CHECK(run.phases.size() == few.run.phases.size());
  for (size_t p = 0; p < run.phases.size(); ++p) {
    DryPhase& phase = run.phases[p];
    const DryPhase& of_few = few.run.phases[p];
    PLSC_CHECK(phase.work.size() == of_few.work.size());
    PLSC_CHECK(phase.transfers.size() == of_few.transfers.size());
    extend(phase.wire, of_few.wire);
    for (size_t i = 0; i < phase.transfers.size(); ++i) {
      extend(phase.transfers[i].bytes, of_few.transfers[i].bytes);
      extend(phase.transfers[i].sent, of_few.transfers[i].sent);
    }
    for (size_t w = 0; w < phase.work.size(); ++w) {
      extend(phase.work[w].flop, of_few.work[w].flop);
      extend(phase.work[w].bytes, of_few.work[w].bytes);
      extend(phase.work[w].far, of_few.work[w].far);
      extend(phase.work[w].beside, of_few.work[w].beside);
    }
  }
  return run;
}

}  // namespace plsc::plan
