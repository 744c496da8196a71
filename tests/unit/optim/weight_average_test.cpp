// The running average against its formula; who takes part; whose turn it is; the exchange for an evaluation.
#include "optim/weight_average.h"

#include <cmath>

#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/step_state.h"

using namespace plsc;
using namespace plsc::test;

namespace {

Param make(const std::string& name, int64_t n, ParamKind kind) {
  Param p;
  p.name = name;
  p.kind = kind;
  p.value = Tensor(host_allocator(), {n}, Dtype::f32);
  return p;
}

void set_values(Param& p, int64_t step) {
  for (int64_t i = 0; i < p.value.elements(); ++i)
    p.value.data<float>()[i] = std::sin(static_cast<float>(i + 1) + 0.5F * static_cast<float>(step));
}

}  // namespace

TEST_CASE("the decay rises to its limit, and only every so many updates have their turn") {
  CHECK(math::average_rest({0.999, 1}, 1) == test::Approx(1 - 1 / 10.0));
  CHECK(math::average_rest({0.999, 1}, 2) == test::Approx(1 - 2 / 11.0));
  CHECK(math::average_rest({0.5, 1}, 9) == test::Approx(0.5));  // 9 / 18: the first that reaches it
  CHECK(math::average_rest({0.5, 1}, 8) > 0.5F);
  CHECK(math::average_rest({0.999, 1}, 1'000'000) == test::Approx(0.001).epsilon(1e-4));
  for (const int64_t update : {1, 2, 4, 5, 7}) CHECK(math::average_rest({0.9, 3}, update) == 0);
  CHECK(math::average_rest({0.9, 3}, 3) == test::Approx(1 - 1 / 10.0));
  CHECK(math::average_rest({0.9, 3}, 6) == test::Approx(1 - 2 / 11.0));
}

TEST_CASE("parameters, frozen ones and running statistics are averaged; steps that are skipped do not count") {
  CpuContext rank(2);
  Param w = make("w", 40'003, ParamKind::weight), mean = make("mean", 5, ParamKind::buffer),
        frozen = make("f", 3, ParamKind::norm), count;
  frozen.frozen = true;
  count.name = "count";
  count.kind = ParamKind::buffer;
  count.value = Tensor::from<int64_t>({3}, Shape());
  Param* all[] = {&w, &mean, &frozen, &count};
  Param* averaged[] = {&w, &mean, &frozen};
  const WeightAverage average(EmaConfig{0.8, 2});
  for (Param* p : averaged) set_values(*p, 0);
  average.begin(rank.context, all);
  CHECK_FALSE(count.average.defined());
  std::vector<std::vector<double>> expected;
  for (Param* p : averaged) {
    REQUIRE(p->average.values<float>() == p->value.values<float>());
    CHECK(p->average.raw() != p->value.raw());
    expected.emplace_back();
    for (const float x : p->value.values<float>()) expected.back().push_back(static_cast<double>(x));
  }
  int64_t updates = 0;
  for (int64_t step = 0; step < 30; ++step) {
    for (Param* p : averaged) set_values(*p, step);
    const bool skipped = step == 3 || step == 4 || step == 11;
    begin_step(rank.backend, {.step = step, .dynamic_scale = 1});
    if (skipped) step_flags(rank.backend).data<double>()[0] = 1;
    average.step(rank.context, all);
    rank.backend.optim->finish_step();
    if (skipped) continue;
    ++updates;
    if (updates % 2 != 0) continue;
    const double before = static_cast<double>(updates) / 2 - 1, decay = std::min(0.8, (1 + before) / (10 + before));
    for (size_t k = 0; k < expected.size(); ++k) {
      for (size_t i = 0; i < expected[k].size(); ++i)
        expected[k][i] =
            decay * expected[k][i] + (1 - decay) * static_cast<double>(averaged[k]->value.data<float>()[i]);
    }
  }
  CHECK(updates == 27);
  for (size_t k = 0; k < expected.size(); ++k) {
    bool close = true;
    // 13 averages in fp32 of values up to 1.
    for (size_t i = 0; i < expected[k].size(); ++i)
      close = close && std::abs(static_cast<double>(averaged[k]->average.data<float>()[i]) - expected[k][i]) < 1e-6;
    CHECK(close);
  }
}

TEST_CASE("without a decay there is no average") {
  CpuContext rank;
  Param w = make("w", 3, ParamKind::weight);
  Param* all[] = {&w};
  const WeightAverage average(EmaConfig{});
  average.begin(rank.context, all);
  average.step(rank.context, all);
  CHECK_FALSE(w.average.defined());
}

TEST_CASE("an average that was read goes on from there") {
  CpuContext rank;
  Param w = make("w", 3, ParamKind::weight);
  set_values(w, 0);
  w.average = Tensor::from<float>({7, 8, 9}, {3});
  Param* all[] = {&w};
  WeightAverage(EmaConfig{0.9, 1}).begin(rank.context, all);
  CHECK(w.average.values<float>() == std::vector<float>{7, 8, 9});
}

TEST_CASE("averages stand in the weights' places for as long as an evaluation takes") {
  CpuContext rank;
  Param w = make("w", 3, ParamKind::weight), plain = make("p", 2, ParamKind::weight);
  set_values(w, 0);
  set_values(plain, 1);
  w.average = Tensor::from<float>({7, 8, 9}, {3});
  const auto weights = w.value.values<float>(), others = plain.value.values<float>();
  const void* const place = w.value.raw();
  {
    const AveragedWeights averaged({&w, &plain});
    CHECK(w.value.values<float>() == std::vector<float>{7, 8, 9});
    CHECK(plain.value.values<float>() == others);
  }
  CHECK(w.value.values<float>() == weights);
  CHECK(w.value.raw() == place);
  CHECK(w.average.values<float>() == std::vector<float>{7, 8, 9});
}
