// The stand-in for cuDNN: which algorithms it has for a convolution, and in which order it names them. The order is not
// that of their numbers, and differs from shape to shape; what is fastest may want workspace, or give other bits each
// time; what is not supported is named too, with a status that says so.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "cudnn_standin.h"

namespace plsc::standin {
namespace {

struct Asked {
  std::mutex mutex;
  std::set<std::pair<Pass, Convolution>> what;
};
Asked& asked() {
  static Asked instance;
  return instance;
}

/// One line of what cuDNN answers, for any pass.
struct Answer {
  int algorithm;
  cudnnMathType_t math;
  AlgorithmTraits traits;
};

int algorithms(Pass pass) {
  return pass == Pass::forward ? int{CUDNN_CONVOLUTION_FWD_ALGO_COUNT}
         : pass == Pass::data  ? int{CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT}
                               : int{CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT};
}

/// The supported ones first, those that are not last. With tensor operations allowed, plain ones are tried as well.
std::vector<Answer> answers(Pass pass, const Convolution& c, cudnnMathType_t math) {
  std::vector<Answer> good, bad;
  std::vector<cudnnMathType_t> maths{math};
  if (math == CUDNN_TENSOR_OP_MATH) maths.push_back(CUDNN_DEFAULT_MATH);
  for (int a = 0; a < algorithms(pass); ++a) {
    for (cudnnMathType_t m : maths) {
      const AlgorithmTraits t = traits(pass, a, c, m);
      (t.supported ? good : bad).push_back({a, m, t});
    }
  }
  // What is not repeatable saves a pass, so it is fastest; of the rest one or the other wins.
  const bool turned = (c.k + c.c + c.h) % 2 == 1;
  if (turned) std::reverse(good.begin(), good.end());
  std::stable_partition(good.begin(), good.end(), [](const Answer& a) { return !a.traits.repeatable; });
  good.insert(good.end(), bad.begin(), bad.end());
  return good;
}

template <class Result>
void give(const std::vector<Answer>& from, int wanted, int* returned, Result* results) {
  if (wanted <= 0) misuse("cuDNN: {} algorithms wanted", wanted);
  *returned = std::min(wanted, static_cast<int>(from.size()));
  for (int i = 0; i < *returned; ++i) {
    const Answer& a = from[static_cast<size_t>(i)];
    Result r{};
    r.algo = static_cast<decltype(r.algo)>(a.algorithm);
    r.status = a.traits.supported ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
    r.time = a.traits.supported ? static_cast<float>(i + 1) : -1.0f;
    r.memory = a.traits.workspace;
    r.determinism = a.traits.repeatable ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    r.mathType = a.math;
    results[i] = r;
  }
}

template <class Result>
cudnnStatus_t ask(const char* call, Pass pass, cudnnHandle_t handle, const ConvDescriptors& d, int wanted,
                  int* returned, Result* results) {
  const Convolution c = convolution(call, handle, d);
  note_asked(pass, c);
  give(answers(pass, c, d.conv->math), wanted, returned, results);
  return CUDNN_STATUS_SUCCESS;
}

/// Every algorithm runs, on the memory that is given: what was in the output is lost. Waits for the device.
template <class Result>
cudnnStatus_t race(const ConvCall& call, cudnnHandle_t handle, const ConvDescriptors& d, int wanted, int* returned,
                   Result* results) {
  const Convolution c = convolution(call.name, handle, d);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(handle->stream, &capture) != cudaSuccess || capture != cudaStreamCaptureStatusNone) {
    misuse("{}: inside a stream capture", call.name);
  }
  const ConvMemory memory = checked_memory(c, call);
  note_asked(call.pass, c);
  enqueue(handle->stream, call.name, [call, memory] {
    require_device_memory(call.name, {memory.out, memory.workspace});
    std::memset(call.out, 0xFF, memory.out.bytes);
    if (call.workspace_bytes > 0) std::memset(call.workspace, 0xFF, call.workspace_bytes);
  });
  if (cudaStreamSynchronize(handle->stream) != cudaSuccess) return CUDNN_STATUS_EXECUTION_FAILED;
  std::vector<Answer> all = answers(call.pass, c, d.conv->math);
  for (Answer& a : all) {  // what did not fit into the workspace was not run
    if (a.traits.workspace > call.workspace_bytes) a.traits.supported = false;
  }
  std::stable_partition(all.begin(), all.end(), [](const Answer& a) { return a.traits.supported; });
  give(all, wanted, returned, results);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t workspace(const char* call, Pass pass, cudnnHandle_t handle, const ConvDescriptors& d, int algorithm,
                        size_t* bytes) {
  const Convolution c = convolution(call, handle, d);
  const AlgorithmTraits t = traits(pass, algorithm, c, d.conv->math);
  *bytes = t.workspace;
  return t.supported ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

}  // namespace

AlgorithmTraits traits(Pass pass, int algorithm, const Convolution& c, cudnnMathType_t math) {
  // Of NHWC the documentation lists the two first algorithms of each pass alone.
  if (algorithm < 0 || algorithm > 1) return {};
  const bool tensor = math == CUDNN_TENSOR_OP_MATH;
  const size_t weights = c.weights() * 4, window = static_cast<size_t>(c.kh * c.kw);
  switch (pass) {
    case Pass::forward:  // IMPLICIT_GEMM, IMPLICIT_PRECOMP_GEMM
      return {true, true, algorithm == 0 ? 0 : (tensor ? 2 : 1) * window * 256};
    case Pass::data:  // 0 adds in any order
      return {true, algorithm == 1, algorithm == 0 ? 0 : weights + (tensor ? 64 : 0)};
    case Pass::filter:  // 0 adds in any order
      return {true, algorithm == 1, algorithm == 0 ? (window > 1 ? weights : 0) : weights * (tensor ? 2 : 1)};
  }
  return {};
}

void note_asked(Pass pass, const Convolution& c) {
  const std::lock_guard lock(asked().mutex);
  asked().what.insert({pass, c});
}
void require_asked(const char* call, Pass pass, const Convolution& c) {
  const std::lock_guard lock(asked().mutex);
  if (!asked().what.contains({pass, c})) misuse("{}: nobody asked for an algorithm for this convolution", call);
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t conv,
                                                     const cudnnTensorDescriptor_t y, const int wanted, int* returned,
                                                     cudnnConvolutionFwdAlgoPerf_t* results) {
  return ask("cudnnGetConvolutionForwardAlgorithm_v7", Pass::forward, handle, {x, y, w, conv}, wanted, returned,
             results);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t handle, const cudnnFilterDescriptor_t w,
                                                          const cudnnTensorDescriptor_t dy,
                                                          const cudnnConvolutionDescriptor_t conv,
                                                          const cudnnTensorDescriptor_t dx, const int wanted,
                                                          int* returned, cudnnConvolutionBwdDataAlgoPerf_t* results) {
  return ask("cudnnGetConvolutionBackwardDataAlgorithm_v7", Pass::data, handle, {dx, dy, w, conv}, wanted, returned,
             results);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                            const cudnnTensorDescriptor_t dy,
                                                            const cudnnConvolutionDescriptor_t conv,
                                                            const cudnnFilterDescriptor_t dw, const int wanted,
                                                            int* returned,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* results) {
  return ask("cudnnGetConvolutionBackwardFilterAlgorithm_v7", Pass::filter, handle, {x, dy, dw, conv}, wanted, returned,
             results);
}

cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                     const void* x_data, const cudnnFilterDescriptor_t w,
                                                     const void* w_data, const cudnnConvolutionDescriptor_t conv,
                                                     const cudnnTensorDescriptor_t y, void* y_data, const int wanted,
                                                     int* returned, cudnnConvolutionFwdAlgoPerf_t* results, void* space,
                                                     size_t bytes) {
  return race({"cudnnFindConvolutionForwardAlgorithmEx", Pass::forward, nullptr, x_data, w_data, 0, space, bytes,
               nullptr, y_data},
              handle, {x, y, w, conv}, wanted, returned, results);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t w, const void* w_data, const cudnnTensorDescriptor_t dy,
    const void* dy_data, const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx, void* dx_data,
    const int wanted, int* returned, cudnnConvolutionBwdDataAlgoPerf_t* results, void* space, size_t bytes) {
  return race({"cudnnFindConvolutionBackwardDataAlgorithmEx", Pass::data, nullptr, w_data, dy_data, 0, space, bytes,
               nullptr, dx_data},
              handle, {dx, dy, w, conv}, wanted, returned, results);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const void* x_data, const cudnnTensorDescriptor_t dy,
    const void* dy_data, const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw, void* dw_data,
    const int wanted, int* returned, cudnnConvolutionBwdFilterAlgoPerf_t* results, void* space, size_t bytes) {
  return race({"cudnnFindConvolutionBackwardFilterAlgorithmEx", Pass::filter, nullptr, x_data, dy_data, 0, space, bytes,
               nullptr, dw_data},
              handle, {x, dy, dw, conv}, wanted, returned, results);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                      const cudnnFilterDescriptor_t w,
                                                      const cudnnConvolutionDescriptor_t conv,
                                                      const cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
  return workspace("cudnnGetConvolutionForwardWorkspaceSize", Pass::forward, handle, {x, y, w, conv}, algorithm, bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t handle, const cudnnFilterDescriptor_t w,
                                                           const cudnnTensorDescriptor_t dy,
                                                           const cudnnConvolutionDescriptor_t conv,
                                                           const cudnnTensorDescriptor_t dx,
                                                           cudnnConvolutionBwdDataAlgo_t algorithm, size_t* bytes) {
  return workspace("cudnnGetConvolutionBackwardDataWorkspaceSize", Pass::data, handle, {dx, dy, w, conv}, algorithm,
                   bytes);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t x,
                                                             const cudnnTensorDescriptor_t dy,
                                                             const cudnnConvolutionDescriptor_t conv,
                                                             const cudnnFilterDescriptor_t dw,
                                                             cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* bytes) {
  return workspace("cudnnGetConvolutionBackwardFilterWorkspaceSize", Pass::filter, handle, {x, dy, dw, conv}, algorithm,
                   bytes);
}
