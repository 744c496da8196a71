// The global batch as every rank sees it: labels and embeddings of all ranks, in equal parts.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "runtime/context.h"

namespace plsc {

/// Ranks may differ in their number of samples: each has `part` places, the unused ones labelled -1.
struct GlobalLabels {
  int64_t part = 0;
  std::vector<int64_t> labels;  // (ranks * part)
  int64_t samples = 0;          // places that are used

  int64_t places() const { return static_cast<int64_t>(labels.size()); }
};
/// Throws Error on every rank when one rank has a label outside [0, classes), naming it. All ranks call it.
GlobalLabels gather_labels(Collective& host, std::span<const int64_t> labels, int64_t classes);

/// Rows on their way between the ranks. It keeps their tensors until they are there: `finish_rows` waits for them.
struct RowsUnderWay {
  Tensor sent, received;
  Pending pending;
};
/// x (b, D) of this rank to (ranks * part, D) of all, zero rows in unused places.
RowsUnderWay start_gather_rows(Context& context, const Tensor& x, int64_t part);
/// The way back: (ranks * part, D) summed over the ranks, of which this rank receives its part of `part` rows.
RowsUnderWay start_scatter_rows(Context& context, const Tensor& all);
/// Waits for the rows and gives them out.
Tensor finish_rows(Context& context, RowsUnderWay&& rows, const std::string& what);

}  // namespace plsc
