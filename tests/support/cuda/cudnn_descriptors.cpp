// The stand-in for cuDNN: handles and descriptors, and whether they go together.
#include <cstdio>

#include "cudnn_standin.h"

namespace plsc::standin {
namespace {

Element element(const char* call, cudnnDataType_t type) {
  switch (type) {
    case CUDNN_DATA_FLOAT:
      return Element::f32;
    case CUDNN_DATA_HALF:
      return Element::f16;
    case CUDNN_DATA_BFLOAT16:
      return Element::bf16;
    default:
      misuse("{}: data type {}", call, static_cast<int>(type));
  }
}

/// cuDNN: "the total size of a tensor is limited to 2 giga-elements".
void require_size(const char* call, std::initializer_list<int> dims) {
  double elements = 1;
  for (int d : dims) {
    if (d <= 0) misuse("{}: a dimension of {}", call, d);
    elements *= d;
  }
  if (elements > 2147483647.0) misuse("{}: {} elements", call, elements);
}

}  // namespace

Convolution convolution(const char* call, cudnnHandle_t handle, const ConvDescriptors& d) {
  if (handle == nullptr || !handle->live) misuse("{}: no live handle", call);
  if (handle->stream == nullptr) misuse("{}: a handle that was given no stream", call);
  for (const void* p : {static_cast<const void*>(d.x), static_cast<const void*>(d.y), static_cast<const void*>(d.w),
                        static_cast<const void*>(d.conv)}) {
    if (p == nullptr) misuse("{}: a descriptor is null", call);
  }
  if (!d.x->set || !d.y->set || !d.w->set || !d.conv->set) misuse("{}: a descriptor was created and not set", call);
  if (d.x->type != d.w->type || d.x->type != d.y->type) misuse("{}: input, filter and output differ in type", call);
  const Convolution c{element(call, d.x->type),
                      d.x->n,
                      d.x->h,
                      d.x->w,
                      d.x->c,
                      d.w->k,
                      d.w->h,
                      d.w->w,
                      d.y->h,
                      d.y->w,
                      d.conv->pad_h,
                      d.conv->pad_w,
                      d.conv->stride_h,
                      d.conv->stride_w};
  const int oh = (c.h + 2 * c.pad_h - c.kh) / c.stride_h + 1, ow = (c.w + 2 * c.pad_w - c.kw) / c.stride_w + 1;
  if (d.w->c != c.c) misuse("{}: a filter of {} channels on {}", call, d.w->c, c.c);
  if (d.y->n != c.n || d.y->c != c.k || c.oh != oh || c.ow != ow) {
    misuse("{}: the output is ({}, {}, {}, {}), not ({}, {}, {}, {})", call, d.y->n, c.oh, c.ow, d.y->c, c.n, oh, ow,
           c.k);
  }
  return c;
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  if (handle == nullptr || !handle->live) misuse("cudnnDestroy: no live handle");
  handle->live = false;
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr || !handle->live) misuse("cudnnSetStream: no live handle");
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
size_t cudnnGetVersion() { return CUDNN_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
         : status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
         : status == CUDNN_STATUS_BAD_PARAM     ? "CUDNN_STATUS_BAD_PARAM"
                                                : "CUDNN_STATUS of another kind";
}
void cudnnGetLastErrorString(char* message, size_t size) { std::snprintf(message, size, "the stand-in's last error"); }

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) {
  *d = new cudnnTensorStruct;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format, cudnnDataType_t type,
                                         int n, int c, int h, int w) {
  constexpr const char* kCall = "cudnnSetTensor4dDescriptor";
  if (format != CUDNN_TENSOR_NHWC) misuse("{}: a format other than NHWC is not played", kCall);
  require_size(kCall, {n, c, h, w});
  *d = {true, type, n, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) {
  *d = new cudnnFilterStruct;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type, cudnnTensorFormat_t format,
                                         int k, int c, int h, int w) {
  constexpr const char* kCall = "cudnnSetFilter4dDescriptor";
  if (format != CUDNN_TENSOR_NHWC) misuse("{}: a format other than NHWC is not played", kCall);
  require_size(kCall, {k, c, h, w});
  *d = {true, type, k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) {
  *d = new cudnnConvolutionStruct;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) {
  delete d;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int stride_h,
                                              int stride_w, int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
  constexpr const char* kCall = "cudnnSetConvolution2dDescriptor";
  if (pad_h < 0 || pad_w < 0 || stride_h <= 0 || stride_w <= 0) misuse("{}: padding or stride", kCall);
  if (dilation_h != 1 || dilation_w != 1) misuse("{}: dilation is not played", kCall);
  if (mode != CUDNN_CROSS_CORRELATION) misuse("{}: a true convolution flips the filter", kCall);
  if (compute != CUDNN_DATA_FLOAT) misuse("{}: sums are made in fp32", kCall);
  *d = {true, pad_h, pad_w, stride_h, stride_w, CUDNN_DEFAULT_MATH};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  if (d == nullptr || !d->set) misuse("cudnnSetConvolutionMathType: the descriptor is not set");
  d->math = math;
  return CUDNN_STATUS_SUCCESS;
}
