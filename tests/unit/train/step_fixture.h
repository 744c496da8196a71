// A tiny network and head that train by TrainingStep on thread ranks, with ways to break a gradient on one rank alone.
#pragma once
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/threads.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/step_state.h"
#include "support/tiny_nets.h"
#include "train/training_step.h"

namespace plsc::test {

inline constexpr int64_t kClasses = 23, kBatch = 12;
inline constexpr float kInfinite = std::numeric_limits<float>::infinity();

/// Where a step breaks, on one rank alone.
enum class Fault {
  none,
  kept_gradient,      // an element of the head's gradient before the ranks agree
  backbone_gradient,  // one of the backbone's, as its backward pass leaves it
  center,             // a class centre, so that the loss of all samples is not finite; mended behind the step
};

/// Makes the head's kept gradient infinite where it is told to: the optimizer's ops see it first.
class OverflowingOptim final : public OptimOps {
 public:
  OverflowingOptim(std::unique_ptr<OptimOps> inner, Fault& fault) : inner_(std::move(inner)), fault_(fault) {}
  void judge_gradients(std::span<const Tensor> gradients) override { inner_->judge_gradients(gradients); }
  void check_finite(const Tensor& gradient) override {
    // Once: what is checked later is not the head's.
    if (std::exchange(fault_, fault_ == Fault::kept_gradient ? Fault::none : fault_) == Fault::kept_gradient)
      gradient.data<float>()[gradient.elements() - 1] = kInfinite;
    inner_->check_finite(gradient);
  }
  void update(std::span<const ParamGroup> groups) override { inner_->update(groups); }
  void average(std::span<Param* const> params, const math::AverageRule& rule) override {
    inner_->average(params, rule);
  }
  void squares(const Tensor& gradient, Tensor& sums) override { inner_->squares(gradient, sums); }
  void note_head_squares(const Tensor& sums) override { inner_->note_head_squares(sums); }
  void clip(Tensor& gradient) override { inner_->clip(gradient); }
  void finish_step() override { inner_->finish_step(); }

 private:
  std::unique_ptr<OptimOps> inner_;
  Fault& fault_;
};

struct StepOptions {
  HeadConfig head;
  bool loss_scaling = true;
  int64_t micro_batches = 1;
  OptimizerConfig optimizer{};
  EmaConfig ema{};
  double clip_norm = 5;
  bool clip_head = false;
  CompressConfig compress{};
};

/// One rank. Samples, labels and weights are the same whatever the number of ranks.
class StepUnderTest {
 public:
  StepUnderTest(ThreadRank& rank, const StepOptions& options)
      : options_(options),
        cpu_(rank),
        net_(tiny_net("plsc")),
        config_(config_of(net_, options)),
        backbone_(make_tiny(cpu_.context, net_)),
        head_(drawn_head(cpu_.context, options.head, kClasses, net_.model.embedding_size)) {
    cpu_.context.loss_scaling = options.loss_scaling;
    compress_gradients(cpu_.context, backbone_->params(), options.compress);
    if (options.loss_scaling) set_loss_scale(cpu_.backend, {math::kFirstLossScale, 0});
    cpu_.backend.optim = std::make_unique<OverflowingOptim>(std::move(cpu_.backend.optim), fault_);
    step_ = std::make_unique<TrainingStep>(cpu_.context, config_, *backbone_, *head_, nullptr);
    // Behind the step's own listener, which may send a gradient away at once.
    backbone_->on_gradient = [this, send = backbone_->on_gradient](Param& p) {
      if (fault_ == Fault::backbone_gradient) p.grad.data<float>()[0] = kInfinite;
      send(p);
    };
  }

  /// Gives the device step `number`, which breaks on this rank where `fault` says so.
  void start(int64_t number, Fault fault = Fault::none) {
    step_->prepare(number, kBatch * options_.micro_batches, batches(number));
    fault_ = fault;
    float& center = first_center();
    const float before = center;
    if (fault == Fault::center) center = kInfinite;
    step_->run(0.05);
    if (fault == Fault::center) center = before;
    fault_ = Fault::none;
  }
  StepRecord take() { return step_->take(); }
  StepRecord run(int64_t number, Fault fault = Fault::none) {
    start(number, fault);
    return take();
  }

  using State = std::map<std::string, std::vector<std::byte>>;
  /// Weights, moments, averages and running statistics, the same on every rank but for what is kept of compressed
  /// gradients. Not the count of batches, which no step
  /// uses and which the host keeps, who does not know yet that a step is skipped.
  State replicated() const {
    State out;
    for (const Param* p : backbone_->params()) {
      if (p->value.dtype() != Dtype::f32) continue;
      out[p->name] = bytes(p->value);
      if (p->momentum.defined()) out[p->name + " momentum"] = bytes(p->momentum);
      if (p->unsent.defined()) out[p->name + " unsent"] = bytes(p->unsent);
      if (p->squares.defined()) out[p->name + " squares"] = bytes(p->squares);
      if (p->average.defined()) out[p->name + " average"] = bytes(p->average);
    }
    return out;
  }
  /// This rank's rows, as they lie.
  State rows() const {
    State out;
    for (const HeadRows& r : head_->state()) out[r.name] = bytes(r.rows);
    return out;
  }
  MarginHead& head() { return *head_; }
  Context& context() { return cpu_.context; }
  /// Of this rank's classes.
  float& first_center() { return head_rows(*head_, "centers").data<float>()[0]; }

 private:
  static Config config_of(const TinyNet& net, const StepOptions& options) {
    Config config;
    config.optimizer = options.optimizer;
    config.train.ema = options.ema;
    config.data.image_size = net.size;
    config.data.channels = net.channels;
    config.train.clip_norm = options.clip_norm;
    config.train.clip_head = options.clip_head;
    config.comm.compress = options.compress;
    return config;
  }
  static std::vector<std::byte> bytes(const Tensor& t) {
    std::vector<std::byte> out(t.bytes());
    if (!out.empty()) std::memcpy(out.data(), t.raw(), out.size());
    return out;
  }
  /// This rank's slice of each micro-batch.
  std::vector<Batch> batches(int64_t number) const {
    const Context& context = cpu_.context;
    const int64_t begin = range_begin(kBatch, context.ranks(), context.rank()),
                  end = range_begin(kBatch, context.ranks(), context.rank() + 1);
    const int64_t each = net_.size[0] * net_.size[1] * net_.channels;
    std::vector<Batch> out;
    for (int64_t m = 0; m < options_.micro_batches; ++m) {
      const auto stream = static_cast<uint64_t>(number * options_.micro_batches + m);
      const auto labels = random_labels(kBatch, kClasses, stream);
      Batch batch;
      batch.bytes = Tensor(host_allocator(), {end - begin, net_.size[0], net_.size[1], net_.channels}, Dtype::u8);
      for (int64_t i = 0; i < batch.bytes.elements(); ++i) {
        const float x = drawn(static_cast<int64_t>(stream), begin * each + i);
        batch.bytes.data<uint8_t>()[i] = static_cast<uint8_t>(127.5F * (x + 1));
      }
      batch.labels.assign(labels.begin() + begin, labels.begin() + end);
      batch.first_sample = m * kBatch + begin;
      out.push_back(std::move(batch));
    }
    return out;
  }

  StepOptions options_;
  CpuContext cpu_;
  TinyNet net_;
  Config config_;
  Fault fault_ = Fault::none;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<MarginHead> head_;
  std::unique_ptr<TrainingStep> step_;
};

}  // namespace plsc::test
