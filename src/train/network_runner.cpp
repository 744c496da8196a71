#include "train/network_runner.h"

#include <utility>

namespace plsc {

NetworkRunner::NetworkRunner(Context& context, Backbone& backbone, GradSync& sync, const Options& options)
    : context_(context),
      backbone_(backbone),
      sync_(sync),
      records_(options.records && context.tape != nullptr && context.device().can_record()),
      together_(options.together),
      params_(backbone.params()) {}

void NetworkRunner::forget() {
  if (recorded_.empty()) return;
  recorded_.clear();
  memory_.reset();
  plain_steps_ = 0;
}

void NetworkRunner::begin_step(const std::vector<Shape>& inputs) {
  shapes_ = inputs;
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

Tensor NetworkRunner::input(size_t batch) {
  const MemoryScope scope(context_.device(), MemoryUse::activations);
  MicroBatch& of = way_ == Way::plain ? plain_ : recorded_[batch];
  if (way_ != Way::play) of.input = context_.device().tensor(shapes_[batch], context_.activations);
  return of.input;
}

Tensor NetworkRunner::forward(size_t batch, const StepInfo& info) {
  step_ = info.step;
  use_place_of(batch);
  if (way_ == Way::plain) return backbone_.forward(context_, std::exchange(plain_.input, {}), Mode::train, info);
  MicroBatch& of = recorded_[batch];
  if (way_ == Way::record) {
    of.forward = context_.tape->record(
        memory_, [&] { of.embeddings = backbone_.forward(context_, of.input, Mode::train, info); });
    of.d_embeddings = context_.device().tensor(of.embeddings.shape());
  }
  of.forward.play();
  return of.embeddings;
}

void NetworkRunner::backward(size_t batch, const Tensor& d_embeddings) {
  use_place_of(batch);
  if (way_ == Way::plain) {
    backward_now(batch, d_embeddings);
  } else {
    MicroBatch& of = recorded_[batch];
    context_.device().copy(d_embeddings, of.d_embeddings);
    if (way_ == Way::record)
      of.backward = context_.tape->record(memory_, [&] { backward_now(batch, of.d_embeddings); });
    of.backward.play();
  }
  if (way_ == Way::play && last(batch)) {
    // As the passes would have noted.
    for (Param* p : params_) p->grad_stale = false;
    backbone_.step_was_played(step_);
  }
}

void NetworkRunner::backward_now(size_t batch, const Tensor& d_embeddings) {
  tops_.push_back(backbone_.backward_top(context_, d_embeddings));
  if (tops_.size() < together_) return;
  backbone_.backward_below(context_, std::exchange(tops_, {}));
  if (last(batch)) sync_.run(context_);
}

}  // namespace plsc
