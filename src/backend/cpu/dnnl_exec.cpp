#include "backend/cpu/dnnl_exec.h"

#include <omp.h>

#include "base/error.h"

namespace plsc {

dnnl::primitive_attr dnnl_attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

dnnl::memory::data_type dnnl_type(Dtype dtype) {
  PLSC_CHECK(dtype == Dtype::f32 || dtype == Dtype::bf16, "{} activations on the CPU", dtype_name(dtype));
  return dtype == Dtype::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

dnnl::memory::desc dnnl_nhwc(const dnnl::memory::dims& nchw, Dtype dtype) {
  return {nchw, dnnl_type(dtype), dnnl::memory::format_tag::nhwc};
}

dnnl::memory::desc dnnl_any(const dnnl::memory::dims& dims, Dtype dtype) {
  return {dims, dnnl_type(dtype), dnnl::memory::format_tag::any};
}

DnnlPrimitive::DnnlPrimitive(const DnnlRuntime& runtime, dnnl::primitive primitive,
                             const dnnl::memory::desc& scratchpad, Layouts layouts)
    : runtime_(runtime), primitive_(std::move(primitive)), scratch_bytes_(scratchpad.get_size()) {
  for (const auto& [arg, desc] : layouts) args_.emplace(arg, dnnl::memory(desc, runtime.engine, DNNL_MEMORY_NONE));
  if (scratch_bytes_ > 0) {
    args_.emplace(DNNL_ARG_SCRATCHPAD, dnnl::memory(scratchpad, runtime.engine, DNNL_MEMORY_NONE));
  }
}

OneThreadPrimitives::OneThreadPrimitives() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneThreadPrimitives::~OneThreadPrimitives() { omp_set_num_threads(before_); }

void DnnlPrimitive::run(Pointers pointers) {
  for (const auto& [arg, pointer] : pointers) args_.at(arg).set_data_handle(pointer);
  const Tensor scratch = runtime_.scratch(scratch_bytes_);
  if (!runtime_.computes) return;
  if (scratch_bytes_ > 0) args_.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratch.raw());
  primitive_.execute(runtime_.stream, args_);
}

namespace {

dnnl::reorder::primitive_desc reorder_desc(const DnnlRuntime& runtime, const dnnl::memory::desc& from,
                                           const dnnl::memory::desc& to, bool accumulate) {
  dnnl::primitive_attr attr = dnnl_attributes();
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  return {runtime.engine, from, runtime.engine, to, attr};
}

}  // namespace

DnnlReorder::DnnlReorder(const DnnlRuntime& runtime, const dnnl::memory::desc& from, const dnnl::memory::desc& to,
                         bool accumulate)
    : reorder_([&] {
        const auto desc = reorder_desc(runtime, from, to, accumulate);
        return DnnlPrimitive(runtime, dnnl::reorder(desc), desc, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
      }()) {}

DnnlWeights::DnnlWeights(const DnnlRuntime& runtime, const dnnl::memory::desc& user, const dnnl::memory::desc& wanted)
    : runtime_(runtime), bytes_(wanted.get_size()) {
  if (user != wanted) reorder_.emplace(runtime, user, wanted);
}

void* DnnlWeights::prepare(const Tensor& weights, Tensor& hold) {
  if (!reorder_) return weights.raw();
  hold = runtime_.scratch(bytes_);
  reorder_->run(weights.raw(), hold.raw());
  return hold.raw();
}

DnnlGradient::DnnlGradient(const DnnlRuntime& runtime, const dnnl::memory::desc& given, const dnnl::memory::desc& user)
    : runtime_(runtime),
      bytes_(given.get_size()),
      same_layout_(given == user),
      store_(runtime, given, user),
      add_(runtime, given, user, true) {}

void* DnnlGradient::target(Tensor& gradient, bool accumulate, Tensor& hold) const {
  if (same_layout_ && !accumulate) return gradient.raw();
  hold = runtime_.scratch(bytes_);
  return hold.raw();
}

void DnnlGradient::finish(void* written, Tensor& gradient, bool accumulate) {
  if (written == gradient.raw()) return;
  (accumulate ? add_ : store_).run(written, gradient.raw());
}

}  // namespace plsc
