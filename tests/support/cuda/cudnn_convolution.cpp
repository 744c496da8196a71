// The stand-in for cuDNN: the three passes of a convolution as plain loops, summed in double. What cuDNN does not
// promise to repeat does not repeat here.
#include <atomic>
#include <cstring>
#include <vector>

#include "cudnn_standin.h"

namespace plsc::standin {
namespace {

struct Arrays {
  std::vector<double> first, second, out;
};

std::vector<double> loaded(const void* data, Element type, size_t n, bool tf32) {
  std::vector<double> v(n);
  for (size_t i = 0; i < n; ++i) {
    const float value = load(data, type, i);
    v[i] = static_cast<double>(tf32 ? rounded_to_tf32(value) : value);
  }
  return v;
}

/// Weights (output channels, places and input channels) with output channels innermost.
std::vector<double> transposed(const std::vector<double>& weights, size_t out) {
  const size_t filter = weights.size() / out;
  std::vector<double> t(weights.size());
  for (size_t o = 0; o < out; ++o)
    for (size_t i = 0; i < filter; ++i) t[i * out + o] = weights[o * filter + i];
  return t;
}

/// to[i] += factor * from[i]: what the compiler makes vectors of.
void add(double* __restrict to, double factor, const double* __restrict from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

/// Calls visit(first input of a pixel, first weight of (o = 0, window place), first output of a pixel) for each place
/// that lies inside the image. Channels are innermost everywhere; weights of one output channel lie `filter` apart.
template <class Visit>
void for_each_place(const Convolution& c, const Visit& visit) {
  for (int n = 0; n < c.n; ++n)
    for (int oh = 0; oh < c.oh; ++oh)
      for (int ow = 0; ow < c.ow; ++ow)
        for (int kh = 0; kh < c.kh; ++kh)
          for (int kw = 0; kw < c.kw; ++kw) {
            const int h = oh * c.stride_h - c.pad_h + kh, w = ow * c.stride_w - c.pad_w + kw;
            if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
            visit(static_cast<size_t>((n * c.h + h) * c.w + w) * static_cast<size_t>(c.c),
                  static_cast<size_t>(kh * c.kw + kw) * static_cast<size_t>(c.c),
                  static_cast<size_t>((n * c.oh + oh) * c.ow + ow) * static_cast<size_t>(c.k));
          }
}

void compute(Pass pass, const Convolution& c, Arrays& v) {
  const auto in = static_cast<size_t>(c.c), out = static_cast<size_t>(c.k);
  const size_t filter = in * static_cast<size_t>(c.kh * c.kw);
  if (pass == Pass::forward) {
    const std::vector<double> weights = transposed(v.second, out);
    return for_each_place(c, [&](size_t x, size_t w, size_t y) {
      for (size_t i = 0; i < in; ++i) add(&v.out[y], v.first[x + i], &weights[(w + i) * out], out);
    });
  }
  for_each_place(c, [&](size_t x, size_t w, size_t y) {
    for (size_t o = 0; o < out; ++o) {
      const double dy = v.second[y + o];
      if (pass == Pass::data) add(&v.out[x], dy, &v.first[o * filter + w], in);
      if (pass == Pass::filter) add(&v.out[o * filter + w], dy, &v.first[x], in);
    }
  });
}

struct Queued {
  Convolution c;
  ConvCall call;
  ConvMemory memory;
  bool tf32;
  bool repeatable;
  float alpha, beta;
};

void run(const Queued& q) {
  const Convolution& c = q.c;
  const ConvMemory& m = q.memory;
  require_device_memory(q.call.name, {m.first, m.second, m.out, m.workspace});
  if (m.workspace.bytes > 0) std::memset(q.call.workspace, 0xFF, m.workspace.bytes);
  const size_t size = element_size(c.type), n = m.out.bytes / size;
  Arrays v{loaded(m.first.data, c.type, m.first.bytes / size, q.tf32),
           loaded(m.second.data, c.type, m.second.bytes / size, q.tf32), std::vector<double>(n)};
  compute(q.call.pass, c, v);
  // Sums in another order each time differ in their last bits: of each call, other elements.
  static std::atomic<size_t> calls{0};
  const size_t turn = q.repeatable ? 0 : ++calls;
  for (size_t i = 0; i < n; ++i) {
    double value = static_cast<double>(q.alpha) * v.out[i];
    if (!q.repeatable && (i + turn) % 3 != 0) value *= 1 + 2.5e-7 * static_cast<double>((i + turn) % 3);
    if (q.beta != 0) value += static_cast<double>(q.beta) * static_cast<double>(load(q.call.out, c.type, i));
    store(q.call.out, c.type, i, value);
  }
}

float scalar(const ConvCall& call, const void* p) {
  if (p == nullptr || is_device_memory(p, 4)) misuse("{}: alpha and beta are floats on the host", call.name);
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

}  // namespace

ConvMemory checked_memory(const Convolution& c, const ConvCall& call) {
  const size_t size = element_size(c.type);
  const Span x{"the input", nullptr, c.inputs() * size}, w{"the filter", nullptr, c.weights() * size};
  const Span y{"the output", nullptr, c.outputs() * size};
  ConvMemory m = call.pass == Pass::forward ? ConvMemory{x, w, y, {}}
                 : call.pass == Pass::data  ? ConvMemory{w, y, x, {}}
                                            : ConvMemory{x, y, w, {}};
  m.first.data = call.first;
  m.second.data = call.second;
  m.out.data = call.out;
  m.workspace = {"the workspace", call.workspace, call.workspace_bytes};
  require_device_memory(call.name, {m.first, m.second, m.out, m.workspace});
  // Tensor cores load 16 bytes at a time.
  for (const Span& s : {m.first, m.second, m.out}) require_aligned(call.name, s, c.type == Element::f32 ? 4 : 16);
  require_aligned(call.name, m.workspace, 16);
  require_apart(call.name, m.out, {m.first, m.second, m.workspace});
  require_apart(call.name, m.workspace, {m.first, m.second});
  return m;
}

void run_convolution(cudnnHandle_t handle, const ConvDescriptors& d, const ConvCall& call) {
  const Convolution c = convolution(call.name, handle, d);
  const cudnnMathType_t math = d.conv->math;
  require_asked(call.name, call.pass, c);
  const AlgorithmTraits t = traits(call.pass, call.algorithm, c, math);
  if (!t.supported) misuse("{}: algorithm {} is not supported here", call.name, call.algorithm);
  if (call.workspace_bytes < t.workspace) {
    misuse("{}: {} bytes of workspace, the algorithm wants {}", call.name, call.workspace_bytes, t.workspace);
  }
  const Queued q{c,
                 call,
                 checked_memory(c, call),
                 c.type == Element::f32 && math != CUDNN_FMA_MATH,
                 t.repeatable,
                 scalar(call, call.alpha),
                 scalar(call, call.beta)};
  enqueue(handle->stream, call.name, [q] { run(q); });
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t x,
                                      const void* x_data, const cudnnFilterDescriptor_t w, const void* w_data,
                                      const cudnnConvolutionDescriptor_t conv, cudnnConvolutionFwdAlgo_t algorithm,
                                      void* space, size_t bytes, const void* beta, const cudnnTensorDescriptor_t y,
                                      void* y_data) {
  run_convolution(
      handle, {x, y, w, conv},
      {"cudnnConvolutionForward", Pass::forward, alpha, x_data, w_data, algorithm, space, bytes, beta, y_data});
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha, const cudnnFilterDescriptor_t w,
                                           const void* w_data, const cudnnTensorDescriptor_t dy, const void* dy_data,
                                           const cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void* space, size_t bytes,
                                           const void* beta, const cudnnTensorDescriptor_t dx, void* dx_data) {
  run_convolution(
      handle, {dx, dy, w, conv},
      {"cudnnConvolutionBackwardData", Pass::data, alpha, w_data, dy_data, algorithm, space, bytes, beta, dx_data});
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t x,
                                             const void* x_data, const cudnnTensorDescriptor_t dy, const void* dy_data,
                                             const cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm, void* space, size_t bytes,
                                             const void* beta, const cudnnFilterDescriptor_t dw, void* dw_data) {
  run_convolution(
      handle, {x, dy, dw, conv},
      {"cudnnConvolutionBackwardFilter", Pass::filter, alpha, x_data, dy_data, algorithm, space, bytes, beta, dw_data});
  return CUDNN_STATUS_SUCCESS;
}
