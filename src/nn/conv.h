// A 2-D convolution without bias, and the prepared ops that convolutions share.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/layer.h"

namespace plsc {

/// Prepared convolutions by spec. Ops keep no state between calls, so layers of the same shape share one. Batch sizes
/// vary (micro-batches, evaluation): the ops of the few last used ones are kept.
class ConvOps {
 public:
  ConvOp& get(Context& context, const ConvSpec& spec);

 private:
  static constexpr size_t kBatchSizes = 4;
  struct Entry {
    ConvSpec spec;
    std::unique_ptr<ConvOp> op;
  };
  void use_batch(int64_t batch);

  std::vector<Entry> entries_;
  std::vector<int64_t> batches_;  // last used first
};

struct ConvShape {
  int64_t in = 0, out = 0;
  int64_t kernel = 3, stride = 1, pad = 1;
};

class Conv {
 public:
  /// `ops` outlives the layer. The weight is `name`.weight, (O, I, K, K).
  Conv(Device& device, ConvOps& ops, const std::string& name, const ConvShape& shape);

  Tensor forward(Context& context, const Tensor& x, const Pass& pass);
  /// dx, or undefined where it is not wanted.
  Tensor backward(Context& context, const Tensor& dy, bool want_dx = true);
  void visit(ParamVisitor& visitor) {
    visitor.param(weight_);
    visitor.saved(saved_);
  }

  int64_t out_channels() const { return shape_.out; }

 private:
  ConvOps& ops_;
  ConvShape shape_;
  Param weight_;
  struct Kept {
    ConvSpec spec;  // of the last forward pass in train mode
    Tensor x;
  };
  Saved<Kept> saved_;
};

}  // namespace plsc
