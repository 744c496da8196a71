// Batch norm as a layer: running statistics, ranks, micro-batches, frozen, errors. The op itself is tested in
// tests/unit/backend.
#include "nn/batch_norm.h"

#include <cmath>

#include "base/threads.h"

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr int64_t kChannels = 5, kPixels = 6;  // 2x3 images

/// Samples [first, first + batch): channel c around 100 c + 3 with a spread of its own.
Tensor samples(int64_t first, int64_t batch) {
  Tensor x(host_allocator(), {batch, 2, 3, kChannels}, Dtype::f32);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const int64_t c = i % kChannels;
    x.data<float>()[i] =
        static_cast<float>(100 * c + 3) + static_cast<float>(c + 1) * drawn(1, first * kPixels * kChannels + i);
  }
  return x;
}

struct Moments {
  double mean = 0, unbiased = 0;
};
Moments moments(const Tensor& x, int64_t c) {
  const auto v = x.values<float>();
  double sum = 0, square = 0, n = 0;
  for (size_t i = static_cast<size_t>(c); i < v.size(); i += kChannels, ++n) sum += v[i];
  for (size_t i = static_cast<size_t>(c); i < v.size(); i += kChannels) square += (v[i] - sum / n) * (v[i] - sum / n);
  return {sum / n, square / (n - 1)};
}

struct State {
  std::vector<Param*> params;
  std::vector<Tensor*> summed;
};
State state_of(BatchNorm& norm) {
  struct Collect final : ParamVisitor {
    State state;
    void param(Param& p) override { state.params.push_back(&p); }
    void summed(Tensor& t) override { state.summed.push_back(&t); }
  } collect;
  norm.visit(collect);
  return collect.state;
}

Pass train_pass(int64_t step, int64_t samples, int64_t all) { return {Mode::train, {step, 0, all}, samples, all}; }

void reduce(Context& context, BatchNorm& norm) {
  for (Tensor* t : state_of(norm).summed) context.comm.all_reduce(*t, ReduceOp::sum);
}

void require(bool condition, const std::string& what) {  // Catch's macros are not for several threads
  if (!condition) throw Error(what);
}
bool near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b)); }

/// Expected running statistics after one step over `all` from 0 and 1.
void require_pooled(BatchNorm& norm, const Tensor& all) {
  const State s = state_of(norm);
  for (int64_t c = 0; c < kChannels; ++c) {
    const Moments m = moments(all, c);
    // fp32 sums of up to 100 values; the variance comes from sums around the running mean, 0 at the start, so it
    // carries the rounding of (100 c)^2.
    require(near(s.params[2]->value.data<float>()[c], 0.1 * m.mean, 1e-6), "running mean");
    require(near(s.params[3]->value.data<float>()[c], 0.9 + 0.1 * m.unbiased, 2e-3), "running variance");
  }
  require(*s.params[4]->value.data<int64_t>() == 1, "num_batches_tracked");
}

}  // namespace

TEST_CASE("running statistics are those of all ranks together, synchronised or not, for uneven batches") {
  for (const bool synchronised : {false, true}) {
    for (const int ranks : {1, 2, 3, 4}) {
      const int64_t batch = 13;
      run_ranks(ranks, [&](ThreadRank& self) {
        CpuContext rank(self);
        BatchNorm norm(*rank.backend.device, "bn", {kChannels, 1e-5f, synchronised});
        const int64_t begin = range_begin(batch, ranks, self.rank), end = range_begin(batch, ranks, self.rank + 1);
        norm.forward(rank.context, samples(begin, end - begin), train_pass(0, end - begin, batch));
        reduce(rank.context, norm);
        norm.finish_step(rank.context);
        require_pooled(norm, samples(0, batch));
        // Every rank holds the same bits.
        const State s = state_of(norm);
        for (const size_t buffer : {2, 3}) {
          Tensor gathered(host_allocator(), {ranks, kChannels}, Dtype::f32);
          rank.context.comm.all_gather(s.params[buffer]->value, gathered);
          for (int64_t i = 0; i < gathered.elements(); ++i)
            require(gathered.data<float>()[i] == gathered.data<float>()[i % kChannels], "ranks differ");
        }
      });
    }
  }
}

