// Running statistics of batch norms on the host: C elements a layer and step, so one plain loop for any backend whose
// tensors the host can reach.
#include "kernels/math/running_stats.h"
#include "backend/nn_ops.h"

namespace plsc {

void NnOps::batch_norm_pool(const Tensor& stats, const Tensor& shift, bool accumulate, Tensor& pooled) {
  const int64_t channels = shift.elements();
  PLSC_CHECK(stats.on_host() && pooled.on_host(), "this backend's tensors need a batch_norm_pool of their own");
  PLSC_CHECK(stats.elements() == 2 * channels + 1 && pooled.elements() == 2 * channels + 1);
  const double* in = stats.data<double>();
  const float* center = shift.data<float>();
  double* out = pooled.data<double>();
  if (!accumulate) {
    for (int64_t i = 0; i < 2 * channels + 1; ++i) out[i] = 0;
  }
  const double n = in[2 * channels];
  for (int64_t c = 0; c < channels; ++c) {
    const math::PooledMoments p = math::pooled_moments(n, in[c], in[channels + c], center[c]);
    out[c] += p.first;
    out[channels + c] += p.second;
  }
  out[2 * channels] += n;
}

void NnOps::batch_norm_fold(const Tensor& pooled, float momentum, Tensor& running_mean, Tensor& running_var) {
  const int64_t channels = running_mean.elements();
  PLSC_CHECK(pooled.on_host(), "this backend's tensors need a batch_norm_fold of their own");
  PLSC_CHECK(pooled.elements() == 2 * channels + 1 && running_var.elements() == channels);
  const double* in = pooled.data<double>();
  float* mean = running_mean.data<float>();
  float* var = running_var.data<float>();
  const double n = in[2 * channels];
  for (int64_t c = 0; c < channels; ++c) {
    const math::MeanVariance batch = math::unpool({in[c], in[channels + c]}, n, mean[c]);
    mean[c] += momentum * (batch.mean - mean[c]);
    var[c] += momentum * (batch.variance - var[c]);
  }
}

}  // namespace plsc
