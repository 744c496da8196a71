// The head's kernels on tiles of dot products against their twins in kernels/cpu, and the loss against the formula.
//
// Tolerances. A thread adds at most eight exponentials in fp32, its twin adds all in double: 5e-7 relative. An
// exponential itself is the same text; a device that contracts products and sums differs by an ulp or two of the
// exponent's argument, which is up to 64: 1e-5.
#include "kernels/cuda/head_tile.h"

#include <cmath>
#include <limits>

#include "head_device.h"
#include "kernels/cpu/head_tile.h"
#include "kernels/cuda/head_loss.h"
#include "kernels/math/bf16.h"
#include "kernels/math/softmax_loss.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kTolerance = 1e-5;
constexpr math::LogitRule kClamped{20, 1};

/// A tile of rows [kBegin, kBegin + rows), with samples whose targets are before, in and behind it.
struct Problem {
  static constexpr int64_t kBegin = 40;
  Problem(int64_t rows_, int64_t samples_, const math::LogitRule& rule_)
      : rows(rows_), samples(samples_), stride((samples_ + 7) / 8 * 8), rule(rule_) {
    dots = random_floats((rows + 3) * stride, 5);
    for (int64_t j = 0; j < rows; ++j) inverse.push_back(0.5F + 0.6F * static_cast<float>(j % 3));  // some beyond 1
    for (int64_t i = 0; i < samples; ++i) {
      position.push_back(i % 4 == 3 ? -1 : kBegin - 2 + (i * 5) % (rows + 4));
      shift.push_back(static_cast<float>(i % 7) - 3);
      log_sum.push_back(5 + static_cast<float>(i % 5));
      target_gradient.push_back(-0.01F * static_cast<float>(i + 1));
    }
  }
  int64_t rows, samples, stride;
  math::LogitRule rule;
  std::vector<float> dots, inverse, shift, log_sum, target_gradient;
  std::vector<int64_t> position;

  bool is_target(int64_t row, int64_t sample) const { return position[static_cast<size_t>(sample)] == kBegin + row; }
  kernels::TileLogits cpu() const { return {inverse.data(), rule}; }
  gpu::TileShape shape() const { return {rows, samples, rows + 3, stride}; }
  /// The dots as the CPU wants them: without padding, targets marked.
  std::vector<float> marked() const {
    std::vector<float> out;
    for (int64_t j = 0; j < rows; ++j) {
      for (int64_t i = 0; i < samples; ++i) {
        out.push_back(is_target(j, i) ? -kInfinity : dots[static_cast<size_t>(j * stride + i)]);
      }
    }
    return out;
  }
};

struct OnGpu {
  explicit OnGpu(const Problem& p)
      : dots(p.dots),
        inverse(p.inverse),
        shift(p.shift),
        log_sum(p.log_sum),
        target_gradient(p.target_gradient),
        position(p.position),
        rule(p.rule) {}
  gpu::TileLogits logits() const { return {dots.get(), inverse.get(), position.get(), Problem::kBegin, rule}; }
  OnDevice<float> dots, inverse, shift, log_sum, target_gradient;
  OnDevice<int64_t> position;
  math::LogitRule rule;
};

struct Sums {
  explicit Sums(int64_t n) : sum(n), shift(n), max_cosine(n) {}
  gpu::TileSums get() const { return {sum.get(), shift.get(), max_cosine.get()}; }
  OnDevice<double> sum;
  OnDevice<float> shift, max_cosine;
};

template <class F>
void each_problem(F&& f) {
  for (const int64_t samples : {1, 3, 8, 31, 130, 260}) {
    for (const int64_t rows : {1, 5, 64, 257, 1500}) {
      // The large ones once: emulation takes its time.
      if (samples * rows > 100000) continue;
      // Some products are beyond 1: clamped, clamped and filtered, and as they are.
      for (const math::LogitRule& rule : {kClamped, math::LogitRule{20, 1, 0.2F}, math::LogitRule{20}}) {
        INFO(rows << " rows, " << samples << " samples, limit " << rule.limit << ", filter " << rule.filter);
        f(Problem(rows, samples, rule));
      }
    }
  }
}

TEST_CASE("a tile's sums with a fixed shift are the CPU's") {
  each_problem([](const Problem& p) {
    const std::vector<float> marked = p.marked();
    std::vector<double> sum(static_cast<size_t>(p.samples));
    std::vector<float> largest(sum.size(), -kInfinity);
    kernels::head_tile_sum({p.rows, p.samples}, p.cpu(), marked.data(), p.shift.data(), sum.data(), largest.data());
    for (double& s : sum) s *= 2;

    const OnGpu there(p);
    const Sums parts(gpu::tile_parts(p.shape()) * p.stride), total(p.samples);
    gpu::start_sums(p.samples, total.get(), true, stream());
    for (int tile = 0; tile < 2; ++tile) {  // the same tile twice
      gpu::sum_tile(p.shape(), there.logits(), there.shift.get(), parts.get(), stream());
      gpu::merge_tile(p.shape(), parts.get(), total.get(), true, stream());
    }
    CHECK(largest_error(total.sum.read(), sum) < kTolerance);
    CHECK(largest_error(total.max_cosine.read(), largest) < 1e-7);
  });
}

