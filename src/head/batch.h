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

/// x (b, D) of this rank to (ranks * part, D) of all, zero rows in unused places.
Tensor gather_rows(Context& context, const Tensor& x, int64_t part, const std::string& what);
/// The way back: (ranks * part, D) summed over the ranks, of which this rank takes its first b rows.
Tensor scatter_rows(Context& context, const Tensor& all, int64_t rows, const std::string& what);

}  // namespace plsc
