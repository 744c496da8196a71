// Mean and squared deviations of each channel, from sums in double: 29 bits more than an fp32 value has, so nothing is
// lost while the mean is below some 10,000 standard deviations.
#include <algorithm>

#include "backend/cpu/folded_rows.h"
#include "backend/cpu/ops_cpu.h"
#include "kernels/cpu/batch_norm.h"
#include "kernels/math/batch_norm.h"

namespace plsc {
namespace {

template <class T>
void stats_of(const T* x, int64_t rows, int64_t channels, int threads, double* stats) {
  const FoldedRows folded(rows, channels, threads);
  const auto width = static_cast<size_t>(folded.width());
  std::vector<std::vector<double>> parts(static_cast<size_t>(folded.parts()), std::vector<double>(2 * width));
  folded.for_blocks(rows, [&](int64_t at, int64_t count, int64_t columns, int part) {
    double* sums = parts[static_cast<size_t>(part)].data();
    kernels::column_sums(x + at, count, columns, sums, sums + width);
  });
  const auto n = static_cast<double>(rows);
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (const auto& part : parts) {
      for (auto i = static_cast<size_t>(c); i < width; i += static_cast<size_t>(channels)) {
        sum += part[i];
        squares += part[width + i];
      }
    }
    stats[c] = sum / n;
    stats[channels + c] = std::max(0.0, squares - sum * (sum / n));
  }
}

/// mean, M2 and row count of each rank merged in rank order.
template <class T>
void merge_moments(const Tensor& gathered, float eps, float* normal) {
  const int64_t ranks = gathered.dim(0), channels = (gathered.dim(1) - 1) / 2;
  const T* in = gathered.data<T>();
  for (int64_t c = 0; c < channels; ++c) {
    math::Moments total;
    for (int64_t r = 0; r < ranks; ++r) {
      const T* one = in + r * (2 * channels + 1);
      total = math::merged(total, {one[2 * channels], one[c], one[channels + c]});
    }
    PLSC_CHECK(total.n > 0, "batch norm statistics of no row");
    normal[c] = static_cast<float>(total.mean);
    normal[channels + c] = math::reciprocal_deviation(total, eps);
  }
}

}  // namespace

void cpu_batch_norm_stats(const Tensor& x, Tensor& stats, int threads) {
  const int64_t channels = x.dim(x.shape().size() - 1), rows = x.elements() / std::max<int64_t>(channels, 1);
  PLSC_CHECK(rows > 0 && channels > 0, "statistics of {}", x.shape().text());
  check_tensor("batch norm statistics", stats, {2, channels}, Dtype::f64);
  if (x.dtype() == Dtype::bf16) {
    stats_of(reinterpret_cast<const kernels::Bf16*>(x.data<bf16_t>()), rows, channels, threads, stats.data<double>());
  } else {
    stats_of(x.data<float>(), rows, channels, threads, stats.data<double>());
  }
}

void cpu_batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) {
  PLSC_CHECK(gathered.shape().size() == 2 && gathered.dim(1) % 2 == 1, "{}", gathered.shape().text());
  const int64_t channels = (gathered.dim(1) - 1) / 2;
  check_tensor("mean and rstd", mean_rstd, {2, channels}, Dtype::f32);
  if (gathered.dtype() == Dtype::f64) {
    merge_moments<double>(gathered, eps, mean_rstd.data<float>());
  } else {
    merge_moments<float>(gathered, eps, mean_rstd.data<float>());
  }
}

}  // namespace plsc
