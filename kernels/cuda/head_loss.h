// From the head's sums over all ranks to the loss: a few numbers a sample, in double.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/math/softmax_loss.h"
#include "kernels/math/step_state.h"

namespace plsc::kernels::cuda {

/// Arrays over the samples. A sample of a negative label is padding: log_sum +inf, gradient 0.
struct HeadLossInputs {
  const double* sum = nullptr;
  const double* target_cosine = nullptr;
  const float* shift = nullptr;
  const float* max_cosine = nullptr;
  const int64_t* labels = nullptr;
  int64_t samples = 0;
  math::LossRule rule;
  double gradient_scale = 1;
};
struct HeadLossOutputs {
  float* log_sum = nullptr;
  float* target_gradient = nullptr;
  double* result = nullptr;  // (3): the sum of the losses; targets above max_cosine; the sum of the intra parts
};
/// math::sample_loss for each sample. A sum that is not finite is marked in `state`.
void head_loss(const HeadLossInputs& in, const HeadLossOutputs& out, math::StepState* state, cudaStream_t stream);

/// sum *= exp(from - to); a sum of 0 stays.
void rescale_sums(double* sum, const float* from, const float* to, int64_t samples, cudaStream_t stream);

}  // namespace plsc::kernels::cuda
