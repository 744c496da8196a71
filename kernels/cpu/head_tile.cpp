// Loops over samples with all of a class's constants in registers; see head_tile.h.
#include "kernels/cpu/head_tile.h"

#include "kernels/cpu/clones.h"
#include "kernels/math/bf16.h"

namespace plsc::kernels {
PLSC_CLONES void head_tile_max_logit(const TileShape& shape, const TileLogits& logits, const float* dots,
                                     float* largest) {
  const math::LogitRule rule = logits.rule;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      const float cosine = row[i] * inverse;
      const float z = math::negative_logit(cosine, rule);
      largest[i] = !(cosine < math::kNoCosine) && z > largest[i] ? z : largest[i];
    }
  }
}

PLSC_CLONES void head_tile_sum(const TileShape& shape, const TileLogits& logits, const float* dots, const float* shift,
                               double* sum, float* max_cosine) {
  const math::LogitRule rule = logits.rule;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      const float cosine = row[i] * inverse;
      const float e = math::exp_float(math::negative_logit(cosine, rule) - shift[i]);
      sum[i] += static_cast<double>(cosine < math::kNoCosine ? 0.0f : e);
      max_cosine[i] = cosine > max_cosine[i] ? cosine : max_cosine[i];
    }
  }
}

PLSC_CLONES void head_tile_gradient(const TileShape& shape, const TileLogits& logits, float factor,
                                    const float* log_sum, float* dots) {
  const math::LogitRule rule = logits.rule;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      row[i] = math::negative_gradient(row[i] * inverse, rule, log_sum[i], factor * inverse);
    }
  }
}

PLSC_CLONES void head_tile_gradient_bf16(const TileShape& shape, const TileLogits& logits, float factor,
                                         const float* log_sum, const float* dots, uint16_t* out) {
  const math::LogitRule rule = logits.rule;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    uint16_t* to = out + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      to[i] = math::float_to_bf16(math::negative_gradient(row[i] * inverse, rule, log_sum[i], factor * inverse));
    }
  }
}

}  // namespace plsc::kernels
