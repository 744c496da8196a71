// What differs between oneDNN 2 (Debian 12) and oneDNN 3 (Debian 13): in 2 a primitive descriptor is made of an
// operation descriptor, in 3 directly of its arguments. Nothing else of the project asks for oneDNN's version.
#pragma once
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace plsc {

/// Two spatial dimensions of a window that moves over an image.
struct DnnlWindow {
  dnnl::memory::dims kernel, strides, pad;
};

namespace dnnl_shim {

using Desc = dnnl::memory::desc;
using Engine = dnnl::engine;
using Attr = dnnl::primitive_attr;
inline constexpr auto kTraining = dnnl::prop_kind::forward_training;
inline constexpr auto kDirect = dnnl::algorithm::convolution_direct;

struct SrcWeightsDst {
  Desc src, weights, dst;
};

/// The first implementation of `pd` whose name does not hold `avoid` (empty: the first). In version 2 the operation's
/// description must still be alive, because the iterator points to it.
template <class PrimitiveDesc>
PrimitiveDesc first_without(PrimitiveDesc pd, std::string_view avoid) {
  while (!avoid.empty() && std::string_view(pd.impl_info_str()).find(avoid) != std::string_view::npos) {
    PLSC_CHECK(pd.next_impl(), "oneDNN has no implementation beside {}", avoid);
  }
  return pd;
}

inline auto conv_forward(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                         std::string_view avoid) {
  using Op = dnnl::convolution_forward;
#if DNNL_VERSION_MAJOR >= 3
  return first_without(
      Op::primitive_desc(engine, kTraining, kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad, attr), avoid);
#else
  const Op::desc desc(kTraining, kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad);
  return first_without(Op::primitive_desc(desc, attr, engine), avoid);
#endif
}

inline auto conv_backward_data(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                               const dnnl::convolution_forward::primitive_desc& hint, std::string_view avoid) {
  using Op = dnnl::convolution_backward_data;
#if DNNL_VERSION_MAJOR >= 3
  return first_without(
      Op::primitive_desc(engine, kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad, hint, attr), avoid);
#else
  const Op::desc desc(kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad);
  return first_without(Op::primitive_desc(desc, attr, engine, hint), avoid);
#endif
}

inline auto conv_backward_weights(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                                  const dnnl::convolution_forward::primitive_desc& hint, std::string_view avoid) {
  using Op = dnnl::convolution_backward_weights;
#if DNNL_VERSION_MAJOR >= 3
  return first_without(
      Op::primitive_desc(engine, kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad, hint, attr), avoid);
#else
  const Op::desc desc(kDirect, d.src, d.weights, d.dst, w.strides, w.pad, w.pad);
  return first_without(Op::primitive_desc(desc, attr, engine, hint), avoid);
#endif
}

inline auto linear_forward(const Engine& engine, const SrcWeightsDst& d, const Desc& bias, const Attr& attr) {
  using Op = dnnl::inner_product_forward;
#if DNNL_VERSION_MAJOR >= 3
  return Op::primitive_desc(engine, kTraining, d.src, d.weights, bias, d.dst, attr);
#else
  return Op::primitive_desc({kTraining, d.src, d.weights, bias, d.dst}, attr, engine);
#endif
}

inline auto linear_backward_data(const Engine& engine, const SrcWeightsDst& d, const Attr& attr,
                                 const dnnl::inner_product_forward::primitive_desc& hint) {
  using Op = dnnl::inner_product_backward_data;
#if DNNL_VERSION_MAJOR >= 3
  return Op::primitive_desc(engine, d.src, d.weights, d.dst, hint, attr);
#else
  return Op::primitive_desc({d.src, d.weights, d.dst}, attr, engine, hint);
#endif
}

inline auto linear_backward_weights(const Engine& engine, const SrcWeightsDst& d, const Desc& bias, const Attr& attr,
                                    const dnnl::inner_product_forward::primitive_desc& hint) {
  using Op = dnnl::inner_product_backward_weights;
#if DNNL_VERSION_MAJOR >= 3
  return Op::primitive_desc(engine, d.src, d.weights, bias, d.dst, hint, attr);
#else
  return Op::primitive_desc({d.src, d.weights, bias, d.dst}, attr, engine, hint);
#endif
}

inline auto pool_forward(const Engine& engine, dnnl::algorithm kind, const Desc& src, const Desc& dst,
                         const DnnlWindow& w, const Attr& attr) {
  using Op = dnnl::pooling_forward;
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::memory::dims dense(w.kernel.size(), 0);
  return Op::primitive_desc(engine, kTraining, kind, src, dst, w.strides, w.kernel, dense, w.pad, w.pad, attr);
#else
  return Op::primitive_desc({kTraining, kind, src, dst, w.strides, w.kernel, w.pad, w.pad}, attr, engine);
#endif
}

inline auto pool_backward(const Engine& engine, dnnl::algorithm kind, const Desc& src, const Desc& dst,
                          const DnnlWindow& w, const Attr& attr, const dnnl::pooling_forward::primitive_desc& hint) {
  using Op = dnnl::pooling_backward;
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::memory::dims dense(w.kernel.size(), 0);
  return Op::primitive_desc(engine, kind, src, dst, w.strides, w.kernel, dense, w.pad, w.pad, hint, attr);
#else
  return Op::primitive_desc({kind, src, dst, w.strides, w.kernel, w.pad, w.pad}, attr, engine, hint);
#endif
}

/// dst = src weights, all two-dimensional.
inline auto matmul(const Engine& engine, const SrcWeightsDst& d, const Attr& attr) {
  using Op = dnnl::matmul;
#if DNNL_VERSION_MAJOR >= 3
  return Op::primitive_desc(engine, d.src, d.weights, d.dst, attr);
#else
  return Op::primitive_desc({d.src, d.weights, d.dst}, attr, engine);
#endif
}

}  // namespace dnnl_shim

/// The instruction set that oneDNN uses here: "avx512_core_amx". It may be limited by DNNL_MAX_CPU_ISA.
std::string dnnl_isa_name();
std::string dnnl_version_text();  // "oneDNN 2.6.3"
/// True where that set multiplies bf16 (AVX-512 bf16, AMX).
bool dnnl_has_bf16();

}  // namespace plsc
