// The stand-in for cuDNN's convolutions: what its parts share. Descriptors, which algorithms there are and what they
// ask for, and the passes themselves. NHWC alone, which is what the product uses.
#pragma once
#include <cudnn.h>

#include <array>
#include <compare>

#include "elements.h"

struct cudnnContext {
  bool live = true;
  cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int n = 0, c = 0, h = 0, w = 0;
};
struct cudnnFilterStruct {
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int k = 0, c = 0, h = 0, w = 0;
};
struct cudnnConvolutionStruct {
  bool set = false;
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace plsc::standin {

enum class Pass { forward, data, filter };

/// One convolution: input (n, h, w, c), filter (k, kh, kw, c), output (n, oh, ow, k).
struct Convolution {
  Element type = Element::f32;
  int n = 0, h = 0, w = 0, c = 0, k = 0, kh = 0, kw = 0, oh = 0, ow = 0;
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0;
  auto operator<=>(const Convolution&) const = default;

  size_t inputs() const { return size_t(n) * size_t(h) * size_t(w) * size_t(c); }
  size_t weights() const { return size_t(k) * size_t(kh) * size_t(kw) * size_t(c); }
  size_t outputs() const { return size_t(n) * size_t(oh) * size_t(ow) * size_t(k); }
};

struct ConvDescriptors {
  cudnnTensorDescriptor_t x, y;
  cudnnFilterDescriptor_t w;
  cudnnConvolutionDescriptor_t conv;
};
/// Misuse where they are not complete, do not fit each other, or are a combination that cuDNN does not know.
Convolution convolution(const char* call, cudnnHandle_t handle, const ConvDescriptors& d);

/// What is known of an algorithm. Its number is of the pass's own enumeration.
struct AlgorithmTraits {
  bool supported = false;
  bool repeatable = true;
  size_t workspace = 0;
};
AlgorithmTraits traits(Pass pass, int algorithm, const Convolution& c, cudnnMathType_t math);

/// Remembers that the library was asked about this, and misuse where an algorithm is run that it was never asked about.
void note_asked(Pass pass, const Convolution& c);
void require_asked(const char* call, Pass pass, const Convolution& c);

/// One pass as queued work. The memory's order is the pass's: forward x, w to y; data w, dy to dx; filter x, dy to dw.
struct ConvCall {
  const char* name;
  Pass pass;
  const void *alpha, *first, *second;
  int algorithm;
  void* workspace;
  size_t workspace_bytes;
  const void* beta;
  void* out;
};
void run_convolution(cudnnHandle_t handle, const ConvDescriptors& d, const ConvCall& call);

/// The three pieces of memory of a pass, checked: live device memory, aligned, the output apart from the inputs.
struct ConvMemory {
  Span first, second, out, workspace;
};
ConvMemory checked_memory(const Convolution& c, const ConvCall& call);

}  // namespace plsc::standin
