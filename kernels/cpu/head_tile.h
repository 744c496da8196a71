// The head's work on one tile of dot products, dots (rows, samples): each row is one class, and the loops run along the
// samples. Compiled without re-association (kernels/math/exp.h). A dot of -inf marks a sample's own target: it is left
// out of sums and maxima.
#pragma once
#include <cstdint>

#include "kernels/math/softmax_loss.h"

namespace plsc::kernels {

struct TileShape {
  int64_t rows = 0, samples = 0;  // `samples` is also the stride between rows
};

/// How a dot product becomes a logit: cos = dot * inverse_norm[row], and from there as the rule says.
struct TileLogits {
  const float* inverse_norms = nullptr;  // (rows)
  math::LogitRule rule;
};

/// largest[i] = max(largest[i], logits of sample i).
void head_tile_max_logit(const TileShape& shape, const TileLogits& logits, const float* dots, float* largest);

/// sum[i] += exp(logit - shift[i]), in double; max_cosine[i] = max(max_cosine[i], cos as it is before clamping and
/// filter).
void head_tile_sum(const TileShape& shape, const TileLogits& logits, const float* dots, const float* shift, double* sum,
                   float* max_cosine);

/// g = factor exp(logit - log_sum[i]) inverse_norm, 0 where a clamp or the filter stopped the cosine.
/// In fp32 over the dots themselves, or as bf16 into `out`.
void head_tile_gradient(const TileShape& shape, const TileLogits& logits, float factor, const float* log_sum,
                        float* dots);
void head_tile_gradient_bf16(const TileShape& shape, const TileLogits& logits, float factor, const float* log_sum,
                             const float* dots, uint16_t* out);

}  // namespace plsc::kernels