TEST_CASE("a running shift ends at the largest logit, and the sum is relative to it") {
  each_problem([](const Problem& p) {
    const std::vector<float> marked = p.marked();
    std::vector<double> sum(static_cast<size_t>(p.samples));
    std::vector<float> largest(sum.size(), -kInfinity), cosine = largest;
    kernels::head_tile_max_logit({p.rows, p.samples}, p.cpu(), marked.data(), largest.data());
    std::vector<float> shift = largest;  // none of these samples but a lone target's is without a negative
    for (float& s : shift) s = s == -kInfinity ? 0 : s;
    kernels::head_tile_sum({p.rows, p.samples}, p.cpu(), marked.data(), shift.data(), sum.data(), cosine.data());

    const OnGpu there(p);
    const Sums parts(gpu::tile_parts(p.shape()) * p.stride), total(p.samples);
    gpu::start_sums(p.samples, total.get(), false, stream());
    gpu::sum_tile(p.shape(), there.logits(), nullptr, parts.get(), stream());
    gpu::merge_tile(p.shape(), parts.get(), total.get(), false, stream());
    CHECK(largest_error(total.sum.read(), sum) < kTolerance);
    CHECK(largest_error(total.shift.read(), largest) < 1e-6);
    CHECK(largest_error(total.max_cosine.read(), cosine) < 1e-7);
  });
}

TEST_CASE("sums over tiles of rising and falling logits keep to the largest shift") {
  // Two tiles of one row: logits 18 and 2, in both orders; then a tile whose row is the sample's own target.
  for (const bool rising : {false, true}) {
    const OnDevice<float> dots(std::vector<float>{rising ? 0.1F : 0.9F, 0, 0, 0, rising ? 0.9F : 0.1F, 0, 0, 0});
    const OnDevice<float> inverse(std::vector<float>{1});
    const OnDevice<int64_t> position(std::vector<int64_t>{2});
    const gpu::TileShape shape{1, 1, 1, 4};
    const Sums parts(4), total(1);
    gpu::start_sums(1, total.get(), false, stream());
    for (int64_t t = 0; t < 3; ++t) {
      gpu::sum_tile(shape, {dots.get() + 4 * (t % 2), inverse.get(), position.get(), t, kClamped}, nullptr, parts.get(),
                    stream());
      gpu::merge_tile(shape, parts.get(), total.get(), false, stream());
    }
    CHECK(total.shift.read()[0] == Approx(18));
    CHECK(total.sum.read()[0] == Approx(1 + std::exp(-16.0)).epsilon(1e-6));
  }
}

TEST_CASE("no negatives: an empty sum, and the maxima of nothing") {
  const Sums total(3);
  gpu::start_sums(3, total.get(), false, stream());
  CHECK(total.sum.read() == std::vector<double>(3, 0.0));
  CHECK(total.shift.read() == std::vector<float>(3, -kInfinity));
  CHECK(total.max_cosine.read() == std::vector<float>(3, -kInfinity));
}

TEST_CASE("a dot product that is not a number reaches its sample's sum, and no other") {
  for (const bool fixed : {false, true}) {
    Problem p(9, 8, kClamped);
    p.dots[static_cast<size_t>(4 * p.stride + 5)] = std::numeric_limits<float>::quiet_NaN();
    p.position.assign(8, -1);
    const OnGpu there(p);
    const Sums parts(gpu::tile_parts(p.shape()) * p.stride), total(p.samples);
    gpu::start_sums(p.samples, total.get(), fixed, stream());
    gpu::sum_tile(p.shape(), there.logits(), fixed ? there.shift.get() : nullptr, parts.get(), stream());
    gpu::merge_tile(p.shape(), parts.get(), total.get(), fixed, stream());
    const auto sums = total.sum.read();
    for (size_t i = 0; i < sums.size(); ++i) CHECK(std::isnan(sums[i]) == (i == 5));
  }
}

TEST_CASE("a tile's gradient is the CPU's, in fp32 and in bf16, with the targets' own and zeros in the padding") {
  each_problem([](const Problem& p) {
    std::vector<float> expected = p.marked();
    kernels::head_tile_gradient({p.rows, p.samples}, p.cpu(), 0.5F, p.log_sum.data(), expected.data());
    std::vector<float> padded(static_cast<size_t>((p.rows + 3) * p.stride));
    for (int64_t j = 0; j < p.rows; ++j) {
      for (int64_t i = 0; i < p.samples; ++i) {
        padded[static_cast<size_t>(j * p.stride + i)] =
            p.is_target(j, i) ? p.target_gradient[static_cast<size_t>(i)] * p.inverse[static_cast<size_t>(j)]
                              : expected[static_cast<size_t>(j * p.samples + i)];
      }
    }
    const OnGpu there(p);
    const OnDevice<uint16_t> narrow(static_cast<int64_t>(padded.size()));
    const gpu::TileGradient how{0.5F, there.log_sum.get(), there.target_gradient.get()};
    gpu::tile_gradient_bf16(p.shape(), there.logits(), how, narrow.get(), stream());
    gpu::tile_gradient(p.shape(), there.logits(), how, there.dots.get(), stream());
    const std::vector<float> wide = there.dots.read();
    CHECK(largest_error(wide, padded) < kTolerance);
    const std::vector<uint16_t> bits = narrow.read();
    for (size_t i = 0; i < bits.size(); ++i) REQUIRE(bits[i] == math::float_to_bf16(wide[i]));
  });
}

