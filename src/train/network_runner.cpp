#include "train/network_runner.h"

#include <utility>

namespace plsc {

NetworkRunner::NetworkRunner(Context& context, Backbone& backbone, GradSync& sync, bool records)
    : context_(context),
      backbone_(backbone),
      sync_(sync),
      records_(records && context.tape != nullptr && context.device().can_record()),
      params_(backbone.params()) {}

void NetworkRunner::forget() {
  if (recorded_.empty()) return;
  recorded_.clear();
  memory_.reset();
  plain_steps_ = 0;
}

void NetworkRunner::begin_step(const std::vector<Shape>& inputs) {
  shapes_ = inputs;
  next_ = 0;
  if (!recorded_.empty() && inputs.size() != recorded_shapes_.size()) {
    // The batch has grown: what is recorded has another last micro-batch, and does not come again. It may be under way.
    context_.device().synchronize();
    forget();
  }
  if (!records_ || plain_steps_ < kPlainSteps) {
    way_ = Way::plain;
    ++plain_steps_;
  } else if (recorded_.empty()) {
    way_ = Way::record;
    recorded_shapes_ = inputs;
    recorded_.resize(inputs.size());
    // What the plain steps have used would lie there beside the recording's own memory.
    context_.device().trim();
    memory_ = context_.device().make_recording_memory();
  } else {
    // A step of other sizes is as good call by call: all ranks meet in the same collectives either way.
    way_ = inputs == recorded_shapes_ ? Way::play : Way::plain;
  }
  if (way_ != Way::play) sync_.begin(static_cast<int64_t>(inputs.size()));
}

Tensor NetworkRunner::input() {
  const MemoryScope scope(context_.device(), MemoryUse::activations);
  MicroBatch& batch = way_ == Way::plain ? plain_ : recorded_[next_];
  if (way_ != Way::play) batch.input = context_.device().tensor(shapes_[next_], context_.activations);
  return batch.input;
}

Tensor NetworkRunner::forward(const StepInfo& info) {
  step_ = info.step;
  if (way_ == Way::plain) return backbone_.forward(context_, std::exchange(plain_.input, {}), Mode::train, info);
  MicroBatch& batch = recorded_[next_];
  if (way_ == Way::record) {
    batch.forward = context_.tape->record(
        memory_, [&] { batch.embeddings = backbone_.forward(context_, batch.input, Mode::train, info); });
    batch.d_embeddings = context_.device().tensor(batch.embeddings.shape());
  }
  batch.forward.play();
  return batch.embeddings;
}

void NetworkRunner::backward(const Tensor& d_embeddings) {
  if (way_ == Way::plain) {
    backward_now(d_embeddings);
  } else {
    MicroBatch& batch = recorded_[next_];
    context_.device().copy(d_embeddings, batch.d_embeddings);
    if (way_ == Way::record) batch.backward = context_.tape->record(memory_, [&] { backward_now(batch.d_embeddings); });
    batch.backward.play();
  }
  if (way_ == Way::play && last()) {
    // As the passes would have noted.
    for (Param* p : params_) p->grad_stale = false;
    backbone_.step_was_played(step_);
  }
  ++next_;
}

void NetworkRunner::backward_now(const Tensor& d_embeddings) {
  backbone_.backward(context_, d_embeddings);
  if (last()) sync_.run(context_);
}

}  // namespace plsc
