// The parity cases of the compute seam. Each function checks one group of ops of any backend against plain loops in
// double precision; a backend runs them by calling run_all_cases from a file of its own (cpu.cpp here).
#pragma once
#include <vector>

#include "backend/backend.h"

namespace plsc::test {

/// `dtype`: of activations: fp32, or a 16-bit type that the backend has.
/// `dweight`: what a pass's weight gradient is rounded to before it is added to fp32 (a library may know nothing wider
/// than the activations' type).
void conv_cases(Backend& backend, Dtype dtype, Dtype dweight = Dtype::f32);
void linear_cases(Backend& backend);
void pool_cases(Backend& backend, Dtype dtype);
void norm_statistics_cases(Backend& backend, Dtype dtype);
void norm_apply_cases(Backend& backend, Dtype dtype);
/// More rows and more channels than the blocks of a GPU's kernel take in one turn.
void norm_large_cases(Backend& backend, Dtype dtype);
void norm_difference_cases(Backend& backend);
void elementwise_cases(Backend& backend, Dtype dtype);
void optimizer_cases(Backend& backend);
void update_cases(Backend& backend);    // of the optimizers beside SGD
void compress_cases(Backend& backend);  // sparse sums of gradients
void image_cases(Backend& backend, Dtype dtype);
/// The same call twice gives the same bits.
void repeat_cases(Backend& backend, Dtype dtype);

/// Gradients in double are exact sums: near the true ones, and the same bits however a batch is split. Returns them, so
/// that they can be compared over numbers of threads.
std::vector<std::vector<double>> exact_sum_cases(Backend& backend);

}  // namespace plsc::test
