// One block: a batch has a few thousand samples at most; see head_loss.h.
#include "kernels/cuda/head_loss.h"

#include <cmath>
#include <limits>

#include "kernels/cuda/launch.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kLossThreads = 512;

__global__ void loss_kernel(HeadLossInputs in, HeadLossOutputs out, math::StepState* state) {
  __shared__ double losses[kLossThreads], corrects[kLossThreads], intras[kLossThreads];
  double loss = 0, correct = 0, intra = 0;
  for (int64_t i = threadIdx.x; i < in.samples; i += kLossThreads) {
    if (in.labels[i] < 0) {
      out.log_sum[i] = std::numeric_limits<float>::infinity();
      out.target_gradient[i] = 0;
      continue;
    }
    const math::SampleSums sums{in.sum[i], double{in.shift[i]}, in.target_cosine[i]};
    const math::SampleLoss one = math::sample_loss(in.rule, sums, in.gradient_scale);
    loss += one.loss;
    intra += one.intra;
    correct += sums.target_cosine > double{in.max_cosine[i]} ? 1 : 0;
    out.log_sum[i] = one.log_sum;
    out.target_gradient[i] = one.target_gradient;
  }
  losses[threadIdx.x] = loss;
  corrects[threadIdx.x] = correct;
  intras[threadIdx.x] = intra;
  __syncthreads();
  for (unsigned half = kLossThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      losses[threadIdx.x] += losses[threadIdx.x + half];
      corrects[threadIdx.x] += corrects[threadIdx.x + half];
      intras[threadIdx.x] += intras[threadIdx.x + half];
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  out.result[0] = losses[0];
  out.result[1] = corrects[0];
  out.result[2] = intras[0];
  if (!std::isfinite(losses[0])) math::mark_not_finite(*state, math::StepFailure::loss);
}

__global__ void rescale_kernel(double* sum, const float* from, const float* to, int64_t samples) {
  for (int64_t i = global_thread(); i < samples; i += grid_threads()) {
    if (sum[i] != 0) sum[i] *= std::exp(double{from[i]} - double{to[i]});
  }
}

}  // namespace

void head_loss(const HeadLossInputs& in, const HeadLossOutputs& out, math::StepState* state, cudaStream_t stream) {
  launch(loss_kernel, {.blocks = 1, .threads = kLossThreads}, stream, in, out, state);
}

void rescale_sums(double* sum, const float* from, const float* to, int64_t samples, cudaStream_t stream) {
  launch(rescale_kernel, {.blocks = blocks_for(samples, kThreads)}, stream, sum, from, to, samples);
}

}  // namespace plsc::kernels::cuda
