// Statistics of batch norms: C elements a layer and step, so plain loops.
#include "backend/cpu/ops_cpu.h"
#include "kernels/math/batch_norm.h"

namespace plsc {

void cpu_batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) {
  PLSC_CHECK(gathered.shape().size() == 2 && gathered.dim(1) % 2 == 1, "{}", gathered.shape().text());
  const int64_t ranks = gathered.dim(0), columns = gathered.dim(1), channels = (columns - 1) / 2;
  PLSC_CHECK(mean_rstd.elements() == 2 * channels, "{}", mean_rstd.shape().text());
  const double* in = gathered.data<double>();
  float* out = mean_rstd.data<float>();
  const auto total = [&](int64_t column) {
    double sum = 0;
    for (int64_t r = 0; r < ranks; ++r) sum += in[r * columns + column];
    return sum;
  };
  const double n = total(2 * channels);
  PLSC_CHECK(n > 0, "batch norm statistics of no row");
  for (int64_t c = 0; c < channels; ++c) {
    const math::Moments moments = math::moments_of(n, total(c), total(channels + c));
    out[c] = static_cast<float>(moments.mean);
    out[channels + c] = math::reciprocal_deviation(moments.m2 / n, eps);
  }
}

void cpu_batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd) {
  const int64_t channels = mean.elements();
  PLSC_CHECK(variance.elements() == channels && mean_rstd.elements() == 2 * channels);
  float* out = mean_rstd.data<float>();
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = mean.data<float>()[c];
    out[channels + c] = math::reciprocal_deviation(static_cast<double>(variance.data<float>()[c]), eps);
  }
}

void cpu_batch_norm_fold(const Tensor& sums, float momentum, Tensor& running_mean, Tensor& running_var) {
  const int64_t channels = running_mean.elements();
  PLSC_CHECK(sums.elements() == 2 * channels + 1 && running_var.elements() == channels);
  const double* in = sums.data<double>();
  const double n = in[2 * channels];
  float* mean = running_mean.data<float>();
  float* var = running_var.data<float>();
  for (int64_t c = 0; c < channels; ++c) {
    const math::Moments batch = math::moments_of(n, in[c], in[channels + c]);
    mean[c] += momentum * (static_cast<float>(batch.mean) - mean[c]);
    var[c] += momentum * (static_cast<float>(n > 1 ? batch.m2 / (n - 1.0) : 0.0) - var[c]);
  }
}

}  // namespace plsc
