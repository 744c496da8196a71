#include "nn/residual_network.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

/// Calls f for every parameter and buffer of `block`.
template <class F>
void for_each_param(Block& block, F f) {
  struct Visitor final : ParamVisitor {
    explicit Visitor(F& function) : f_(function) {}
    void param(Param& p) override { f_(p); }
    F& f_;
  } visitor(f);
  block.visit(visitor);
}

/// Tells every block whose output a batch norm measures which one that is.
void connect(std::vector<ResidualNetwork::Part>& parts) {
  Block* before = nullptr;
  for (ResidualNetwork::Part& part : parts) {
    for (auto& block : part.blocks) {
      BatchNorm* norm = block->input_norm();
      if (before != nullptr && norm != nullptr) before->feed(*norm);
      before = block.get();
    }
  }
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

}  // namespace

ResidualNetwork::ResidualNetwork(Options options, std::unique_ptr<ConvOps> ops, std::vector<Part> parts)
    : options_(std::move(options)), ops_(std::move(ops)), parts_(std::move(parts)) {
  connect(parts_);
  for (const Param* p : params()) {
    if (p->kind != ParamKind::buffer) parameters_ += p->value.elements();
  }
}

void ResidualNetwork::visit(ParamVisitor& visitor) {
  for (Part& part : parts_) {
    for (auto& block : part.blocks) block->visit(visitor);
  }
}

std::string ResidualNetwork::description() const {
  return fmt::format("{}, {:.2f} M parameters", options_.name, static_cast<double>(parameters_) * 1e-6);
}

std::vector<std::string> ResidualNetwork::parts() const {
  std::vector<std::string> names;
  for (const Part& part : parts_) names.push_back(part.name);
  return names;
}

void ResidualNetwork::freeze(const std::vector<std::string>& names) {
  const std::vector<std::string> known = parts();
  for (const std::string& name : names) {
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) fail("init.freeze: {} has no part '{}'; it has {}", options_.name, name, joined(known));
    for (auto& block : parts_[static_cast<size_t>(found - known.begin())].blocks)
      for_each_param(*block, [](Param& p) { p.frozen = true; });
  }
  first_trainable_ = 0;
  for (const Part& part : parts_) {
    bool trains = false;
    for (auto& block : part.blocks) for_each_param(*block, [&](Param& p) { trains = trains || p.trainable(); });
    if (trains) break;
    ++first_trainable_;
  }
}

void ResidualNetwork::require_batch(const Context& context, int64_t smallest) const {
  const bool merges = options_.sync.on && context.norms().size() > 1;
  if (smallest >= 2 || merges) return;
  for (size_t i = options_.lone_rows; i < parts_.size(); ++i) {
    for (const auto& block : parts_[i].blocks) {
      bool trains = false;
      for_each_param(*block, [&](Param& p) { trains = trains || p.trainable(); });
      if (!trains) continue;
      fail_hint(
          "raise train.batch_size to at least 2 images a rank and micro-batch, or set model.sync_batch_norm: true",
          "{}: its last batch norms cannot estimate a variance from the single image that a rank has in a "
          "micro-batch",
          options_.name);
    }
  }
}

Pass ResidualNetwork::make_pass(Context& context, const Tensor& x, Mode mode, const StepInfo& step) const {
  Pass pass{mode, step, x.dim(0), x.dim(0)};
  if (mode != Mode::train || !options_.sync.on) return pass;
  const int ranks = context.norms().size(), first = context.rank() / ranks * ranks;
  PLSC_CHECK(options_.sync.group == 0 || options_.sync.group == ranks, "{} ranks as a group of {}", ranks,
             options_.sync.group);
  if (ranks == 1) return pass;
  const std::vector<int64_t> samples = gather_values(context.host, x.dim(0));
  pass.all_samples = std::accumulate(samples.begin() + first, samples.begin() + first + ranks, int64_t{0});
  return pass;
}

Tensor ResidualNetwork::forward(Context& context, const Tensor& x, Mode mode, const StepInfo& step) {
  const MemoryScope scope(context.device(), MemoryUse::activations);
  PLSC_CHECK(x.shape().size() == 4 && x.dim(1) == options_.height && x.dim(2) == options_.width &&
                 x.dim(3) == options_.channels,
             "images {} for a network of ({}, {}, {})", x.shape().text(), options_.height, options_.width,
             options_.channels);
  const Pass pass = make_pass(context, x, mode, step);
  Pass frozen = pass;
  frozen.mode = Mode::eval;
  Tensor y = x;
  if (x.dtype() != context.activations) {
    y = context.device().tensor(x.shape(), context.activations);
    context.nn().cast(x, y);
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    for (auto& block : parts_[i].blocks) y = block->forward(context, y, i < first_trainable_ ? frozen : pass);
  }
  return y;
}

Tensor ResidualNetwork::backward(Context& context, const Tensor& dy) {
  std::vector<Tensor> top{backward_top(context, dy)};
  backward_blocks(context, std::move(top), [](size_t) {});
  return {};
}

Tensor ResidualNetwork::backward_top(Context& context, const Tensor& dy) {
  const size_t part = parts_.size() - 1;
  if (part < first_trainable_) return {};
  return backward_block(context, part, parts_[part].blocks.size() - 1, dy);
}

void ResidualNetwork::backward_below(Context& context, std::vector<Tensor> gradients) {
  backward_blocks(context, std::move(gradients), [this](size_t place) { use_place(place); });
}

Tensor ResidualNetwork::backward_block(Context& context, size_t part, size_t block, const Tensor& dy) {
  const MemoryScope scope(context.device(), MemoryUse::activations);
  Block& b = *parts_[part].blocks[block];
  Tensor dx = b.backward(context, dy, part > first_trainable_ || block > 0);
  announce(b);
  return dx;
}

template <class Next>
void ResidualNetwork::backward_blocks(Context& context, std::vector<Tensor> gradients, const Next& next) {
  bool top = true;
  for (size_t part = parts_.size(); part-- > first_trainable_;) {
    for (size_t block = parts_[part].blocks.size(); block-- > 0;) {
      if (std::exchange(top, false)) continue;
      for (size_t i = 0; i < gradients.size(); ++i) {
        if (gradients.size() > 1) next(i);  // else it is there already
        gradients[i] = backward_block(context, part, block, gradients[i]);
      }
    }
  }
}

void ResidualNetwork::announce(Block& block) {
  if (!on_gradient) return;
  for_each_param(block, [this](Param& p) {
    if (p.trainable()) on_gradient(p);
  });
}

}  // namespace plsc
