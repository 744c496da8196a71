// Batch norm's apply and backward ops: they check the tensors, lay the channels' parameters out over folded rows, and
// split the rows over threads. The arithmetic stands in kernels/cpu/batch_norm.cpp.
#include "kernels/cpu/batch_norm.h"

#include "backend/cpu/folded_rows.h"
#include "backend/cpu/ops_cpu.h"

namespace plsc {
namespace {

constexpr int64_t kBlockRows = 256;

template <class T>
T* elements(const Tensor& t) {
  if (!t.defined()) return nullptr;
  if constexpr (std::is_same_v<T, float>) {
    return t.data<float>();
  } else {
    return reinterpret_cast<T*>(t.data<bf16_t>());
  }
}

kernels::NormActivation kernel_activation(Activation activation) {
  switch (activation) {
    case Activation::none:
      return kernels::NormActivation::none;
    case Activation::relu:
      return kernels::NormActivation::relu;
    case Activation::prelu:
      return kernels::NormActivation::prelu;
  }
  return kernels::NormActivation::none;
}

/// body(type of x, type of y) for the combinations that exist.
template <class Body>
void with_types(Dtype x, Dtype y, const Body& body) {
  if (x == Dtype::f32 && y == Dtype::f32) return body(float{}, float{});
  if (x == Dtype::bf16 && y == Dtype::bf16) return body(kernels::Bf16{}, kernels::Bf16{});
  if (x == Dtype::bf16 && y == Dtype::f32) return body(kernels::Bf16{}, float{});
  PLSC_CHECK(false, "batch norm from {} to {}", dtype_name(x), dtype_name(y));
}

/// The channels' parameters, laid out over the folded width.
class Parameters {
 public:
  Parameters(const BatchNormApply& a, const FoldedRows& folded) {
    const int64_t channels = folded.channels();
    const float* normal = a.mean_rstd.data<float>();
    std::vector<float> scale(normal + channels, normal + 2 * channels), slope(scale.size());
    for (size_t c = 0; c < scale.size(); ++c) {
      if (a.gamma.defined()) scale[c] *= a.gamma.data<float>()[c];
      if (a.activation == Activation::prelu) slope[c] = a.slope.data<float>()[a.slope.elements() == 1 ? 0 : c];
    }
    const std::vector<float> zero(a.beta.defined() ? 0 : scale.size());
    mean_ = folded.columns(normal);
    scale_ = folded.columns(scale.data());
    beta_ = folded.columns(a.beta.defined() ? a.beta.data<float>() : zero.data());
    slope_ = folded.columns(slope.data());
  }
  kernels::NormColumns columns() const { return {mean_.data(), scale_.data(), beta_.data(), slope_.data()}; }

 private:
  std::vector<float> mean_, scale_, beta_, slope_;
};

FoldedRows check_apply(const BatchNormApply& a, int threads) {
  const int64_t channels = a.x.dim(a.x.shape().size() - 1), rows = a.x.elements() / std::max<int64_t>(channels, 1);
  PLSC_CHECK(rows > 0 && channels > 0, "batch norm of {}", a.x.shape().text());
  check_tensor("batch norm mean and rstd", a.mean_rstd, {2, channels}, Dtype::f32);
  if (a.gamma.defined()) check_tensor("batch norm gamma", a.gamma, {channels}, Dtype::f32);
  if (a.beta.defined()) check_tensor("batch norm beta", a.beta, {channels}, Dtype::f32);
  if (a.residual.defined()) check_tensor("batch norm residual", a.residual, a.x.shape(), a.x.dtype());
  if (a.activation == Activation::prelu) {
    PLSC_CHECK(a.slope.defined() && a.slope.dtype() == Dtype::f32 &&
                   (a.slope.elements() == channels || a.slope.elements() == 1),
               "PReLU slope {} for {} channels", a.slope.shape().text(), channels);
  }
  return {rows, channels, threads};
}

FoldedRows check_backward(const BatchNormBackward& b, int threads) {
  const BatchNormApply& a = b.forward;
  const FoldedRows folded = check_apply(a, threads);
  check_tensor("batch norm dy", b.dy, a.x.shape(), b.dy.dtype());
  if (a.activation == Activation::relu && a.residual.defined()) {
    check_tensor("batch norm y", a.y, a.x.shape(), b.dy.dtype());
  }
  return folded;
}

template <class T, class Y>
kernels::NormGradient<T, Y> gradient(const BatchNormBackward& b, const Parameters& parameters) {
  const bool from_output = b.forward.activation == Activation::relu && b.forward.residual.defined();
  kernels::NormGradient<T, Y> g;
  g.columns = parameters.columns();
  g.activation = kernel_activation(b.forward.activation);
  g.x = elements<T>(b.forward.x);
  g.residual = elements<T>(b.forward.residual);
  g.y = from_output ? elements<Y>(b.forward.y) : nullptr;
  g.dy = elements<Y>(b.dy);
  return g;
}

/// The same arguments for the block that starts at element `at`.
template <class T, class Y>
kernels::NormGradient<T, Y> at_block(kernels::NormGradient<T, Y> g, int64_t at, int64_t rows, int64_t width) {
  g.rows = rows;
  g.width = width;
  g.x += at;
  g.dy += at;
  if (g.residual != nullptr) g.residual += at;
  if (g.y != nullptr) g.y += at;
  return g;
}

/// Three sums for each column over the rows of one thread.
class ColumnSums {
 public:
  explicit ColumnSums(int64_t width) : width_(static_cast<size_t>(width)), total_(3 * width_) {}
  kernels::NormSums sums(bool with_slope) {
    return {total_.data(), total_.data() + width_, with_slope ? total_.data() + 2 * width_ : nullptr};
  }
  double total(size_t which, size_t column) const { return total_[which * width_ + column]; }

