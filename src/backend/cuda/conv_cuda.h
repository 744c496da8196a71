// Convolutions on a GPU, and which of cuDNN's algorithms runs them.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "backend/cuda/vendor_handles.h"
#include "backend/nn_ops.h"

namespace plsc {

enum class ConvPass { forward, data, weight };

/// An algorithm of cuDNN for one pass of one spec. The number is of the pass's own enumeration.
struct ConvChoice {
  int algorithm = 0;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
  size_t workspace = 0;  // bytes
};

/// What was chosen, by spec: many blocks of a network have convolutions of one spec, and the choice may mean timing.
class ConvAlgorithms {
 public:
  std::optional<ConvChoice> find(const ConvSpec& spec, ConvPass pass) const;
  void remember(const ConvSpec& spec, ConvPass pass, const ConvChoice& choice);

 private:
  struct Less {
    bool operator()(const std::pair<ConvSpec, ConvPass>& a, const std::pair<ConvSpec, ConvPass>& b) const;
  };
  std::map<std::pair<ConvSpec, ConvPass>, ConvChoice, Less> choices_;
};

/// x, y and their gradients in the spec's type (fp32, bf16, f16), summed in fp32. A pass's weight gradient is rounded
/// to that type once, then written or added to fp32: cuDNN's filters have the activations' type. Gradients in fp64 are
/// not offered. The runtime outlives the op.
std::unique_ptr<ConvOp> make_cuda_conv(CudaRuntime& runtime, const ConvSpec& spec);

}  // namespace plsc
