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

  /// `records`: where the device can. References outlive the object.
  NetworkRunner(Context& context, Backbone& backbone, GradSync& sync, bool records);

  /// Lets go of what was recorded, to record it anew: after work of other sizes, which may have taken the place of
  /// memory that prepared ops keep.
  void forget();
  /// Starts a step of micro-batches of these shapes (of the network's input). Another number of them than before is
  /// recorded anew, another shape is done call by call: all ranks have the same number.
  void begin_step(const std::vector<Shape>& inputs);
  /// The input of the next micro-batch, to be written before `forward`.
  Tensor input();
  /// (b, D) fp32.
  Tensor forward(const StepInfo& info);
  /// From d loss / d embeddings. With the last micro-batch the gradients are summed over the ranks.
  void backward(const Tensor& d_embeddings);

 private:
  enum class Way { plain, record, play };
  struct MicroBatch {
    Tensor input, embeddings, d_embeddings;
    Program forward, backward;
  };
  bool last() const { return next_ + 1 == shapes_.size(); }
  void backward_now(const Tensor& d_embeddings);

  Context& context_;
  Backbone& backbone_;
  GradSync& sync_;
  bool records_;
  std::vector<Param*> params_;
  Way way_ = Way::plain;
  int64_t plain_steps_ = 0;
  std::vector<Shape> shapes_, recorded_shapes_;
  size_t next_ = 0;  // micro-batch
  int64_t step_ = 0;
  std::shared_ptr<RecordingMemory> memory_;
  std::vector<MicroBatch> recorded_;
  MicroBatch plain_;
};

}  // namespace plsc
