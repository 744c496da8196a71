// The sum of each channel and of its squares, in double.
#include "backend/cpu/folded_rows.h"
#include "backend/cpu/ops_cpu.h"
#include "kernels/cpu/batch_norm.h"

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
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (const auto& part : parts) {
      for (auto i = static_cast<size_t>(c); i < width; i += static_cast<size_t>(channels)) {
        sum += part[i];
        squares += part[width + i];
      }
    }
    stats[c] = sum;
    stats[channels + c] = squares;
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

}  // namespace plsc
