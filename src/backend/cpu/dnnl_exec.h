// Running oneDNN primitives on raw pointers: the argument map, scratch memory and weight layouts, prepared once.
#pragma once
#include <initializer_list>
#include <optional>
#include <unordered_map>
#include <utility>

#include "backend/cpu/dnnl_shim.h"
#include "tensor/tensor.h"

namespace plsc {

/// What all primitives of one backend share. Memory comes from the device's cache, so calls touch no new pages.
struct DnnlRuntime {
  explicit DnnlRuntime(Allocator& memory, int thread_count = 1, bool computes_too = true)
      : engine(dnnl::engine::kind::cpu, 0),
        stream(engine),
        allocator(memory),
        threads(thread_count),
        computes(computes_too) {}

  /// Scratch memory for one call; with 0 bytes an undefined tensor.
  Tensor scratch(size_t bytes) const {
    return bytes == 0 ? Tensor() : Tensor(allocator, {static_cast<int64_t>(bytes)}, Dtype::u8);
  }

  dnnl::engine engine;
  dnnl::stream stream;
  Allocator& allocator;
  int threads;    // of our own loops between primitives
  bool computes;  // false: ops take the memory that they would work in, and look at none (backend/dry)
};

/// Attributes of every primitive here: the scratchpad is ours.
dnnl::primitive_attr dnnl_attributes();
dnnl::memory::data_type dnnl_type(Dtype dtype);
/// Activations (N, H, W, C), given in oneDNN's order of dimensions: (N, C, H, W).
dnnl::memory::desc dnnl_nhwc(const dnnl::memory::dims& nchw, Dtype dtype);
/// A tensor whose layout oneDNN chooses.
dnnl::memory::desc dnnl_any(const dnnl::memory::dims& dims, Dtype dtype);

/// One primitive with its arguments, which are bound to a layout once and to a pointer at each run.
class DnnlPrimitive {
 public:
  using Layouts = std::initializer_list<std::pair<int, dnnl::memory::desc>>;
  using Pointers = std::initializer_list<std::pair<int, void*>>;

  template <class PrimitiveDesc>
  DnnlPrimitive(const DnnlRuntime& runtime, const dnnl::primitive& primitive, const PrimitiveDesc& desc,
                Layouts layouts)
      : DnnlPrimitive(runtime, primitive, desc.scratchpad_desc(), layouts) {}
  DnnlPrimitive(const DnnlRuntime& runtime, dnnl::primitive primitive, const dnnl::memory::desc& scratchpad,
                Layouts layouts);
  void run(Pointers pointers);

 private:
  const DnnlRuntime& runtime_;
  dnnl::primitive primitive_;
  size_t scratch_bytes_;
  std::unordered_map<int, dnnl::memory> args_;
};

/// While it lives, primitives are made (and plain products run) on one thread: oneDNN takes their number from OpenMP at
/// that time. Such primitives may run in the threads of a parallel loop, each of which needs one of its own.
class OneThreadPrimitives {
 public:
  OneThreadPrimitives();
  ~OneThreadPrimitives();
  OneThreadPrimitives(const OneThreadPrimitives&) = delete;
  OneThreadPrimitives& operator=(const OneThreadPrimitives&) = delete;

 private:
  int before_;
};

/// From one layout (and type) to another; with `accumulate` the result is added to what is there.
class DnnlReorder {
 public:
  DnnlReorder(const DnnlRuntime& runtime, const dnnl::memory::desc& from, const dnnl::memory::desc& to,
              bool accumulate = false);
  void run(void* from, void* to) { reorder_.run({{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}); }

 private:
  DnnlPrimitive reorder_;
};

/// Weights as the user keeps them, in the layout that a primitive wants: a scratch copy, or the original where the
/// layouts agree.
class DnnlWeights {
 public:
  DnnlWeights(const DnnlRuntime& runtime, const dnnl::memory::desc& user, const dnnl::memory::desc& wanted);
  /// `hold` keeps the copy alive while the pointer is used.
  void* prepare(const Tensor& weights, Tensor& hold);

 private:
  const DnnlRuntime& runtime_;
  size_t bytes_;
  std::optional<DnnlReorder> reorder_;
};

/// A gradient that a primitive gives in its own layout, brought (or added) to the user's.
class DnnlGradient {
 public:
  DnnlGradient(const DnnlRuntime& runtime, const dnnl::memory::desc& given, const dnnl::memory::desc& user);
  /// Where the primitive shall write: the gradient itself where that is possible, or scratch memory.
  void* target(Tensor& gradient, bool accumulate, Tensor& hold) const;
  /// After the primitive ran: brings `written` to the gradient.
  void finish(void* written, Tensor& gradient, bool accumulate);

 private:
  const DnnlRuntime& runtime_;
  size_t bytes_;
  bool same_layout_;
  DnnlReorder store_, add_;
};

}  // namespace plsc