struct LossProblem {
  explicit LossProblem(int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      sum.push_back(i % 9 == 8 ? 0 : 0.01 * static_cast<double>(i + 1));
      cosine.push_back(std::sin(static_cast<double>(i)));
      shift.push_back(static_cast<float>(i % 3));
      max_cosine.push_back(i % 2 ? 0.1F : -0.3F);
      labels.push_back(i % 11 == 10 ? -1 : i);
    }
  }
  std::vector<double> sum, cosine;
  std::vector<float> shift, max_cosine;
  std::vector<int64_t> labels;
};

struct LossOnGpu {
  explicit LossOnGpu(const LossProblem& p)
      : samples(static_cast<int64_t>(p.sum.size())),
        sum(p.sum),
        cosine(p.cosine),
        shift(p.shift),
        max_cosine(p.max_cosine),
        labels(p.labels),
        log_sum(samples),
        gradient(samples),
        result(3) {}
  void run(const math::LossRule& rule, const OnDevice<math::StepState>& state) const {
    gpu::head_loss({sum.get(), cosine.get(), shift.get(), max_cosine.get(), labels.get(), samples, rule, 0.25},
                   {log_sum.get(), gradient.get(), result.get()}, state.get(), stream());
  }
  int64_t samples;
  OnDevice<double> sum, cosine;
  OnDevice<float> shift, max_cosine;
  OnDevice<int64_t> labels;
  OnDevice<float> log_sum, gradient;
  OnDevice<double> result;
};

TEST_CASE("the loss of a batch is the sum of its samples', padding left out") {
  for (const int64_t n : {0, 1, 10, 511, 1200}) {
    const math::MarginRule unbounded{.limit = std::numeric_limits<double>::infinity()};
    const math::LossRule dissected{.scale = 12, .dissected = true, .termination = 0.9};
    for (const math::LossRule& rule :
         {math::LossRule{{1, 0.5, 0}, 12}, {{1, 0, 0.4}, 12}, {unbounded, 12}, dissected}) {
      LossProblem p(n);
      if (n > 5) p.cosine[5] = 1e4;
      double loss = 0, correct = 0, intra = 0;
      std::vector<float> log_sum, gradient;
      for (size_t i = 0; i < p.sum.size(); ++i) {
        const bool real = p.labels[i] >= 0;
        const auto one = math::sample_loss(rule, {p.sum[i], double{p.shift[i]}, p.cosine[i]}, 0.25);
        loss += real ? one.loss : 0;
        intra += real ? one.intra : 0;
        correct += real && p.cosine[i] > double{p.max_cosine[i]} ? 1 : 0;
        log_sum.push_back(real ? one.log_sum : kInfinity);
        gradient.push_back(real ? one.target_gradient : 0);
      }
      const LossOnGpu there(p);
      const OnDevice<math::StepState> state({math::StepState{}});
      there.run(rule, state);
      const auto result = there.result.read();
      CHECK(result[0] == Approx(loss).epsilon(1e-13));
      CHECK(result[1] == correct);
      CHECK(result[2] == Approx(intra).epsilon(1e-13));
      CHECK(largest_error(there.log_sum.read(), log_sum) < 1e-7);
      CHECK(largest_error(there.gradient.read(), gradient) < 1e-7);
      CHECK(state.read()[0].failed == 0);
      CHECK(state.read()[0].overflow == 0);
    }
  }
}

TEST_CASE("a loss that is not finite is marked in the step's state") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const bool dynamic : {false, true}) {
      LossProblem p(20);
      p.sum[7] = bad;
      math::StepState fresh;
      fresh.in.dynamic_scale = dynamic ? 1 : 0;
      const LossOnGpu there(p);
      const OnDevice<math::StepState> state({fresh});
      there.run({.scale = 12}, state);
      CHECK(state.read()[0].overflow == (dynamic ? 1 : 0));
      CHECK(state.read()[0].failed == (dynamic ? 0 : static_cast<double>(math::StepFailure::loss)));
    }
  }
}

TEST_CASE("sums are brought to another shift; an empty one stays") {
  const OnDevice<double> sum(std::vector<double>{2, 0, 3});
  const OnDevice<float> from(std::vector<float>{1, -kInfinity, 5}), to(std::vector<float>{4, 4, 5});
  gpu::rescale_sums(sum.get(), from.get(), to.get(), 3, stream());
  const auto seen = sum.read();
  CHECK(seen[0] == Approx(2 * std::exp(-3.0)));
  CHECK(seen[1] == 0);
  CHECK(seen[2] == 3);
}

}  // namespace
}  // namespace plsc::test
