// The linear layer as plain matrix products on the weight as the user keeps it. The layer behind the feature map
// of a face network has 50 MB of weights and few rows: what costs is every pass over them, and oneDNN's inner product
// would first bring them to a layout of its own (four times the time). The few activations are reordered instead.
#include <algorithm>

#include "backend/cpu/dnnl_exec.h"
#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/exact_sum.h"

namespace plsc {
namespace {

/// c = a b + beta c, row-major, with a (m, k), b (k, n); an operand that is stored as its transpose says so.
struct Product {
  int64_t m, n, k;
  bool a_transposed, b_transposed;
  const float *a, *b;
  float beta;
  float* c;
};

void multiply(const Product& p) {
  const auto status = dnnl_sgemm(p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N', p.m, p.n, p.k, 1.0f, p.a,
                                 p.a_transposed ? p.m : p.k, p.b, p.b_transposed ? p.k : p.n, p.beta, p.c, p.n);
  PLSC_CHECK(status == dnnl_success, "dnnl_sgemm: status {}", static_cast<int>(status));
}

/// c = a b in blocks of rows of one size, each on one thread: oneDNN chooses the order of a sum by the sizes of a
/// product and the number of threads, and these then never change.
void multiply_in_fixed_order(const Product& p, int threads) {
  constexpr int64_t kRows = 16;
  const int64_t blocks = (p.m + kRows - 1) / kRows;
  parallel_ranges(blocks, parts_for(blocks, 1, threads), [&](int64_t begin, int64_t end, int) {
    const OneThreadPrimitives guard;
    std::vector<float> a(static_cast<size_t>(kRows * p.k)), c(static_cast<size_t>(kRows * p.n));
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kRows, rows = std::min(kRows, p.m - first);
      std::copy_n(p.a + first * p.k, rows * p.k, a.begin());
      std::fill(a.begin() + rows * p.k, a.end(), 0.0f);
      multiply({kRows, p.n, p.k, false, p.b_transposed, a.data(), p.b, 0, c.data()});
      std::copy_n(c.begin(), rows * p.n, p.c + first * p.n);
    }
  });
}

class CpuLinear final : public LinearOp {
 public:
  CpuLinear(const DnnlRuntime& runtime, const LinearSpec& spec)
      : runtime_(runtime), spec_(spec), in_(spec.channels * spec.height * spec.width) {
    if (spec.height * spec.width == 1) return;
    const dnnl::memory::dims dims{spec.batch, spec.channels, spec.height, spec.width};
    const dnnl::memory::desc nchw(dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw);
    to_rows_.emplace(runtime, dnnl_nhwc(dims, Dtype::f32), nchw);
    from_rows_.emplace(runtime, nchw, dnnl_nhwc(dims, Dtype::f32));
  }

  void forward(const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) override {
    check(x, w, y);
    if (spec_.bias) check_tensor("bias", bias, {spec_.out_features}, Dtype::f32);
    const Tensor rows = to_rows(x);
    if (!runtime_.computes) return;
    float* out = y.data<float>();
    multiply_rows({spec_.batch, spec_.out_features, in_, false, true, rows.data<float>(), w.data<float>(), 0, out});
    for (int64_t i = 0; spec_.bias && i < spec_.batch; ++i)
      kernels::add(bias.data<float>(), out + i * spec_.out_features, spec_.out_features);
  }

  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    check(dx, w, dy);
    const Tensor rows = from_rows_ ? scratch_rows() : dx;
    if (!runtime_.computes) return;
    multiply_rows(
        {spec_.batch, in_, spec_.out_features, false, false, dy.data<float>(), w.data<float>(), 0, rows.data<float>()});
    if (from_rows_) from_rows_->run(rows.raw(), dx.raw());
  }

  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor& dbias, bool accumulate) override {
    check(x, dweight, dy);
    const Tensor rows = to_rows(x);
    const bool in_double = dweight.dtype() == Dtype::f64;
    if (spec_.bias) check_tensor("bias gradient", dbias, {spec_.out_features}, dweight.dtype());
    if (!runtime_.computes) return;
    if (in_double) {
      weight_in_double(rows, dy, dweight, accumulate);
      if (spec_.bias) bias_in_double(dy, dbias.data<double>(), accumulate);
      return;
    }
    multiply({spec_.out_features, in_, spec_.batch, true, false, dy.data<float>(), rows.data<float>(),
              accumulate ? 1.0f : 0.0f, dweight.data<float>()});
    if (!spec_.bias) return;
    float* sum = dbias.data<float>();
    if (!accumulate) std::fill(sum, sum + spec_.out_features, 0.0f);
    for (int64_t i = 0; i < spec_.batch; ++i)
      kernels::add(dy.data<float>() + i * spec_.out_features, sum, spec_.out_features);
  }

 private:
  void multiply_rows(const Product& p) const {
    spec_.fixed_order ? multiply_in_fixed_order(p, runtime_.threads) : multiply(p);
  }

  void bias_in_double(const Tensor& dy, double* sum, bool accumulate) const {
    if (!accumulate) std::fill(sum, sum + spec_.out_features, 0.0);
    for (int64_t i = 0; i < spec_.batch; ++i)
      kernels::add_exactly(dy.data<float>() + i * spec_.out_features, sum, spec_.out_features);
  }

  /// Row by row, an exact sum over the samples.
  void weight_in_double(const Tensor& rows, const Tensor& dy, Tensor& dweight, bool accumulate) const {
    for_parts(spec_.out_features, 1, runtime_.threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; ++o) {
        double* sum = dweight.data<double>() + o * in_;
        if (!accumulate) std::fill(sum, sum + in_, 0.0);
        for (int64_t i = 0; i < spec_.batch; ++i) {
          kernels::add_exactly(dy.data<float>()[i * spec_.out_features + o], rows.data<float>() + i * in_, sum, in_);
        }
      }
    });
  }

  Tensor scratch_rows() const { return Tensor(runtime_.allocator, {spec_.batch, in_}, Dtype::f32); }
  /// x with its features in the order of the weight's columns.
  Tensor to_rows(const Tensor& x) {
    if (!to_rows_) return x;
    Tensor rows = scratch_rows();
    to_rows_->run(x.raw(), rows.raw());
    return rows;
  }

  /// w is (O, C*H*W) or (O, C, H, W): the same memory.
  void check(const Tensor& x, const Tensor& w, const Tensor& y) const {
    PLSC_CHECK(x.elements() == spec_.batch * in_, "linear input {}, expected {} x {}", x.shape().text(), spec_.batch,
               in_);
    PLSC_CHECK(w.elements() == spec_.out_features * in_, "linear weight {}, expected {} x {}", w.shape().text(),
               spec_.out_features, in_);
    check_tensor("linear output", y, {spec_.batch, spec_.out_features}, Dtype::f32);
  }

  const DnnlRuntime& runtime_;
  LinearSpec spec_;
  int64_t in_;
  std::optional<DnnlReorder> to_rows_, from_rows_;  // where a feature map has more than one pixel
};

}  // namespace

std::unique_ptr<LinearOp> make_cpu_linear(const DnnlRuntime& runtime, const LinearSpec& spec) {
  PLSC_CHECK(spec.batch > 0 && spec.height > 0 && spec.width > 0 && spec.channels > 0 && spec.out_features > 0,
             "linear layer of ({}, {}, {}, {}) to {}", spec.batch, spec.height, spec.width, spec.channels,
             spec.out_features);
  return std::make_unique<CpuLinear>(runtime, spec);
}

}  // namespace plsc
