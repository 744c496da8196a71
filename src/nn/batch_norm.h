// Batch normalisation, with what follows it in a residual network (the residual sum, the activation) in the same pass.
// Statistics are this rank's, or merged over Context::norms() where synchronised: all ranks, or the group that this one
// is in. Running statistics are always those of all ranks, so that every rank holds the same buffers.
#pragma once
#include <map>
#include <string>

#include "nn/layer.h"

namespace plsc {

struct BatchNormOptions {
  int64_t channels = 0;
  float eps = 1e-5f;
  bool synchronised = false;
  bool fixed_scale = false;  // the scale stays 1: arcface_torch's last one
};

class BatchNorm {
 public:
  /// What goes into the same pass as the normalisation.
  struct Fused {
    Tensor residual;  // added before the activation
    Activation activation = Activation::none;
    Param* slope = nullptr;  // of a PReLU: (C) or (1)
    bool fp32_output = false;
  };
  /// What the backward pass is asked for.
  struct Want {
    Tensor add;  // added to dx: the gradient that comes by another path to the same x
    bool dx = true;
    bool dresidual = false;  // needed only behind an activation: without one it is dy itself
  };
  struct Gradients {
    Tensor dx, dresidual;
  };

  BatchNorm(Device& device, const std::string& name, const BatchNormOptions& options);

  /// x: (N, H, W, C) or (N, C). In train mode, Error where the statistics would be those of a single row.
  Tensor forward(Context& context, const Tensor& x, const Pass& pass, const Fused& fused);
  Tensor forward(Context& context, const Tensor& x, const Pass& pass) { return forward(context, x, pass, Fused()); }
  /// The part of a second pass (Turn::again) that the backward pass needs, where nobody needs the output again.
  void restore(const Tensor& x);
  Gradients backward(Context& context, const Tensor& dy, const Want& want);
  Tensor backward(Context& context, const Tensor& dy) { return backward(context, dy, Want()).dx; }

  void visit(ParamVisitor& visitor);
  void finish_step(Context& context);
  /// The passes of this step were not called but played back from a recording of earlier ones.
  void step_was_played(int64_t step);

  /// This norm's output is what `next`, which lives as long as this one, is given next: `next` measures it in the pass
  /// that writes it.
  void feed(BatchNorm& next);

 private:
  struct Kept {
    BatchNormApply apply;
    double count = 0;  // rows behind the statistics, over the ranks that merge them; 0: they were constants
    Param* slope = nullptr;
  };

  bool frozen() const { return all_frozen({&weight_, &bias_}); }
  Tensor local_sums() const { return local_.slice(0, {2, options_.channels}); }
  Tensor batch_statistics(Context& context, const Tensor& x, const Pass& pass);
  Tensor running_statistics(Context& context);
  void save(const BatchNormApply& args, double count, Param* slope);
  void accumulate_gradients(Context& context, BatchNormBackward& args, Param* slope);

  static constexpr float kMomentum = 0.1f;
  std::string name_;
  BatchNormOptions options_;
  Param weight_, bias_, running_mean_, running_var_, batches_;
  Tensor local_;                          // (2C + 1): this rank's sum, sum of squares, rows
  int64_t local_rows_ = -1;               // that local_ holds
  std::map<int64_t, Tensor> row_counts_;  // each number of rows seen, in device memory
  BatchNorm* next_ = nullptr;
  Tensor measured_;           // what local_ was written from already, or undefined
  Tensor pooled_;             // (2C + 1): summed over the ranks with the gradients
  int64_t pooled_step_ = -1;  // the step that pooled_ belongs to; below 0 once it is folded
  bool measures_ = false;     // a pass has measured its input, and one that is played back does
  Saved<Kept> saved_;         // between two passes of a block that is computed again all but x
};

}  // namespace plsc
