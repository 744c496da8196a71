// Clipping by the norm of all gradients, the class centres' among them (train.clip_head): on any number of ranks, in
// one micro-batch and in several, with and without a loss scale.
#include <cmath>
#include <mutex>

#include "step_fixture.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

struct Outcome {
  double norm = 0;               // as the step's record has it, the same on every rank
  std::vector<double> head;      // momenta of the class centres by class: after one step from nothing, the gradient
  std::vector<double> backbone;  // and of the network
};

void append(const std::vector<std::byte>& bytes, std::vector<double>& to) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  to.insert(to.end(), values.begin(), values.end());
}

Outcome one_step(int ranks, const StepOptions& options) {
  std::map<int64_t, std::vector<double>> shards;
  Outcome out;
  std::mutex mutex;
  run_ranks(ranks, [&](ThreadRank& rank) {
    StepUnderTest one(rank, options);
    const StepRecord record = one.run(0);
    const std::lock_guard lock(mutex);
    append(one.rows().at("momentum"), shards[one.head().shard().begin]);
    PLSC_CHECK(out.norm == 0 || out.norm == record.grad_norm, "ranks disagree on the norm");
    out.norm = record.grad_norm;
    if (!out.backbone.empty()) return;
    for (const auto& [name, bytes] : one.replicated())
      if (name.ends_with(" momentum")) append(bytes, out.backbone);
  });
  for (const auto& [begin, values] : shards) out.head.insert(out.head.end(), values.begin(), values.end());
  return out;
}

double squares(const std::vector<double>& x) {
  double sum = 0;
  for (const double e : x) sum += e * e;
  return sum;
}

/// The largest |a - factor b|, relative to the largest of b.
double distance(const std::vector<double>& a, const std::vector<double>& b, double factor) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(a[i] - factor * b[i]));
    largest = std::max(largest, std::abs(factor * b[i]));
  }
  return worst / largest;
}

StepOptions options_of(bool loss_scaling, int64_t micro_batches) {
  StepOptions options;
  options.head.scale = 16;
  options.loss_scaling = loss_scaling;
  options.micro_batches = micro_batches;
  options.optimizer.weight_decay = 0;
  options.clip_norm = 1e9;
  return options;
}

}  // namespace

TEST_CASE("the norm is that of all gradients, and the factor is everybody's") {
  for (const bool loss_scaling : {false, true}) {
    for (const int64_t micro_batches : {1, 2}) {
      StepOptions options = options_of(loss_scaling, micro_batches);
      const Outcome free = one_step(1, options);
      REQUIRE(squares(free.head) > 0.01 * squares(free.backbone));  // or it would not show in the norm
      // fp32 gradients, of which each is rounded once or twice: squares of 1e-6 relative at the most.
      CHECK(free.norm == Approx(std::sqrt(squares(free.backbone))).epsilon(1e-5));
      const double norm = std::sqrt(squares(free.backbone) + squares(free.head));
      options.clip_head = true;
      CHECK(one_step(1, options).norm == Approx(norm).epsilon(1e-5));
      options.clip_norm = 0.25 * norm;
      for (const int ranks : {1, 2, 3}) {
        INFO(ranks << " ranks, " << micro_batches << " micro-batches" << (loss_scaling ? ", with a loss scale" : ""));
        const Outcome clipped = one_step(ranks, options);
        // Whatever the gradients are: more ranks normalise their batches by themselves.
        CHECK(std::sqrt(squares(clipped.head) + squares(clipped.backbone)) == Approx(0.25 * norm).epsilon(1e-5));
        if (ranks > 1) continue;
        CHECK(distance(clipped.head, free.head, 0.25) < 1e-5);
        CHECK(distance(clipped.backbone, free.backbone, 0.25) < 1e-5);
      }
    }
  }
}

TEST_CASE("without clip_head the class centres are not clipped") {
  StepOptions options = options_of(false, 1);
  const Outcome free = one_step(1, options);
  options.clip_norm = 0.25 * free.norm;
  const Outcome clipped = one_step(1, options);
  CHECK(clipped.head == free.head);
  CHECK(distance(clipped.backbone, free.backbone, 0.25) < 1e-5);
}

}  // namespace plsc::test
