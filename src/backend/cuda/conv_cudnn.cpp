// Convolution by cuDNN, through its C API. Activations stay NHWC, which is what its tensor cores work on; numbers of
// channels that are no multiple of 8 are padded by cuDNN itself (slower, as in a network's first layer). The master
// weights, (O, I, K, K) in fp32, are converted to (O, K, K, I) of the activations' type for each pass and not kept:
// they change with each step, a copy that is too old would show in no error, and the conversion moves some 0.1 GB for a
// ResNet-50 where its activations are tens of GB.
#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cuda/conv_cuda.h"
#include "kernels/cuda/layout.h"

namespace plsc {
namespace {

using TensorDesc = VendorPtr<cudnnTensorStruct, cudnnDestroyTensorDescriptor>;
using FilterDesc = VendorPtr<cudnnFilterStruct, cudnnDestroyFilterDescriptor>;
using ConvDesc = VendorPtr<cudnnConvolutionStruct, cudnnDestroyConvolutionDescriptor>;

cudnnDataType_t data_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return CUDNN_DATA_FLOAT;
    case Dtype::bf16:
      return CUDNN_DATA_BFLOAT16;
    case Dtype::f16:
      return CUDNN_DATA_HALF;
    default:
      PLSC_CHECK(false, "a convolution of {}", dtype_name(dtype));
      return CUDNN_DATA_FLOAT;
  }
}

std::string text(const ConvSpec& s) {
  return fmt::format("{} of ({}, {}, {}, {}) to {} channels, kernel {}, stride {}, padding {}", dtype_name(s.dtype),
                     s.batch, s.height, s.width, s.in_channels, s.out_channels, s.kernel, s.stride, s.pad);
}

/// cuDNN's sizes are ints, and its tensors have at most 2^31 - 1 elements.
void check_size(const ConvSpec& s, int64_t elements) {
  if (elements <= std::numeric_limits<int>::max()) return;
  fail_hint("fewer samples at a time for each rank", "cuDNN cannot hold a tensor of {} elements (convolution {})",
            elements, text(s));
}

TensorDesc new_tensor(const ConvSpec& s, int64_t height, int64_t width, int64_t channels) {
  check_size(s, s.batch * height * width * channels);
  cudnnTensorDescriptor_t raw = nullptr;
  check(cudnnCreateTensorDescriptor(&raw), "cudnnCreateTensorDescriptor");
  TensorDesc desc(raw);
  check(cudnnSetTensor4dDescriptor(raw, CUDNN_TENSOR_NHWC, data_type(s.dtype), static_cast<int>(s.batch),
                                   static_cast<int>(channels), static_cast<int>(height), static_cast<int>(width)),
        "cudnnSetTensor4dDescriptor");
  return desc;
}

FilterDesc new_filter(const ConvSpec& s) {
  check_size(s, s.out_channels * s.in_channels * s.kernel * s.kernel);
  cudnnFilterDescriptor_t raw = nullptr;
  check(cudnnCreateFilterDescriptor(&raw), "cudnnCreateFilterDescriptor");
  FilterDesc desc(raw);
  const auto kernel = static_cast<int>(s.kernel);
  check(cudnnSetFilter4dDescriptor(raw, data_type(s.dtype), CUDNN_TENSOR_NHWC, static_cast<int>(s.out_channels),
                                   static_cast<int>(s.in_channels), kernel, kernel),
        "cudnnSetFilter4dDescriptor");
  return desc;
}

