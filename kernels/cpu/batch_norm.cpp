#include "kernels/cpu/batch_norm.h"

#include "kernels/math/batch_norm.h"
#include "kernels/math/exact_sum.h"

namespace plsc::kernels {
namespace {

constexpr int64_t kTile = 1024;  // columns whose dz lies in the first-level cache between two loops

template <class T>
PLSC_INLINE void sums_of(const T* x, int64_t rows, int64_t width, double* __restrict sum, double* __restrict squares) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x + r * width;
    for (int64_t c = 0; c < width; ++c) {
      const auto v = static_cast<double>(load(row[c]));
      sum[c] += math::to_quanta<math::Quantum::activation>(v);
      squares[c] += math::to_quanta<math::Quantum::activation>(v * v);
    }
  }
}

template <NormActivation kActivation>
PLSC_INLINE float activate(float z, float slope) {
  if constexpr (kActivation == NormActivation::relu) return math::relu(z);
  if constexpr (kActivation == NormActivation::prelu) return math::prelu(z, slope);
  return z;
}

template <NormActivation kActivation, bool kResidual, class T, class Y>
PLSC_INLINE void forward_rows(const NormForward<T, Y>& a) {
  const float* __restrict mean = a.columns.mean;
  const float* __restrict scale = a.columns.scale;
  const float* __restrict beta = a.columns.beta;
  const float* __restrict slope = a.columns.slope;
  for (int64_t r = 0; r < a.rows; ++r) {
    const T* x = a.x + r * a.width;
    const T* residual = kResidual ? a.residual + r * a.width : nullptr;
    Y* y = a.y + r * a.width;
    for (int64_t c = 0; c < a.width; ++c) {
      float z = math::normalized(load(x[c]), mean[c], scale[c], beta[c]);
      if constexpr (kResidual) z += load(residual[c]);
      store(activate<kActivation>(z, kActivation == NormActivation::prelu ? slope[c] : 0.0f), y[c]);
    }
  }
}

template <NormActivation kActivation, class T, class Y>
PLSC_INLINE void forward_residual(const NormForward<T, Y>& a) {
  if (a.residual != nullptr) {
    forward_rows<kActivation, true>(a);
  } else {
    forward_rows<kActivation, false>(a);
  }
}

template <class T, class Y>
PLSC_INLINE void forward_all(const NormForward<T, Y>& a) {
  switch (a.activation) {
    case NormActivation::none:
      return forward_residual<NormActivation::none>(a);
    case NormActivation::relu:
      return forward_residual<NormActivation::relu>(a);
    case NormActivation::prelu:
      return forward_residual<NormActivation::prelu>(a);
  }
}

/// dz of columns [begin, begin + n) of row r. For PReLU also adds min(z, 0) dy to dslope where that is wanted.
/// Loops of its own, so that sums and outputs need not exist once for each activation.
template <class T, class Y>
PLSC_INLINE void gradient_tile(const NormGradient<T, Y>& a, int64_t r, int64_t begin, int64_t n, float* __restrict dz,
                               double* __restrict dslope) {
  const int64_t at = r * a.width + begin;
  const T* x = a.x + at;
  const Y* dy = a.dy + at;
  const float* __restrict mean = a.columns.mean + begin;
  const float* __restrict scale = a.columns.scale + begin;
  const float* __restrict beta = a.columns.beta + begin;
  // Loads stand outside of the conditions: what a condition guards would not vectorise everywhere.
  if (a.activation == NormActivation::none) {
    for (int64_t c = 0; c < n; ++c) dz[c] = load(dy[c]);
  } else if (a.activation == NormActivation::relu && a.y != nullptr) {
    const Y* y = a.y + at;
    for (int64_t c = 0; c < n; ++c) {
      const float g = load(dy[c]);
      dz[c] = math::relu_gradient(load(y[c]), g);
    }
  } else if (a.activation == NormActivation::relu) {
    for (int64_t c = 0; c < n; ++c) {
      const float g = load(dy[c]);
      dz[c] = math::relu_gradient(math::normalized(load(x[c]), mean[c], scale[c], beta[c]), g);
    }
  } else {
    const float* __restrict slope = a.columns.slope + begin;
    float z[kTile];
    for (int64_t c = 0; c < n; ++c) z[c] = math::normalized(load(x[c]), mean[c], scale[c], beta[c]);
    if (a.residual != nullptr) {
      for (int64_t c = 0; c < n; ++c) z[c] += load(a.residual[at + c]);
    }
    if (dslope != nullptr) {
      for (int64_t c = 0; c < n; ++c) {
        dslope[c] += math::to_quanta<math::Quantum::gradient>(
            static_cast<double>(math::prelu_slope_gradient(z[c], load(dy[c]))));
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      dz[c] = math::prelu_gradient(z[c], slope[c], load(dy[c]));
    }
  }
}

template <class T, class Y>
PLSC_INLINE void backward_sums_all(const NormGradient<T, Y>& a, const NormSums& sums) {
  float dz[kTile];
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t begin = 0; begin < a.width; begin += kTile) {
      const int64_t n = a.width - begin < kTile ? a.width - begin : kTile;
      gradient_tile(a, r, begin, n, dz, sums.dslope == nullptr ? nullptr : sums.dslope + begin);
      const T* x = a.x + r * a.width + begin;
      const float* __restrict mean = a.columns.mean + begin;
      double* __restrict sum_dz = sums.dz + begin;
      double* __restrict sum_dz_x = sums.dz_x + begin;
      for (int64_t c = 0; c < n; ++c) {
        sum_dz[c] += math::to_quanta<math::Quantum::gradient>(static_cast<double>(dz[c]));
        sum_dz_x[c] += math::to_quanta<math::Quantum::gradient>(static_cast<double>(dz[c] * (load(x[c]) - mean[c])));
      }
    }
  }
}

