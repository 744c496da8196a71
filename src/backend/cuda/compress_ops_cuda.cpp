#include "backend/cuda/compress_ops_cuda.h"

#include <limits>

#include "backend/cuda/check.h"
#include "kernels/cuda/topk.h"

namespace plsc {
namespace {

using kernels::cuda::TopkSearch;
using kernels::cuda::UnsentPieces;

UnsentPieces pieces_of(const UnsentPart& part) {
  const Shape shape{part.value.elements()};
  check_device_tensor("weights", part.value, shape, Dtype::f32);
  check_device_tensor("gradient", part.grad, shape, Dtype::f32);
  check_device_tensor("velocity", part.velocity, shape, Dtype::f32);
  check_device_tensor("unsent gradient", part.unsent, shape, Dtype::f32);
  return {part.grad.data<float>(), part.value.data<float>(), part.velocity.data<float>(), part.unsent.data<float>(),
          shape.elements()};
}

math::UnsentTerms terms_of(const UnsentPart& part, float weight_decay) {
  if (part.squares.defined()) check_device_tensor("sums of squares", part.squares, {2}, Dtype::f64);
  return {weight_decay, part.nodes, part.squares.defined() ? part.squares.data<double>() : nullptr};
}

class CudaCompressOps final : public CompressOps {
 public:
  CudaCompressOps(CudaDevice& device, math::StepState* state) : device_(device), state_(state) {}

  void select(const UnsentPart& part, float weight_decay, Tensor& room, SentPart& to) override {
    const UnsentPieces pieces = pieces_of(part);
    const int64_t k = to.indices.elements();
    check_device_tensor("room", room, {pieces.n}, Dtype::f32);
    check_device_tensor("indices", to.indices, {k}, Dtype::i32);
    check_device_tensor("values", to.bits, {k}, Dtype::i32);
    PLSC_CHECK(to.first + pieces.n <= std::numeric_limits<int32_t>::max(), "{} elements from {}", pieces.n, to.first);
    const cudaStream_t stream = device_.compute_stream();
    kernels::cuda::accumulate_into(pieces, terms_of(part, weight_decay), room.data<float>(), state_, stream);
    kernels::cuda::take_largest(room.data<float>(), pieces.n, k, search_for(pieces.n), static_cast<int32_t>(to.first),
                                to.indices.data<int32_t>(), to.bits.data<int32_t>(), stream);
  }

  void keep_rest(const UnsentPart& part, float weight_decay, const SentPart& sent) override {
    const int64_t k = sent.indices.elements();
    check_device_tensor("indices", sent.indices, {k}, Dtype::i32);
    kernels::cuda::keep_rest(pieces_of(part), terms_of(part, weight_decay), sent.indices.data<int32_t>(), k,
                             static_cast<int32_t>(sent.first), state_, device_.compute_stream());
  }

  void check_finite(const Tensor& sent) override {
    const int64_t parts = sent.dim(0), k = sent.dim(2);
    check_device_tensor("what was sent", sent, {parts, 2, k}, Dtype::i32);
    kernels::cuda::check_sent(sent.data<int32_t>(), parts, k, state_, device_.compute_stream());
  }

  void scatter(const Tensor& sent, Tensor& sum) override {
    const int64_t parts = sent.dim(0), k = sent.dim(2);
    check_device_tensor("what was sent", sent, {parts, 2, k}, Dtype::i32);
    check_device_tensor("sum", sum, {sum.elements()}, Dtype::f32);
    device_.fill_zero(sum);
    for (int64_t p = 0; p < parts; ++p) {
      kernels::cuda::add_sent(sent.data<int32_t>() + 2 * p * k, k, sum.data<float>(), state_, device_.compute_stream());
    }
  }

  void descend(std::span<Param* const> params, const math::UpdateGroup& group) override {
    for (Param* p : params) {
      check_device_tensor(p->name.c_str(), p->value, p->value.shape(), Dtype::f32);
      check_device_tensor(p->name.c_str(), p->grad, p->value.shape(), Dtype::f32);
      kernels::cuda::descend(p->grad.data<float>(), p->value.data<float>(), p->value.elements(), group, state_,
                             device_.compute_stream());
    }
  }

  void clip(Tensor& gradient, const Tensor& squares, double bound) override {
    check_device_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    check_device_tensor("sums of squares", squares, {squares.elements()}, Dtype::f64);
    kernels::cuda::clip_local(gradient.data<float>(), gradient.elements(), squares.data<double>(), squares.elements(),
                              bound, state_, device_.compute_stream());
  }

 private:
  /// Searches follow one another in the stream: all share one room, which the first steps, of which nothing is
  /// recorded, make as large as it has to be.
  TopkSearch search_for(int64_t n) {
    const int64_t pieces = kernels::cuda::topk_pieces(n);
    if (!cut_.defined() || counts_.elements() < 2 * pieces) {
      const MemoryScope scope(device_, MemoryUse::workspace);
      cut_ = device_.tensor({static_cast<int64_t>(sizeof(math::TopkCut))}, Dtype::u8);
      bins_ = device_.tensor({math::kTopkBins}, Dtype::i32);
      counts_ = device_.tensor({2 * pieces}, Dtype::i64);
    }
    auto* counts = counts_.data<int64_t>();
    return {static_cast<unsigned*>(bins_.raw()), static_cast<math::TopkCut*>(cut_.raw()), counts,
            counts + counts_.elements() / 2};
  }

  CudaDevice& device_;
  math::StepState* state_;
  Tensor cut_, bins_, counts_;
};

}  // namespace

std::unique_ptr<CompressOps> make_cuda_compress_ops(CudaDevice& device, math::StepState* state) {
  return std::make_unique<CudaCompressOps>(device, state);
}

}  // namespace plsc
