#include "head/gradient_norm.h"

#include <algorithm>

#include "comm/collective.h"

namespace plsc {

void measure_head_gradient(Context& context, const Tensor& dweight) {
  const int64_t rows = dweight.dim(0);
  int64_t part = 1;
  if (context.sums_in_double) {
    for (const int64_t n : gather_values(context.host, rows)) part = std::max(part, n);
  }
  OptimOps& ops = *context.backend.optim;
  // Places beyond the rows are 0, which changes no sum.
  Tensor own = context.device().zeros({part}, Dtype::f64);
  Tensor sums = context.sums_in_double ? own.slice(0, {rows}) : own;
  ops.squares(dweight, sums);
  Tensor all = context.device().tensor({context.ranks() * part}, Dtype::f64);
  context.comm.all_gather(own, all, "norm of the head's gradient");
  ops.note_head_squares(all);
}

}  // namespace plsc