template <class T>
PLSC_INLINE void outputs_tile(const NormColumns& columns, const NormOutputs<T>& out, const T* x, int64_t begin,
                              int64_t at, int64_t n, const float* __restrict dz) {
  const float* __restrict mean = columns.mean + begin;
  const float* __restrict scale = columns.scale + begin;
  const float* __restrict mean_dz = out.mean_dz + begin;
  const float* __restrict slope_dz = out.slope_dz + begin;
  T* dx = out.dx + at;
  if (out.add != nullptr) {
    const T* extra = out.add + at;
    for (int64_t c = 0; c < n; ++c) {
      const float own = math::norm_gradient(load(x[c]), mean[c], scale[c], dz[c], {mean_dz[c], slope_dz[c]});
      store(own + load(extra[c]), dx[c]);
    }
  } else {
    for (int64_t c = 0; c < n; ++c) {
      store(math::norm_gradient(load(x[c]), mean[c], scale[c], dz[c], {mean_dz[c], slope_dz[c]}), dx[c]);
    }
  }
  if (out.dresidual != nullptr) {
    T* dresidual = out.dresidual + at;
    for (int64_t c = 0; c < n; ++c) store(dz[c], dresidual[c]);
  }
}

template <class T, class Y>
PLSC_INLINE void backward_all(const NormGradient<T, Y>& a, const NormOutputs<T>& out) {
  float dz[kTile];
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t begin = 0; begin < a.width; begin += kTile) {
      const int64_t n = a.width - begin < kTile ? a.width - begin : kTile;
      const int64_t at = r * a.width + begin;
      gradient_tile(a, r, begin, n, dz, nullptr);
      outputs_tile(a.columns, out, a.x + at, begin, at, n, dz);
    }
  }
}

}  // namespace

PLSC_CLONES void column_sums(const float* x, int64_t rows, int64_t width, double* sum, double* squares) {
  sums_of(x, rows, width, sum, squares);
}
PLSC_CLONES void column_sums(const Bf16* x, int64_t rows, int64_t width, double* sum, double* squares) {
  sums_of(x, rows, width, sum, squares);
}

PLSC_CLONES void norm_forward(const NormForward<float, float>& args) { forward_all(args); }
PLSC_CLONES void norm_forward(const NormForward<Bf16, Bf16>& args) { forward_all(args); }
PLSC_CLONES void norm_forward(const NormForward<Bf16, float>& args) { forward_all(args); }

PLSC_CLONES void norm_backward_sums(const NormGradient<float, float>& args, const NormSums& sums) {
  backward_sums_all(args, sums);
}
PLSC_CLONES void norm_backward_sums(const NormGradient<Bf16, Bf16>& args, const NormSums& sums) {
  backward_sums_all(args, sums);
}
PLSC_CLONES void norm_backward_sums(const NormGradient<Bf16, float>& args, const NormSums& sums) {
  backward_sums_all(args, sums);
}

PLSC_CLONES void norm_backward(const NormGradient<float, float>& args, const NormOutputs<float>& out) {
  backward_all(args, out);
}
PLSC_CLONES void norm_backward(const NormGradient<Bf16, Bf16>& args, const NormOutputs<Bf16>& out) {
  backward_all(args, out);
}
PLSC_CLONES void norm_backward(const NormGradient<Bf16, float>& args, const NormOutputs<Bf16>& out) {
  backward_all(args, out);
}

}  // namespace plsc::kernels
