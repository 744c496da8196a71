// 20 steps of SGD against PyTorch (tests/golden/generate_train.py): network, margin head, optimizer, clipping and
// schedule together, as a training step runs them.
#include "head/margin_head.h"
#include "optim/grad_sync.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/head_step.h"
#include "support/npy.h"
#include "support/source_dir.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr int64_t kSteps = 20, kBatch = 24, kClasses = 10, kEmbedding = 16;
const std::string kData = test::source_dir() + "/tests/golden/train/data/";

std::unique_ptr<MarginHead> make_head(Context& context) {
  HeadConfig config;
  config.scale = 16;
  config.margin = {"custom", 1, 0.3, 0};
  auto head = make_margin_head(context, config, kClasses, kEmbedding);
  head->init();
  for (HeadRows& rows : head->state()) {
    if (rows.name != "centers") continue;
    for (int64_t i = 0; i < rows.rows.elements(); ++i) {
      const auto bits = math::random4(7, math::Draw::center_init, 0, static_cast<uint64_t>(i) / 4);
      rows.rows.data<float>()[i] = static_cast<float>(math::normal4(bits).x[i % 4]) * 0.01f;
    }
  }
  return head;
}

std::vector<int64_t> labels_of(int64_t step) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < kBatch; ++i) labels.push_back((7 * i + 3 * step) % kClasses);
  return labels;
}

Tensor images_of(const TinyNet& net, int64_t step, const std::vector<int64_t>& labels) {
  const Tensor x = tiny_images(net, kBatch, step % 2);
  const int64_t each = x.elements() / kBatch;
  for (int64_t i = 0; i < x.elements(); ++i)
    x.data<float>()[i] += static_cast<float>(labels[static_cast<size_t>(i / each)]) / kClasses;
  return x;
}

void check_training(const std::string& name, double base_lr) {
  CpuContext rank;
  const TinyNet net = tiny_net(name);
  const auto backbone = make_tiny(rank.context, net);
  const auto head = make_head(rank.context);
  const auto params = backbone->params();
  GradSync sync(rank.context, *backbone);
  const Optimizer sgd(OptimizerConfig{});
  ScheduleConfig rates;
  rates.base_lr = base_lr;
  rates.warmup_steps = 5;
  const Schedule schedule(rates, kSteps, kSteps);
  backbone->on_gradient = [&](Param& p) { sync.notify(rank.context, p); };

  const Tensor golden = read_npy(kData + name + "_steps.npy");
  for (int64_t t = 0; t < kSteps; ++t) {
    INFO(name << ", step " << t);
    const StepInfo info{t, 0, kBatch};
    const auto labels = labels_of(t);
    const math::UpdateRule update = sgd.rule(schedule.lr(t));
    begin_head(rank.context, *head, {labels}, info, math::sgd_rule(update));
    next_micro_batch(rank.context.backend, {.step = t, .clip_norm = 5, .rule = update});
    zero_grad(params);
    sync.begin(1);
    const Tensor e = backbone->forward(rank.context, images_of(net, t, labels), Mode::train, info);
    const HeadResult result = head->run(rank.context, e);
    backbone->backward(rank.context, result.d_embedding);
    sync.run(rank.context);
    sgd.step(rank.context, params);
    head->end_step(rank.context);
    backbone->finish_step(rank.context);
    // Against float64. PyTorch's own float32 run differs by up to 2e-6 in the loss and 1e-4 in the norm.
    CHECK(totals_of(rank.context, result).loss_sum / kBatch == test::Approx(golden.data<double>()[t]).epsilon(1e-4));
    CHECK(state_of(rank.context).grad_norm == test::Approx(golden.data<double>()[kSteps + t]).epsilon(2e-3));
  }
  const Tensor e = backbone->forward(rank.context, tiny_images(net, 4, 9), Mode::eval, {});
  CHECK(relative_error(e.span<float>(), read_npy(kData + name + "_embeddings.npy").span<float>()) < 2e-3);
}

}  // namespace

TEST_CASE("20 steps of a tiny iresnet with ArcFace", "[golden]") { check_training("iresnet", 0.01); }
TEST_CASE("20 steps of a tiny PLSC network with ArcFace", "[golden]") { check_training("plsc", 0.01); }
TEST_CASE("20 steps of a tiny resnet with ArcFace", "[golden]") { check_training("basic", 0.01); }
TEST_CASE("20 steps of a tiny bottleneck resnet with ArcFace", "[golden]") { check_training("bottleneck", 0.005); }