 private:
  size_t width_;
  std::vector<double> total_;
};

/// Sum `which` of channel c over threads in order, and over the columns that hold the channel.
double channel_sum(const std::vector<ColumnSums>& parts, size_t which, const FoldedRows& folded, int64_t c) {
  double sum = 0;
  for (const ColumnSums& part : parts) {
    for (int64_t i = c; i < folded.width(); i += folded.channels()) sum += part.total(which, static_cast<size_t>(i));
  }
  return sum;
}

void write_sums(const std::vector<ColumnSums>& parts, const BatchNormBackward& b, const FoldedRows& folded) {
  const int64_t channels = folded.channels();
  const float* rstd = b.forward.mean_rstd.data<float>() + channels;
  Tensor sums = b.sums, dslope = b.dslope;
  for (int64_t c = 0; c < channels; ++c) {
    sums.data<double>()[c] = channel_sum(parts, 0, folded, c);
    sums.data<double>()[channels + c] = channel_sum(parts, 1, folded, c) * static_cast<double>(rstd[c]);
  }
  if (!dslope.defined()) return;
  double shared = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double one = channel_sum(parts, 2, folded, c);
    if (dslope.elements() == channels) dslope.data<double>()[c] = one;
    shared += one;
  }
  if (dslope.elements() == 1) dslope.data<double>()[0] = shared;
}

}  // namespace

void cpu_batch_norm_apply(const BatchNormApply& a, int threads) {
  const FoldedRows folded = check_apply(a, threads);
  check_tensor("batch norm y", a.y, a.x.shape(), a.y.dtype());
  const Parameters parameters(a, folded);
  with_types(a.x.dtype(), a.y.dtype(), [&]<class T, class Y>(T, Y) {
    folded.for_blocks(kBlockRows, [&](int64_t at, int64_t rows, int64_t width, int) {
      kernels::NormForward<T, Y> k;
      k.rows = rows;
      k.width = width;
      k.columns = parameters.columns();
      k.activation = kernel_activation(a.activation);
      k.x = elements<T>(a.x) + at;
      k.residual = a.residual.defined() ? elements<T>(a.residual) + at : nullptr;
      k.y = elements<Y>(a.y) + at;
      kernels::norm_forward(k);
    });
  });
  Tensor sums = a.sums;
  if (sums.defined()) cpu_batch_norm_stats(a.y, sums, threads);
}

void cpu_batch_norm_backward_sums(const BatchNormBackward& b, int threads) {
  const FoldedRows folded = check_backward(b, threads);
  check_tensor("batch norm sums", b.sums, {2, folded.channels()}, Dtype::f64);
  const bool with_slope = b.dslope.defined() && b.forward.activation == Activation::prelu;
  if (with_slope) check_tensor("PReLU slope gradient", b.dslope, b.forward.slope.shape(), Dtype::f64);
  const Parameters parameters(b.forward, folded);
  std::vector<ColumnSums> parts(static_cast<size_t>(folded.parts()), ColumnSums(folded.width()));
  with_types(b.forward.x.dtype(), b.dy.dtype(), [&]<class T, class Y>(T, Y) {
    const auto all = gradient<T, Y>(b, parameters);
    folded.for_blocks(kBlockRows, [&](int64_t at, int64_t rows, int64_t width, int part) {
      const kernels::NormSums mine = parts[static_cast<size_t>(part)].sums(with_slope);
      kernels::norm_backward_sums(at_block(all, at, rows, width), mine);
    });
  });
  write_sums(parts, b, folded);
}

void cpu_batch_norm_backward_apply(const BatchNormBackward& b, int threads) {
  const FoldedRows folded = check_backward(b, threads);
  const BatchNormApply& a = b.forward;
  const int64_t channels = folded.channels();
  check_tensor("batch norm dx", b.dx, a.x.shape(), a.x.dtype());
  if (b.add.defined()) check_tensor("batch norm added gradient", b.add, a.x.shape(), a.x.dtype());
  if (b.dresidual.defined()) check_tensor("batch norm dresidual", b.dresidual, a.x.shape(), a.x.dtype());
  // Constant statistics (count 0) have no gradient of their own; the sums may then be unwritten.
  std::vector<float> mean_dz(static_cast<size_t>(channels)), slope_dz(mean_dz.size());
  if (b.count > 0) {
    check_tensor("batch norm sums", b.sums, {2, channels}, Dtype::f64);
    const double* sums = b.sums.data<double>();
    const float* rstd = a.mean_rstd.data<float>() + channels;
    for (int64_t c = 0; c < channels; ++c) {
      mean_dz[static_cast<size_t>(c)] = static_cast<float>(sums[c] / b.count);
      slope_dz[static_cast<size_t>(c)] = static_cast<float>(rstd[c] * (sums[channels + c] / b.count));
    }
  }
  const auto mean_columns = folded.columns(mean_dz.data()), slope_columns = folded.columns(slope_dz.data());
  const Parameters parameters(a, folded);
  with_types(a.x.dtype(), b.dy.dtype(), [&]<class T, class Y>(T, Y) {
    const auto all = gradient<T, Y>(b, parameters);
    folded.for_blocks(kBlockRows, [&](int64_t at, int64_t rows, int64_t width, int) {
      kernels::NormOutputs<T> out;
      out.mean_dz = mean_columns.data();
      out.slope_dz = slope_columns.data();
      out.add = b.add.defined() ? elements<T>(b.add) + at : nullptr;
      out.dx = elements<T>(b.dx) + at;
      out.dresidual = b.dresidual.defined() ? elements<T>(b.dresidual) + at : nullptr;
      kernels::norm_backward(at_block(all, at, rows, width), out);
    });
  });
}

}  // namespace plsc
