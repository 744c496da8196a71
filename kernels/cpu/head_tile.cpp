// Loops over samples with all of a class's constants in registers; see head_tile.h.
#include "kernels/cpu/head_tile.h"

#include "kernels/cpu/clones.h"
#include "kernels/math/bf16.h"
#include "kernels/math/exp.h"

namespace plsc::kernels {
namespace {

/// Comparisons are written so that NaN passes through.
PLSC_INLINE float clamped(float cosine) { return cosine > 1.0f ? 1.0f : (cosine < -1.0f ? -1.0f : cosine); }

PLSC_INLINE float logit(float cosine, float scale, float filter) {
  const float c = clamped(cosine);
  return scale * (c > filter ? 0.0f : c);
}

/// No product of unit vectors is this small: only the mark of a target is.
constexpr float kNoCosine = -2.0f;

PLSC_INLINE float gradient(float cosine, float scale, float filter, float log_sum, float factor) {
  const float p = math::exp_float(logit(cosine, scale, filter) - log_sum);
  const bool stopped = (cosine > 1.0f) | (cosine < -1.0f) | (cosine > filter);
  return stopped ? 0.0f : factor * p;
}

}  // namespace

PLSC_CLONES void head_tile_max_logit(const TileShape& shape, const TileLogits& logits, const float* dots,
                                     float* largest) {
  const float scale = logits.scale, filter = logits.filter;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      const float cosine = row[i] * inverse;
      const float z = logit(cosine, scale, filter);
      largest[i] = !(cosine < kNoCosine) && z > largest[i] ? z : largest[i];
    }
  }
}

PLSC_CLONES void head_tile_sum(const TileShape& shape, const TileLogits& logits, const float* dots, const float* shift,
                               double* sum, float* max_cosine) {
  const float scale = logits.scale, filter = logits.filter;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      const float cosine = row[i] * inverse;
      const float e = math::exp_float(logit(cosine, scale, filter) - shift[i]);
      sum[i] += static_cast<double>(cosine < kNoCosine ? 0.0f : e);
      max_cosine[i] = cosine > max_cosine[i] ? cosine : max_cosine[i];
    }
  }
}

PLSC_CLONES void head_tile_gradient(const TileShape& shape, const TileLogits& logits, float factor,
                                    const float* log_sum, float* dots) {
  const float scale = logits.scale, filter = logits.filter;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    float* row = dots + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      row[i] = gradient(row[i] * inverse, scale, filter, log_sum[i], factor * inverse);
    }
  }
}

PLSC_CLONES void head_tile_gradient_bf16(const TileShape& shape, const TileLogits& logits, float factor,
                                         const float* log_sum, const float* dots, uint16_t* out) {
  const float scale = logits.scale, filter = logits.filter;
  for (int64_t j = 0; j < shape.rows; ++j) {
    const float inverse = logits.inverse_norms[j];
    const float* row = dots + j * shape.samples;
    uint16_t* to = out + j * shape.samples;
    for (int64_t i = 0; i < shape.samples; ++i) {
      to[i] = math::float_to_bf16(gradient(row[i] * inverse, scale, filter, log_sum[i], factor * inverse));
    }
  }
}

}  // namespace plsc::kernels