TEST_CASE("groups of ranks: each has the statistics of its own samples, forward and backward, in double") {
  // Four ranks in groups of two, with uneven batches: samples 0 to 6 and 7 to 12.
  const int64_t begins[] = {0, 4, 7, 8, 13};
  run_ranks(4, [&](ThreadRank& self) {
    CpuContext rank(self);
    const auto group = self.comm.split(2, self.host);
    require(group->rank() == self.rank % 2 && group->size() == 2, "the place in the group");
    rank.context.norm_group = group.get();
    BatchNorm norm(*rank.backend.device, "bn", {kChannels, 1e-5f, true});
    const int64_t first = begins[self.rank / 2 * 2], end = begins[self.rank / 2 * 2 + 2];
    const int64_t own = begins[self.rank], count = begins[self.rank + 1] - own;
    const Tensor x = samples(own, count), all = samples(first, end - first);
    const Tensor y = norm.forward(rank.context, x, train_pass(0, count, end - first));
    Tensor dy(host_allocator(), all.shape(), Dtype::f32);  // of the group's samples
    for (int64_t i = 0; i < dy.elements(); ++i) dy.data<float>()[i] = drawn(2, first * kPixels * kChannels + i);
    const Tensor own_dy = dy.rows(own - first, count);
    const Tensor dx = norm.backward(rank.context, own_dy);

    const int64_t rows = (end - first) * kPixels;
    for (int64_t c = 0; c < kChannels; ++c) {
      const Moments m = moments(all, c);
      const double rstd = 1 / std::sqrt(m.unbiased * static_cast<double>(rows - 1) / static_cast<double>(rows) + 1e-5);
      const auto hat = [&](const Tensor& t, int64_t i) { return (t.data<float>()[i * kChannels + c] - m.mean) * rstd; };
      double sum = 0, sum_hat = 0;
      for (int64_t i = 0; i < rows; ++i) {
        sum += dy.data<float>()[i * kChannels + c];
        sum_hat += dy.data<float>()[i * kChannels + c] * hat(all, i);
      }
      for (int64_t i = 0; i < count * kPixels; ++i) {
        // Values around 100 c + 3 lose their first digits to the mean: 403 of a spread of 5, in fp32.
        require(near(y.data<float>()[i * kChannels + c], hat(x, i), 2e-5), "y");
        const double g = own_dy.data<float>()[i * kChannels + c];
        const double expected = rstd * (g - (sum + hat(x, i) * sum_hat) / static_cast<double>(rows));
        require(near(dx.data<float>()[i * kChannels + c], expected, 2e-5), "dx");
      }
    }
    reduce(rank.context, norm);
    norm.finish_step(rank.context);
    require_pooled(norm, samples(0, 13));  // of all ranks, whatever the groups
  });
}

TEST_CASE("the variance stays accurate once the running mean is near the data") {
  CpuContext rank;
  BatchNorm norm(*rank.backend.device, "bn", {kChannels});
  double mean[kChannels] = {}, variance[kChannels];
  std::fill(variance, variance + kChannels, 1.0);
  for (int64_t step = 0; step < 80; ++step) {
    const Tensor x = samples(step * 9, 9);
    norm.forward(rank.context, x, train_pass(step, 9, 9));
    norm.finish_step(rank.context);
    for (int64_t c = 0; c < kChannels; ++c) {
      mean[c] += 0.1 * (moments(x, c).mean - mean[c]);
      variance[c] += 0.1 * (moments(x, c).unbiased - variance[c]);
    }
  }
  const State s = state_of(norm);
  for (int64_t c = 0; c < kChannels; ++c) {
    CHECK(s.params[2]->value.data<float>()[c] == test::Approx(mean[c]).epsilon(1e-6));
    CHECK(s.params[3]->value.data<float>()[c] == test::Approx(variance[c]).epsilon(1e-4));
  }
  CHECK(*s.params[4]->value.data<int64_t>() == 80);
}

TEST_CASE("micro-batches of one step are pooled; a step that was skipped leaves no trace") {
  CpuContext rank;
  BatchNorm norm(*rank.backend.device, "bn", {kChannels});
  norm.forward(rank.context, samples(50, 3), train_pass(0, 3, 3));  // skipped: no finish_step
  norm.forward(rank.context, samples(0, 4), train_pass(1, 4, 13));
  norm.forward(rank.context, samples(4, 9), train_pass(1, 9, 13));
  norm.finish_step(rank.context);
  require_pooled(norm, samples(0, 13));
  norm.finish_step(rank.context);  // nothing was seen since
  require_pooled(norm, samples(0, 13));
}

TEST_CASE("evaluation normalises with the running statistics and changes nothing") {
  CpuContext rank;
  BatchNorm norm(*rank.backend.device, "bn", {kChannels});
  const State s = state_of(norm);
  for (int64_t c = 0; c < kChannels; ++c) {
    s.params[0]->value.data<float>()[c] = 2;
    s.params[1]->value.data<float>()[c] = static_cast<float>(c);
    s.params[2]->value.data<float>()[c] = static_cast<float>(100 * c);
    s.params[3]->value.data<float>()[c] = static_cast<float>(c + 1);
  }
  const Tensor x = samples(0, 1);
  const Tensor y = norm.forward(rank.context, x, {Mode::eval, {}, 1, 1});
  for (int64_t i = 0; i < x.elements(); ++i) {
    const auto c = static_cast<double>(i % kChannels);
    const double expected = 2 * (x.data<float>()[i] - 100 * c) / std::sqrt(c + 1 + 1e-5) + c;
    CHECK(y.data<float>()[i] == test::Approx(expected).epsilon(1e-6));
  }
  norm.finish_step(rank.context);
  CHECK(s.params[2]->value.data<float>()[1] == 100);
  CHECK(*s.params[4]->value.data<int64_t>() == 0);
}

