// Pooling and dropout: layers without parameters.
#pragma once
#include "nn/layer.h"
#include "nn/recent_ops.h"

namespace plsc {

class Pool {
 public:
  /// 3x3 maximum with stride 2, or the average over the whole feature map.
  explicit Pool(PoolSpec::Kind kind) : kind_(kind) {}

  Tensor forward(Context& context, const Tensor& x);
  Tensor backward(Context& context, const Tensor& dy);
  void visit(ParamVisitor& visitor) { visitor.saved(saved_); }

 private:
  PoolOp& op(Context& context, const PoolSpec& spec);

  PoolSpec::Kind kind_;
  struct Kept {
    RecentOps<PoolSpec, PoolOp> ops;
    PoolSpec spec;  // of the last forward pass, which its op remembers
  };
  Saved<Kept> saved_;
};

/// Zeroes a feature with probability p in train mode and scales the others by 1 / (1 - p). Which ones depends on
/// (seed, step, sample of the global batch, position), so not on the rank count; step and first sample are those of the
/// backend's step state.
class Dropout {
 public:
  explicit Dropout(float p) : p_(p) {}

  Tensor forward(Context& context, const Tensor& x, const Pass& pass);
  Tensor backward(Context& context, const Tensor& dy);

 private:
  Tensor apply(Context& context, const Tensor& x) const;

  float p_;
};

}  // namespace plsc
