// A fully connected layer behind a flatten: rows in PyTorch's (C, H, W) order. Always fp32.
#pragma once
#include <string>

#include "nn/layer.h"
#include "nn/recent_ops.h"

namespace plsc {

class Linear {
 public:
  /// `name`.weight is (out, in) with in = C*H*W; `name`.bias is (out).
  Linear(Device& device, const std::string& name, int64_t in, int64_t out);

  /// x: (N, H, W, C) or (N, C), fp32. Returns (N, out).
  Tensor forward(Context& context, const Tensor& x, const Pass& pass);
  /// dx with x's shape, or undefined where it is not wanted.
  Tensor backward(Context& context, const Tensor& dy, bool want_dx = true);
  void visit(ParamVisitor& visitor);

 private:
  LinearOp& op(Context& context, const LinearSpec& spec);
  void backward_params(Context& context, const Tensor& dy);

  Param weight_, bias_;
  RecentOps<LinearSpec, LinearOp> ops_;
  struct Kept {
    LinearSpec spec;  // of the last forward pass in train mode
    Tensor x;
  };
  Saved<Kept> saved_;
};

}  // namespace plsc