ConvDesc new_convolution(const ConvSpec& s) {
  cudnnConvolutionDescriptor_t raw = nullptr;
  check(cudnnCreateConvolutionDescriptor(&raw), "cudnnCreateConvolutionDescriptor");
  ConvDesc desc(raw);
  const auto pad = static_cast<int>(s.pad), stride = static_cast<int>(s.stride);
  check(cudnnSetConvolution2dDescriptor(raw, pad, pad, stride, stride, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
        "cudnnSetConvolution2dDescriptor");
  return desc;
}

struct Descriptors {
  explicit Descriptors(const ConvSpec& s)
      : x(new_tensor(s, s.height, s.width, s.in_channels)),
        y(new_tensor(s, s.out_height(), s.out_width(), s.out_channels)),
        w(new_filter(s)),
        conv(new_convolution(s)) {}
  TensorDesc x, y;
  FilterDesc w;
  ConvDesc conv;
};

/// One pass's memory: two inputs and an output, in the order in which cuDNN takes them.
struct Operands {
  const void *first = nullptr, *second = nullptr;
  void* out = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};

// cuDNN has four functions for each pass that differ in names and types alone; the three structs give them one shape:
// ask (a rule of thumb), time (a race on the device), workspace and run.

struct ForwardPass {
  static constexpr ConvPass kPass = ConvPass::forward;
  static constexpr const char* kName = "cudnnConvolutionForward";
  static constexpr int kAlgorithms = CUDNN_CONVOLUTION_FWD_ALGO_COUNT;
  using Algorithm = cudnnConvolutionFwdAlgo_t;
  using Result = cudnnConvolutionFwdAlgoPerf_t;
  static cudnnStatus_t ask(cudnnHandle_t h, const Descriptors& d, int most, int* count, Result* results) {
    return cudnnGetConvolutionForwardAlgorithm_v7(h, d.x.get(), d.w.get(), d.conv.get(), d.y.get(), most, count,
                                                  results);
  }
  static cudnnStatus_t time(cudnnHandle_t h, const Descriptors& d, const Operands& o, int most, int* count,
                            Result* results) {
    return cudnnFindConvolutionForwardAlgorithmEx(h, d.x.get(), o.first, d.w.get(), o.second, d.conv.get(), d.y.get(),
                                                  o.out, most, count, results, o.workspace, o.workspace_bytes);
  }
  static cudnnStatus_t workspace(cudnnHandle_t h, const Descriptors& d, Algorithm a, size_t* bytes) {
    return cudnnGetConvolutionForwardWorkspaceSize(h, d.x.get(), d.w.get(), d.conv.get(), d.y.get(), a, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t h, const Descriptors& d, const Operands& o, Algorithm a, float beta) {
    const float alpha = 1;
    return cudnnConvolutionForward(h, &alpha, d.x.get(), o.first, d.w.get(), o.second, d.conv.get(), a, o.workspace,
                                   o.workspace_bytes, &beta, d.y.get(), o.out);
  }
};

struct DataPass {
  static constexpr ConvPass kPass = ConvPass::data;
  static constexpr const char* kName = "cudnnConvolutionBackwardData";
  static constexpr int kAlgorithms = CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT;
  using Algorithm = cudnnConvolutionBwdDataAlgo_t;
  using Result = cudnnConvolutionBwdDataAlgoPerf_t;
  static cudnnStatus_t ask(cudnnHandle_t h, const Descriptors& d, int most, int* count, Result* results) {
    return cudnnGetConvolutionBackwardDataAlgorithm_v7(h, d.w.get(), d.y.get(), d.conv.get(), d.x.get(), most, count,
                                                       results);
  }
  static cudnnStatus_t time(cudnnHandle_t h, const Descriptors& d, const Operands& o, int most, int* count,
                            Result* results) {
    return cudnnFindConvolutionBackwardDataAlgorithmEx(h, d.w.get(), o.first, d.y.get(), o.second, d.conv.get(),
                                                       d.x.get(), o.out, most, count, results, o.workspace,
                                                       o.workspace_bytes);
  }
  static cudnnStatus_t workspace(cudnnHandle_t h, const Descriptors& d, Algorithm a, size_t* bytes) {
    return cudnnGetConvolutionBackwardDataWorkspaceSize(h, d.w.get(), d.y.get(), d.conv.get(), d.x.get(), a, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t h, const Descriptors& d, const Operands& o, Algorithm a, float beta) {
    const float alpha = 1;
    return cudnnConvolutionBackwardData(h, &alpha, d.w.get(), o.first, d.y.get(), o.second, d.conv.get(), a,
                                        o.workspace, o.workspace_bytes, &beta, d.x.get(), o.out);
  }
};

struct WeightPass {
  static constexpr ConvPass kPass = ConvPass::weight;
  static constexpr const char* kName = "cudnnConvolutionBackwardFilter";
  static constexpr int kAlgorithms = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT;
  using Algorithm = cudnnConvolutionBwdFilterAlgo_t;
  using Result = cudnnConvolutionBwdFilterAlgoPerf_t;
  static cudnnStatus_t ask(cudnnHandle_t h, const Descriptors& d, int most, int* count, Result* results) {
    return cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, d.x.get(), d.y.get(), d.conv.get(), d.w.get(), most, count,
                                                         results);
  }
  static cudnnStatus_t time(cudnnHandle_t h, const Descriptors& d, const Operands& o, int most, int* count,
                            Result* results) {
    return cudnnFindConvolutionBackwardFilterAlgorithmEx(h, d.x.get(), o.first, d.y.get(), o.second, d.conv.get(),
                                                         d.w.get(), o.out, most, count, results, o.workspace,
                                                         o.workspace_bytes);
  }
  static cudnnStatus_t workspace(cudnnHandle_t h, const Descriptors& d, Algorithm a, size_t* bytes) {
    return cudnnGetConvolutionBackwardFilterWorkspaceSize(h, d.x.get(), d.y.get(), d.conv.get(), d.w.get(), a, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t h, const Descriptors& d, const Operands& o, Algorithm a, float beta) {
    const float alpha = 1;
    return cudnnConvolutionBackwardFilter(h, &alpha, d.x.get(), o.first, d.y.get(), o.second, d.conv.get(), a,
                                          o.workspace, o.workspace_bytes, &beta, d.w.get(), o.out);
  }
};

class CudaConv final : public ConvOp {
 public:
  CudaConv(CudaRuntime& runtime, const ConvSpec& spec)
      : runtime_(runtime),
        spec_(spec),
        desc_(spec),
        x_{spec.batch, spec.height, spec.width, spec.in_channels},
        y_{spec.batch, spec.out_height(), spec.out_width(), spec.out_channels},
        w_{spec.out_channels, spec.in_channels, spec.kernel, spec.kernel},
        as_kept_(spec.dtype == Dtype::f32 && (spec.kernel == 1 || spec.in_channels == 1)) {}

  void forward(const Tensor& x, const Tensor& weight, Tensor& y) override {
    check_device_tensor("convolution input", x, x_, spec_.dtype);
    check_device_tensor("convolution output", y, y_, spec_.dtype);
    run<ForwardPass>({x.raw(), converted(weight).raw(), y.raw()}, y.bytes(), 0);
  }

  void backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) override {
    check_device_tensor("convolution output's gradient", dy, y_, spec_.dtype);
    check_device_tensor("convolution input's gradient", dx, x_, spec_.dtype);
    run<DataPass>({converted(weight).raw(), dy.raw(), dx.raw()}, dx.bytes(), 0);
  }

  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) override {
    PLSC_CHECK(dweight.dtype() != Dtype::f64, "a convolution's gradients in fp64 are not offered on CUDA");
    check_device_tensor("convolution input", x, x_, spec_.dtype);
    check_device_tensor("convolution output's gradient", dy, y_, spec_.dtype);
    check_device_tensor("convolution weight's gradient", dweight, w_, Dtype::f32);
    if (as_kept_) {
      return run<WeightPass>({x.raw(), dy.raw(), dweight.raw()}, dweight.bytes(), accumulate ? 1.0f : 0.0f);
    }
    const Tensor ohwi = ohwi_weight();
    run<WeightPass>({x.raw(), dy.raw(), ohwi.raw()}, ohwi.bytes(), 0);
    const kernels::cuda::MatrixBatch shape{spec_.out_channels, spec_.kernel * spec_.kernel, spec_.in_channels};
    const auto back = [&](auto* from) {
      kernels::cuda::transpose(shape, from, dweight.data<float>(), accumulate, runtime_.stream);
    };
    with_elements(ohwi, back);
  }

 private:
  /// Calls visit with the tensor's elements as the kernels know them.
  template <class Visit>
  static void with_elements(const Tensor& t, const Visit& visit) {
    if (t.dtype() == Dtype::f32) return visit(static_cast<float*>(t.raw()));
    if (t.dtype() == Dtype::f16) return visit(static_cast<__half*>(t.raw()));
    visit(static_cast<__nv_bfloat16*>(t.raw()));
  }

  /// Room for weights as cuDNN has them: (O, K, K, I) in the activations' type.
  Tensor ohwi_weight() const {
    const MemoryScope use(runtime_.device, MemoryUse::workspace);
    return runtime_.device.tensor({spec_.out_channels, spec_.kernel, spec_.kernel, spec_.in_channels}, spec_.dtype);
  }

  /// The weight as cuDNN has it.
  Tensor converted(const Tensor& weight) const {
    check_device_tensor("convolution weight", weight, w_, Dtype::f32);
    if (as_kept_) return weight;
    const Tensor ohwi = ohwi_weight();
    const kernels::cuda::MatrixBatch shape{spec_.out_channels, spec_.in_channels, spec_.kernel * spec_.kernel};
    with_elements(ohwi,
                  [&](auto* to) { kernels::cuda::transpose(shape, weight.data<float>(), to, false, runtime_.stream); });
    return ohwi;
  }

  /// fp32 means fp32: DEFAULT_MATH would let an A100 and its successors round the factors to TF32.
  cudnnMathType_t wanted_math() const {
    if (spec_.dtype != Dtype::f32) return CUDNN_TENSOR_OP_MATH;
    return runtime_.options.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
  }
  bool strict() const { return wanted_math() == CUDNN_FMA_MATH; }
  void set_math(cudnnMathType_t math) const {
    check(cudnnSetConvolutionMathType(desc_.conv.get(), math), "cudnnSetConvolutionMathType");
  }

  /// `bytes` of the output, for a race that overwrites it.
  template <class Pass>
  void run(Operands o, size_t bytes, float beta) {
    std::optional<ConvChoice>& choice = choices_[static_cast<size_t>(Pass::kPass)];
    if (!choice) choice = runtime_.convs->find(spec_, Pass::kPass);
    if (!choice) choice = choose<Pass>(o, bytes);
    Tensor workspace = scratch(choice->workspace);
    if (choice->workspace > 0 && !workspace.defined()) {
      const std::optional<ConvChoice> frugal = first_allowed<Pass>(asked<Pass>(), 0);
      if (frugal) {
        choice = frugal;
        runtime_.convs->remember(spec_, Pass::kPass, *choice);
      } else {
        workspace = memory(choice->workspace);  // its error says where the memory is
      }
    }
    set_math(choice->math);
    o.workspace = workspace.raw();
    o.workspace_bytes = choice->workspace;
    const auto algorithm = static_cast<typename Pass::Algorithm>(choice->algorithm);
    check(Pass::run(runtime_.dnn.get(), desc_, o, algorithm, beta), Pass::kName);
  }

  /// By the clock; by cuDNN's rules where results must repeat, as a race's winner may change from run to run, and where
  /// work is only recorded.
  template <class Pass>
  ConvChoice choose(const Operands& o, size_t bytes) const {
    std::optional<ConvChoice> choice;
    const size_t limit = runtime_.options.conv_workspace;
    if (!runtime_.options.deterministic && !recording()) choice = first_allowed<Pass>(timed<Pass>(o, bytes), limit);
    if (!choice) choice = first_allowed<Pass>(asked<Pass>(), limit);
    if (!choice) {
      const bool repeatable = runtime_.options.deterministic;
      fail_hint(repeatable ? "train.deterministic: false, or fewer samples at a time" : "fewer samples at a time",
                "cuDNN has no {}algorithm for {} of {} within {} bytes of workspace", repeatable ? "repeatable " : "",
                Pass::kName, text(spec_), limit);
    }
    runtime_.convs->remember(spec_, Pass::kPass, *choice);
    return *choice;
  }

  bool recording() const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(runtime_.stream, &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
  }

  template <class Pass>
  std::vector<typename Pass::Result> asked() const {
    std::vector<typename Pass::Result> results(2 * Pass::kAlgorithms);
    int count = 0;
    set_math(wanted_math());
    check(Pass::ask(runtime_.dnn.get(), desc_, static_cast<int>(results.size()), &count, results.data()),
          "cudnnGetConvolution*Algorithm_v7");
    results.resize(static_cast<size_t>(count));
    return results;
  }

  /// Runs every algorithm on the inputs as they are and an output of its own. Nothing where there is no memory for it.
  template <class Pass>
  std::vector<typename Pass::Result> timed(Operands o, size_t bytes) const {
    set_math(wanted_math());
    size_t most = 0;
    for (int a = 0; a < Pass::kAlgorithms; ++a) {
      size_t needed = 0;
      const auto algorithm = static_cast<typename Pass::Algorithm>(a);
      if (Pass::workspace(runtime_.dnn.get(), desc_, algorithm, &needed) != CUDNN_STATUS_SUCCESS) continue;
      if (needed <= runtime_.options.conv_workspace) most = std::max(most, needed);
    }
    const Tensor out = scratch(bytes), workspace = scratch(most);
    if (!out.defined() || (most > 0 && !workspace.defined())) return {};
    o.out = out.raw();
    o.workspace = workspace.raw();
    o.workspace_bytes = most;
    std::vector<typename Pass::Result> results(2 * Pass::kAlgorithms);
    int count = 0;
    // cuDNN takes memory of its own for the race, of which there may be none: then its rules choose.
    if (Pass::time(runtime_.dnn.get(), desc_, o, static_cast<int>(results.size()), &count, results.data()) !=
        CUDNN_STATUS_SUCCESS) {
      cudaGetLastError();
      return {};
    }
    results.resize(static_cast<size_t>(count));
    // Strict fp32 runs with FMA alone: times that were taken with TF32 say less.
    if (strict())
      std::stable_partition(results.begin(), results.end(), [](const auto& r) { return r.mathType == CUDNN_FMA_MATH; });
    return results;
  }

  /// The best of `results` that may be used; they come best first.
  template <class Pass>
  std::optional<ConvChoice> first_allowed(const std::vector<typename Pass::Result>& results, size_t limit) const {
    for (const auto& r : results) {
      if (r.status != CUDNN_STATUS_SUCCESS) continue;
      if (runtime_.options.deterministic && r.determinism != CUDNN_DETERMINISTIC) continue;
      if (strict() && r.mathType != CUDNN_FMA_MATH && r.mathType != CUDNN_DEFAULT_MATH) continue;
      ConvChoice choice{static_cast<int>(r.algo), strict() ? CUDNN_FMA_MATH : r.mathType, 0};
      set_math(choice.math);  // which the workspace depends on
      if (Pass::workspace(runtime_.dnn.get(), desc_, r.algo, &choice.workspace) != CUDNN_STATUS_SUCCESS) continue;
      if (choice.workspace <= limit) return choice;
    }
    return std::nullopt;
  }

  Tensor memory(size_t bytes) const {
    const MemoryScope use(runtime_.device, MemoryUse::workspace);
    return runtime_.device.tensor({static_cast<int64_t>(bytes)}, Dtype::u8);
  }
  /// Device memory, or an undefined tensor where there is none: the caller has another way then.
  Tensor scratch(size_t bytes) const {
    if (bytes == 0) return {};
    try {
      return memory(bytes);
    } catch (const Error&) {
      return {};
    }
  }

  CudaRuntime& runtime_;
  ConvSpec spec_;
  Descriptors desc_;
  Shape x_, y_, w_;
  bool as_kept_;                                      // (O, I, K, K) in fp32 is (O, K, K, I) in the activations' type
  std::array<std::optional<ConvChoice>, 3> choices_;  // by ConvPass
};

auto in_order(const ConvSpec& s) {
  return std::tuple(s.batch, s.height, s.width, s.in_channels, s.out_channels, s.kernel, s.stride, s.pad, s.dtype);
}

}  // namespace

