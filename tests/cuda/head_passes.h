// One call of each pass of the head over a small store of rows, on any backend: what it gives, on the host.
#pragma once
#include <vector>

#include "runtime/context.h"

namespace plsc::test {

/// Rows in a device's memory: as they lie or at an index, in fp32 or bf16, up to date or lagging.
struct PassCase {
  int64_t stored = 700, active = 300, columns = 24, samples = 21;
  bool indexed = false, lagging = false, fixed_shift = true;
  Dtype weights = Dtype::f32, momentum = Dtype::f32, compute = Dtype::f32;
  bool keep = false;    // the gradient, in place of an update; it is added to
  bool linear = false;  // products as they are, without bounds
  bool dissected = false;
};

struct PassResult {
  std::vector<double> cosine, sum, shift, max_cosine;  // target and forward pass
  std::vector<double> loss;                            // HeadLossArgs::result
  std::vector<double> dx, dweight, rows, momentum;     // backward pass
  std::vector<int64_t> last_update;
  std::vector<double> top_cosines;
  std::vector<int64_t> top_rows;
  bool operator==(const PassResult&) const = default;
};
PassResult run_passes(Backend& backend, const PassCase& c);

}  // namespace plsc::test
