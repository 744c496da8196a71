// Mean and squared deviations of each channel. Blocks of rows are summed in fp32 around a shift near the mean, so that
// nothing cancels, and merged in double: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
// computing sample variances", 1979.
#include <cmath>

#include "backend/cpu/folded_rows.h"
#include "backend/cpu/ops_cpu.h"
#include "kernels/cpu/batch_norm.h"

namespace plsc {
namespace {

constexpr int64_t kBlockRows = 256;

struct Moments {
  double n = 0, mean = 0, m2 = 0;

  void merge(const Moments& o) {
    if (o.n == 0) return;
    const double total = n + o.n, delta = o.mean - mean;
    mean += delta * (o.n / total);
    m2 += o.m2 + delta * delta * (n * o.n / total);
    n = total;
  }
};

/// Moments of the columns that one thread has seen.
class ColumnMoments {
 public:
  explicit ColumnMoments(int64_t width)
      : moments_(static_cast<size_t>(width)),
        shift_(moments_.size()),
        sum_(moments_.size()),
        squares_(moments_.size()) {}

  template <class T>
  void block(const T* x, int64_t rows, int64_t width) {
    // The first row is a value of each column; later the mean so far is a better one.
    for (int64_t c = 0; c < width; ++c) {
      const Moments& m = moments_[static_cast<size_t>(c)];
      shift_[static_cast<size_t>(c)] = m.n == 0 ? kernels::load(x[c]) : static_cast<float>(m.mean);
    }
    std::fill(sum_.begin(), sum_.end(), 0.0f);
    std::fill(squares_.begin(), squares_.end(), 0.0f);
    kernels::shifted_sums(x, rows, width, shift_.data(), sum_.data(), squares_.data());
    const auto n = static_cast<double>(rows);
    for (size_t c = 0; c < static_cast<size_t>(width); ++c) {
      const double s = sum_[c];
      moments_[c].merge({n, shift_[c] + s / n, std::max(0.0, squares_[c] - s * s / n)});
    }
  }

  const std::vector<Moments>& moments() const { return moments_; }

 private:
  std::vector<Moments> moments_;
  std::vector<float> shift_, sum_, squares_;
};

template <class T>
void stats_of(const T* x, int64_t rows, int64_t channels, int threads, float* stats) {
  const FoldedRows folded(rows, channels, threads);
  std::vector<ColumnMoments> parts(static_cast<size_t>(folded.parts()), ColumnMoments(folded.width()));
  folded.for_blocks(kBlockRows, [&](int64_t at, int64_t count, int64_t width, int part) {
    parts[static_cast<size_t>(part)].block(x + at, count, width);
  });
  std::vector<Moments> total(static_cast<size_t>(channels));
  for (const ColumnMoments& part : parts) {
    for (size_t i = 0; i < part.moments().size(); ++i) {
      total[i % static_cast<size_t>(channels)].merge(part.moments()[i]);
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    stats[c] = static_cast<float>(total[static_cast<size_t>(c)].mean);
    stats[channels + c] = static_cast<float>(total[static_cast<size_t>(c)].m2);
  }
}

}  // namespace

void cpu_batch_norm_stats(const Tensor& x, Tensor& stats, int threads) {
  const int64_t channels = x.dim(x.shape().size() - 1), rows = x.elements() / std::max<int64_t>(channels, 1);
  PLSC_CHECK(rows > 0 && channels > 0, "statistics of {}", x.shape().text());
  check_tensor("batch norm statistics", stats, {2, channels}, Dtype::f32);
  if (x.dtype() == Dtype::bf16) {
    stats_of(reinterpret_cast<const kernels::Bf16*>(x.data<bf16_t>()), rows, channels, threads, stats.data<float>());
  } else {
    stats_of(x.data<float>(), rows, channels, threads, stats.data<float>());
  }
}

void cpu_batch_norm_merge(const Tensor& gathered, float eps, Tensor& merged, Tensor& mean_rstd) {
  PLSC_CHECK(gathered.shape().size() == 2 && gathered.dim(1) % 2 == 1, "{}", gathered.shape().text());
  const int64_t ranks = gathered.dim(0), channels = (gathered.dim(1) - 1) / 2;
  check_tensor("gathered statistics", gathered, gathered.shape(), Dtype::f32);
  check_tensor("merged statistics", merged, {2 * channels + 1}, Dtype::f32);
  check_tensor("mean and rstd", mean_rstd, {2, channels}, Dtype::f32);
  const auto* in = gathered.data<float>();
  auto *out = merged.data<float>(), *normal = mean_rstd.data<float>();
  double rows = 0;
  for (int64_t c = 0; c < channels; ++c) {
    Moments total;
    for (int64_t r = 0; r < ranks; ++r) {
      const float* one = in + r * (2 * channels + 1);
      total.merge({one[2 * channels], one[c], one[channels + c]});
    }
    PLSC_CHECK(total.n > 0, "batch norm statistics of no row");
    out[c] = normal[c] = static_cast<float>(total.mean);
    out[channels + c] = static_cast<float>(total.m2);
    normal[channels + c] = static_cast<float>(1.0 / std::sqrt(total.m2 / total.n + static_cast<double>(eps)));
    rows = total.n;
  }
  out[2 * channels] = static_cast<float>(rows);
}

}  // namespace plsc
