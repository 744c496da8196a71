// Sums whose order does not matter (math/exact_sum.h). Compiled without re-association.
#pragma once
#include <cstdint>

namespace plsc::kernels {

/// y += x and y += a x, by terms that are multiples of a gradient's quantum.
void add_exactly(const float* x, double* y, int64_t n);
void add_exactly(float a, const float* x, double* y, int64_t n);

}  // namespace plsc::kernels
