// A step's passes through the network: done call by call, or recorded once and played back where the device can. What
// is recorded depends on sizes alone; everything that changes with the step is in tensors that stay where they are.
#pragma once
#include <functional>
#include <vector>

#include "nn/module.h"
#include "optim/grad_sync.h"
#include "runtime/tape.h"

namespace plsc {

class NetworkRunner {
 public:
  /// The first steps find algorithms, make caches and lay out memory: they are done call by call.
  static constexpr int64_t kPlainSteps = 2;

  struct Options {
    bool records = true;  // where the device can
    size_t together = 1;  // micro-batches, of which a step has a multiple
  };
  /// References outlive the object.
  NetworkRunner(Context& context, Backbone& backbone, GradSync& sync, const Options& options);

  /// Lets go of what was recorded, to record it anew: after work of other sizes, which may have taken the place of
  /// memory that prepared ops keep.
  void forget();
  /// Starts a step of micro-batches of these shapes (of the network's input). Another number of them than before is
  /// recorded anew, another shape is done call by call: all ranks have the same number.
  void begin_step(const std::vector<Shape>& inputs);
  // Of each of the step's micro-batches 0, 1, ...: their forward passes in this order, and so the backward ones. As
  // many as go `together` may have their forward passes before the first backward pass of them.
  /// The input, to be written before `forward`.
  Tensor input(size_t batch);
  /// (b, D) fp32.
  Tensor forward(size_t batch, const StepInfo& info);
  /// From d loss / d embeddings. Of micro-batches that go together the last one's call does all below the top block,
  /// block by block for all of them. With the step's last micro-batch the gradients are summed over the ranks.
  void backward(size_t batch, const Tensor& d_embeddings);

 private:
  enum class Way { plain, record, play };
  struct MicroBatch {
    Tensor input, embeddings, d_embeddings;
    Program forward, backward;
  };
  bool last(size_t batch) const { return batch + 1 == shapes_.size(); }
  void use_place_of(size_t batch) { backbone_.use_place(batch % together_); }
  void backward_now(size_t batch, const Tensor& d_embeddings);

  Context& context_;
  Backbone& backbone_;
  GradSync& sync_;
  bool records_;
  size_t together_;
  std::vector<Param*> params_;
  Way way_ = Way::plain;
  int64_t plain_steps_ = 0;
  std::vector<Shape> shapes_, recorded_shapes_;
  int64_t step_ = 0;
  std::shared_ptr<RecordingMemory> memory_;
  std::vector<MicroBatch> recorded_;
  MicroBatch plain_;
  std::vector<Tensor> tops_;  // what the top block's backward passes of those that go together have given so far
};

}  // namespace plsc
