// The head's ops on a GPU: the small ones here, the passes over tiles in head_forward_cuda.cpp, head_backward_cuda.cpp
// and head_top_cuda.cpp, sampling in head_sample_cuda.h.
#include "backend/cuda/head_ops_cuda.h"

#include "backend/cuda/head_sample_cuda.h"
#include "backend/cuda/head_tiles_cuda.h"
#include "backend/cuda/row_buffers_cuda.h"
#include "kernels/cuda/head_loss.h"
#include "kernels/cuda/head_sample.h"

namespace plsc {
namespace {

class CudaHeadOps final : public HeadOps {
 public:
  CudaHeadOps(CudaDevice& device, const CudaRuntime& runtime, math::StepState* state, const CudaHeadOptions& options)
      : device_(device), stream_(runtime.stream), state_(state), work_(runtime, options.tile_rows), sampler_(device) {}

  void row_normalize(const Tensor& x, Tensor& y, Tensor& norm) override;
  void row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) override;
  void append_one(const Tensor& x, Tensor& y) override;
  void append_one_backward(const Tensor& dy, Tensor& dx) override;
  void init_rows(Tensor& rows, const RowDraws& draws) override;
  std::unique_ptr<SampledRows> start_sample(const SampleRows& args) override { return sampler_.start(args); }
  std::unique_ptr<RowBuffers> make_row_buffers(const RowTables& tables) override {
    return std::make_unique<CudaRowBuffers>(device_, tables);
  }
  void find_rows(const Tensor& active, const Tensor& rows, Tensor& position) override;
  void target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) override;
  void forward_pass(RowSource& rows, const HeadPass& pass, HeadSums& sums) override {
    cuda_forward_pass(work_, rows, pass, sums);
  }
  void rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) override;
  void loss(const HeadLossArgs& args) override;
  void backward_pass(RowSource& rows, const HeadPass& pass, HeadGradient& gradient) override {
    cuda_backward_pass(work_, rows, pass, gradient, state_);
  }
  void update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& rule) override;
  void catch_up_rows(RowSource& rows, int64_t few) override;
  void top_rows(RowSource& rows, const HeadPass& pass, TopRows& top) override { cuda_top_rows(work_, rows, pass, top); }

 private:
  CudaDevice& device_;
  cudaStream_t stream_;
  math::StepState* state_;
  HeadWork work_;
  HeadSampler sampler_;
};

void CudaHeadOps::row_normalize(const Tensor& x, Tensor& y, Tensor& norm) {
  check_device_tensor("row_normalize y", y, x.shape(), Dtype::f32);
  check_device_tensor("row_normalize norm", norm, {x.dim(0)}, Dtype::f32);
  kernels::cuda::row_normalize({x.data<float>(), y.data<float>(), norm.data<float>(), x.dim(0), x.dim(1)}, stream_);
}

void CudaHeadOps::row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) {
  check_device_tensor("row_normalize_backward dy", dy, y.shape(), Dtype::f32);
  check_device_tensor("row_normalize_backward dx", dx, y.shape(), Dtype::f32);
  kernels::cuda::RowNormalizeBackward args;
  args.y = y.data<float>();
  args.norm = norm.data<float>();
  args.dy = dy.data<float>();
  args.dx = dx.data<float>();
  args.rows = y.dim(0);
  args.columns = y.dim(1);
  args.state = state_;
  kernels::cuda::row_normalize_backward(args, stream_);
}

void CudaHeadOps::append_one(const Tensor& x, Tensor& y) {
  check_device_tensor("append_one y", y, {x.dim(0), y.dim(1)}, Dtype::f32);
  kernels::cuda::append_one({x.data<float>(), y.data<float>(), x.dim(0), x.dim(1), y.dim(1)}, stream_);
}

void CudaHeadOps::append_one_backward(const Tensor& dy, Tensor& dx) {
  check_device_tensor("append_one_backward dx", dx, {dy.dim(0), dx.dim(1)}, Dtype::f32);
  kernels::cuda::append_one_backward({dy.data<float>(), dx.data<float>(), dx.dim(0), dx.dim(1), dy.dim(1), state_},
                                     stream_);
}

void CudaHeadOps::init_rows(Tensor& rows, const RowDraws& draws) {
  kernels::cuda::RowInit init;
  init.rows = rows.raw();
  init.type = head_type(rows.dtype());
  init.count = rows.dim(0);
  init.columns = rows.dim(1);
  init.seed = draws.seed;
  init.first_class = draws.first_class;
  init.std = draws.std;
  init.zero_columns = draws.zero_columns;
  kernels::cuda::init_rows(init, stream_);
}

void CudaHeadOps::find_rows(const Tensor& active, const Tensor& rows, Tensor& position) {
  check_device_tensor("find_rows position", position, rows.shape(), Dtype::i64);
  kernels::cuda::find_rows(
      {active.data<int64_t>(), active.elements(), rows.data<int64_t>(), rows.elements(), position.data<int64_t>()},
      stream_);
}

void CudaHeadOps::target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) {
  check_device_tensor("target_pass cosine", cosine, {pass.x.dim(0)}, Dtype::f64);
  // Targets lie anywhere: all active rows at once.
  const RowTile all = rows.open(0, rows.count(), RowAccess::read);
  kernels::cuda::target_cosines(
      head_rows_of(all, rows.columns()),
      {pass.x.data<float>(), pass.position.data<int64_t>(), pass.x.dim(0), cosine.data<double>(), pass.unit_rows},
      stream_);
  rows.close(all, RowAccess::read);
}

void CudaHeadOps::rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) {
  kernels::cuda::rescale_sums(sum.data<double>(), from.data<float>(), to.data<float>(), sum.elements(), stream_);
}

void CudaHeadOps::loss(const HeadLossArgs& args) {
  check_device_tensor("the loss's result", args.result, {3}, Dtype::f64);
  kernels::cuda::HeadLossInputs in;
  in.sum = args.sum.data<double>();
  in.target_cosine = args.target_cosine.data<double>();
  in.shift = args.shift.data<float>();
  in.max_cosine = args.max_cosine.data<float>();
  in.labels = args.labels.data<int64_t>();
  in.samples = args.sum.elements();
  in.rule = args.rule;
  in.gradient_scale = args.gradient_scale;
  kernels::cuda::head_loss(in,
                           {args.log_sum.data<float>(), args.target_gradient.data<float>(), args.result.data<double>()},
                           state_, stream_);
}

void CudaHeadOps::update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& rule) {
  check_device_tensor("update_rows dweight", dweight, {rows.count(), rows.columns()}, Dtype::f32);
  const RowTile all = rows.open(0, rows.count(), RowAccess::update);
  kernels::cuda::update_rows(head_rows_of(all, rows.columns()), {dweight.data<float>()}, rule, state_, stream_);
  rows.close(all, RowAccess::update);
}

void CudaHeadOps::catch_up_rows(RowSource& rows, int64_t few) {
  const RowTile all = rows.open(0, rows.count(), RowAccess::update);
  kernels::cuda::catch_up_rows(head_rows_of(all, rows.columns()), few, {}, stream_);
  rows.close(all, RowAccess::update);
}

}  // namespace

std::unique_ptr<HeadOps> make_cuda_head_ops(CudaDevice& device, const CudaRuntime& runtime, math::StepState* state,
                                            const CudaHeadOptions& options) {
  return std::make_unique<CudaHeadOps>(device, runtime, state, options);
}

}  // namespace plsc
