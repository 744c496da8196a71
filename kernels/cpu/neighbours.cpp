// See neighbours.h. Compiled without re-association: the product's order is its purpose.
#include "kernels/cpu/neighbours.h"

#include "kernels/cpu/clones.h"
#include "kernels/math/fixed_dot.h"

namespace plsc::kernels {
namespace {

/// Scores that are looked at together: in a search over many rows hardly any of them is above. Where one is, a part of
/// them is looked at once more.
constexpr int64_t kRun = 64, kPart = 16;

template <int64_t kCount>
PLSC_INLINE bool any_above(const float* scores, float floor) {
  int32_t any = 0;
  for (int64_t i = 0; i < kCount; ++i) any |= scores[i] > floor ? 1 : 0;
  return any != 0;
}

}  // namespace

PLSC_CLONES int64_t scores_above(const float* scores, int64_t count, float floor, int32_t* places) {
  int64_t found = 0, begin = 0;
  for (; begin + kRun <= count; begin += kRun) {
    if (!any_above<kRun>(scores + begin, floor)) continue;
    for (int64_t part = begin; part < begin + kRun; part += kPart) {
      if (!any_above<kPart>(scores + part, floor)) continue;
      for (int64_t i = part; i < part + kPart; ++i) {
        places[found] = static_cast<int32_t>(i);
        found += scores[i] > floor ? 1 : 0;
      }
    }
  }
  for (; begin < count; ++begin) {
    if (scores[begin] > floor) places[found++] = static_cast<int32_t>(begin);
  }
  return found;
}

PLSC_CLONES float fixed_order_dot(const float* a, const float* b, int64_t columns) {
  float sums[math::kDotLanes] = {};
  int64_t d = 0;
  for (; d + math::kDotLanes <= columns; d += math::kDotLanes) {
    for (int l = 0; l < math::kDotLanes; ++l) sums[l] = math::add_product(sums[l], a[d + l], b[d + l]);
  }
  for (int l = 0; d + l < columns; ++l) sums[l] = math::add_product(sums[l], a[d + l], b[d + l]);
  for (int half = math::kDotLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

}  // namespace plsc::kernels