bool ConvAlgorithms::Less::operator()(const std::pair<ConvSpec, ConvPass>& a,
                                      const std::pair<ConvSpec, ConvPass>& b) const {
  return std::pair(in_order(a.first), a.second) < std::pair(in_order(b.first), b.second);
}

std::optional<ConvChoice> ConvAlgorithms::find(const ConvSpec& spec, ConvPass pass) const {
  const auto known = choices_.find({spec, pass});
  return known == choices_.end() ? std::nullopt : std::optional(known->second);
}

void ConvAlgorithms::remember(const ConvSpec& spec, ConvPass pass, const ConvChoice& choice) {
  choices_[{spec, pass}] = choice;
}

std::unique_ptr<ConvOp> make_cuda_conv(CudaRuntime& runtime, const ConvSpec& spec) {
  PLSC_CHECK(spec.batch > 0 && spec.in_channels > 0 && spec.out_channels > 0 && spec.kernel > 0 && spec.stride > 0 &&
                 spec.pad >= 0 && spec.out_height() > 0 && spec.out_width() > 0,
             "convolution {}", text(spec));
  PLSC_CHECK(!spec.fixed_order, "a convolution with a fixed order of sums is not offered on CUDA");
  return std::make_unique<CudaConv>(runtime, spec);
}

}  // namespace plsc
