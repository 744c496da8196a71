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

/// Moves on to the first implementation whose name does not hold `avoid` (empty: stays).
template <class PrimitiveDesc>
PrimitiveDesc first_without(PrimitiveDesc pd, std::string_view avoid) {
  while (!avoid.empty() && std::string_view(pd.impl_info_str()).find(avoid) != std::string_view::npos) {
    PLSC_CHECK(pd.next_impl(), "oneDNN has no implementation beside {}", avoid);
  }
  return pd;
}

/// What both versions ask for beside an operation's own arguments.
struct Common {
  const Engine& engine;
  const Attr& attr;
  std::string_view avoid = {};  // see first_without
};

/// Op::primitive_desc from the operation's arguments, which both versions take in the same order.
template <class Op, class... Args>
typename Op::primitive_desc forward_desc(const Common& c, const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return first_without(typename Op::primitive_desc(c.engine, args..., c.attr), c.avoid);
#else
  const typename Op::desc desc(args...);  // next_impl needs it alive
  return first_without(typename Op::primitive_desc(desc, c.attr, c.engine), c.avoid);
#endif
}
/// The same for a backward pass, with the forward pass's description as its hint.
template <class Op, class Hint, class... Args>
typename Op::primitive_desc backward_desc(const Common& c, const Hint& hint, const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return first_without(typename Op::primitive_desc(c.engine, args..., hint, c.attr), c.avoid);
#else
  const typename Op::desc desc(args...);
  return first_without(typename Op::primitive_desc(desc, c.attr, c.engine, hint), c.avoid);
#endif
}
/// f(the arguments of a pooling's window): version 3 takes a dilation as well.
template <class F>
auto with_window(const DnnlWindow& w, const F& f) {
#if DNNL_VERSION_MAJOR >= 3
  return f(w.strides, w.kernel, dnnl::memory::dims(w.kernel.size(), 0), w.pad, w.pad);
#else
  return f(w.strides, w.kernel, w.pad, w.pad);
#endif
}

inline auto conv_forward(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                         std::string_view avoid) {
  return forward_desc<dnnl::convolution_forward>({engine, attr, avoid}, kTraining, kDirect, d.src, d.weights, d.dst,
                                                 w.strides, w.pad, w.pad);
}

inline auto conv_backward_data(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                               const dnnl::convolution_forward::primitive_desc& hint, std::string_view avoid) {
  return backward_desc<dnnl::convolution_backward_data>({engine, attr, avoid}, hint, kDirect, d.src, d.weights, d.dst,
                                                        w.strides, w.pad, w.pad);
}

inline auto conv_backward_weights(const Engine& engine, const SrcWeightsDst& d, const DnnlWindow& w, const Attr& attr,
                                  const dnnl::convolution_forward::primitive_desc& hint, std::string_view avoid) {
  return backward_desc<dnnl::convolution_backward_weights>({engine, attr, avoid}, hint, kDirect, d.src, d.weights,
                                                           d.dst, w.strides, w.pad, w.pad);
}

inline auto pool_forward(const Engine& engine, dnnl::algorithm kind, const Desc& src, const Desc& dst,
                         const DnnlWindow& w, const Attr& attr) {
  return with_window(w, [&](const auto&... window) {
    return forward_desc<dnnl::pooling_forward>({engine, attr}, kTraining, kind, src, dst, window...);
  });
}

inline auto pool_backward(const Engine& engine, dnnl::algorithm kind, const Desc& src, const Desc& dst,
                          const DnnlWindow& w, const Attr& attr, const dnnl::pooling_forward::primitive_desc& hint) {
  return with_window(w, [&](const auto&... window) {
    return backward_desc<dnnl::pooling_backward>({engine, attr}, hint, kind, src, dst, window...);
  });
}

/// dst = src weights, all two-dimensional.
inline auto matmul(const Engine& engine, const SrcWeightsDst& d, const Attr& attr) {
  return forward_desc<dnnl::matmul>({engine, attr}, d.src, d.weights, d.dst);
}

}  // namespace dnnl_shim

/// The instruction set that oneDNN uses here: "avx512_core_amx". It may be limited by DNNL_MAX_CPU_ISA.
std::string dnnl_isa_name();
std::string dnnl_version_text();  // "oneDNN 2.6.3"

}  // namespace plsc
