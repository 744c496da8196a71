// The search for the nearest rows: which of many scores are worth a second look, and the product that decides.
#pragma once
#include <cstdint>

namespace plsc::kernels {

/// places[0, n) = the ascending i with scores[i] > floor, of `count` scores; returns n. A NaN is above nothing.
/// `places` has room for count.
int64_t scores_above(const float* scores, int64_t count, float floor, int32_t* places);

/// a . b in the order of kernels/math/fixed_dot.h.
float fixed_order_dot(const float* a, const float* b, int64_t columns);

}  // namespace plsc::kernels