TEST_CASE("a single row has no variance: an error, unless the other ranks have rows too") {
  CpuContext rank;
  const Tensor one = Tensor::from<float>({1, 2, 3, 4, 5}, {1, kChannels});
  for (const bool synchronised : {false, true}) {
    BatchNorm norm(*rank.backend.device, "features", {kChannels, 1e-5f, synchronised});
    CHECK(contains_all(error_text([&] { norm.forward(rank.context, one, train_pass(0, 1, 1)); }),
                       {"features", "local batch of 1", "sync_batch_norm", "batch_size"}));
    CHECK_NOTHROW(norm.forward(rank.context, one, {Mode::eval, {}, 1, 1}));
  }
  run_ranks(2, [&](ThreadRank& self) {
    CpuContext mine(self);
    BatchNorm norm(*mine.backend.device, "features", {kChannels, 1e-5f, true});
    Tensor x = Tensor::from<float>({1, 2, 3, 4, 5}, {1, kChannels});
    if (self.rank == 1) x.data<float>()[0] = 3;
    const Tensor y = norm.forward(mine.context, x, train_pass(0, 1, 2));
    require(near(y.data<float>()[0], self.rank == 0 ? -1 : 1, 1e-4), "mean 2, deviation 1");
  });
}

TEST_CASE("the fixed scale has no gradient, and a frozen batch norm passes through constants") {
  CpuContext rank;
  BatchNorm norm(*rank.backend.device, "features", {kChannels, 1e-5f, false, true});
  const State s = state_of(norm);
  CHECK_FALSE(s.params[0]->trainable());
  const Tensor x = samples(0, 4), dy = samples(9, 4);
  norm.forward(rank.context, x, train_pass(0, 4, 4));
  norm.backward(rank.context, dy);
  CHECK_FALSE(s.params[0]->grad.defined());
  CHECK(s.params[1]->grad.defined());

  s.params[1]->frozen = true;
  s.params[1]->grad = {};
  s.params[3]->value.data<float>()[2] = 9;
  norm.forward(rank.context, x, train_pass(1, 4, 4));
  const Tensor dx = norm.backward(rank.context, dy);
  CHECK_FALSE(s.params[1]->grad.defined());
  for (int64_t i = 0; i < dx.elements(); ++i) {
    const double rstd = 1 / std::sqrt((i % kChannels == 2 ? 9 : 1) + 1e-5);
    CHECK(dx.data<float>()[i] == test::Approx(dy.data<float>()[i] * rstd).epsilon(1e-6));
  }
}

TEST_CASE("a norm that is fed has its statistics from the pass that wrote its input") {
  CpuContext cpu;
  Context& context = cpu.context;
  const BatchNormOptions options{kChannels};
  BatchNorm first(context.device(), "first", options), fed(context.device(), "fed", options);
  BatchNorm alone(context.device(), "alone", options);
  first.feed(fed);
  const auto pass = [](int64_t step) { return train_pass(step, 8, 8); };

  const Tensor y = first.forward(context, samples(0, 8), pass(0));
  CHECK(fed.forward(context, y, pass(0)).values<float>() == alone.forward(context, y, pass(0)).values<float>());

  // What was written over the input afterwards is normalised, but has not been measured.
  const Tensor measured = first.forward(context, samples(8, 8), pass(0));
  const Tensor expected = alone.forward(context, measured, pass(0));
  measured.data<float>()[0] += 1000;
  const std::vector<float> seen = fed.forward(context, measured, pass(0)).values<float>();
  CHECK(seen[0] > 100);
  CHECK(std::vector<float>(seen.begin() + 1, seen.end()) ==
        std::vector<float>(expected.data<float>() + 1, expected.data<float>() + expected.elements()));

  // Another input is measured itself, and so is the same one a second time.
  first.forward(context, samples(16, 8), pass(0));
  const Tensor other = samples(24, 8);
  for (int again = 0; again < 2; ++again) {
    CHECK(fed.forward(context, other, pass(0)).values<float>() ==
          alone.forward(context, other, pass(0)).values<float>());
  }
  fed.finish_step(context);
  alone.finish_step(context);
  const State a = state_of(fed), b = state_of(alone);
  for (size_t i : {2u, 3u}) CHECK(a.params[i]->value.values<float>() == b.params[i]->value.values<float>());
}

TEST_CASE("a norm feeds one of as many channels") {
  CpuContext cpu;
  BatchNorm first(cpu.context.device(), "first", {kChannels}), fed(cpu.context.device(), "fed", {kChannels + 1});
  CHECK_THROWS_AS(first.feed(fed), LogicError);
}
