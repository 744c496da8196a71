// Shards, first values and samplers: functions of the seed and the class, whatever the number of ranks.
#include <cmath>
#include <mutex>

#include "head/class_sampler.h"
#include "kernels/cpu/random_block.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/head_cases.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

TEST_CASE("the first C mod W ranks own one class more") {
  for (const int64_t classes : {0, 1, 3, 7, 16, 1000003}) {
    for (const int ranks : {1, 2, 3, 5, 16}) {
      int64_t next = 0;
      for (int r = 0; r < ranks; ++r) {
        const ClassShard shard = class_shard(classes, ranks, r);
        CHECK(shard.begin == next);
        CHECK(shard.size() == classes / ranks + (r < classes % ranks ? 1 : 0));
        next = shard.end;
      }
      CHECK(next == classes);
    }
  }
}

std::vector<float> all_centers(int ranks, const HeadConfig& config, int64_t classes, int64_t columns) {
  std::vector<float> out(static_cast<size_t>(classes * columns));
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    auto head = drawn_head(cpu.context, config, classes, columns);
    const auto rows = head_rows(*head, "centers").values<float>();
    std::copy(rows.begin(), rows.end(), out.begin() + head->shard().begin * columns);
  });
  return out;
}

TEST_CASE("first values do not depend on the ranks, and have the deviation asked for") {
  HeadConfig config;
  const auto one = all_centers(1, config, 1001, 30);
  for (const int ranks : {2, 3, 4}) CHECK(all_centers(ranks, config, 1001, 30) == one);
  const auto moments = [](const std::vector<float>& x) {
    double mean = 0, square = 0;
    for (float v : x) mean += v, square += double{v} * v;
    const auto n = static_cast<double>(x.size());
    return std::pair(mean / n, std::sqrt(square / n));
  };
  // 30,030 draws: the mean is off by 1 / sqrt(n) = .6 %, the deviation by .4 %; four times that.
  CHECK(std::abs(moments(one).first) < 0.01 * 0.023);
  CHECK(moments(one).second == Approx(0.01).epsilon(0.016));
  config.init_std = 0;
  CHECK(moments(all_centers(1, config, 1001, 30)).second == Approx(std::sqrt(2.0 / 1031)).epsilon(0.016));
  CpuContext other;
  other.context.seed = 2;
  CHECK(head_rows(*drawn_head(other.context, config, 10, 30), "centers").values<float>()[0] !=
        all_centers(1, config, 10, 30)[0]);
}

std::vector<int64_t> active_classes(int ranks, double ratio, int64_t classes, int64_t step,
                                    const std::vector<int64_t>& labels) {
  std::vector<int64_t> out;
  std::vector<std::vector<int64_t>> parts(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank, 2);
    const ClassShard shard = class_shard(classes, ranks, rank.rank);
    const Sampling sampling = start_sampling(cpu.context, {"uniform", ratio}, shard, step, labels);
    const ActiveClasses active = plsc::active_classes(sampling, shard.size());
    PLSC_CHECK(active.local == active.rows.dim(0));
    for (int64_t row : active.rows.values<int64_t>())
      parts[static_cast<size_t>(rank.rank)].push_back(shard.begin + row);
  });
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

TEST_CASE("uniform sampling: the rule of the design, the same on any number of ranks") {
  const std::vector<int64_t> labels{5, 5, 999, 0, 123, -1};
  for (const double ratio : {0.0, 0.001, 0.1, 0.5, 1.0}) {
    const auto one = active_classes(1, ratio, 1000, 3, labels);
    for (const int ranks : {2, 3, 4}) CHECK(active_classes(ranks, ratio, 1000, 3, labels) == one);
    std::vector<int64_t> expected;
    const auto rule = sampled_classes(1, 3, 1000, ratio, {5, 999, 0, 123});
    for (size_t j = 0; j < rule.size(); ++j) {
      if (rule[j]) expected.push_back(static_cast<int64_t>(j));
    }
    CHECK(one == expected);
    for (int64_t positive : {0, 5, 123, 999}) CHECK(std::binary_search(one.begin(), one.end(), positive));
  }
  CHECK(active_classes(1, 1.0, 1000, 3, labels).size() == 1000);
  CHECK(active_classes(1, 0.0, 1000, 3, labels).size() == 4);
}

TEST_CASE("uniform sampling of many classes: no block of them loses or doubles one") {
  constexpr int64_t kMany = 13'001;
  const auto rule = sampled_classes(1, 8, kMany, 0.02, {4096, 13'000});
  std::vector<int64_t> expected;
  for (size_t j = 0; j < rule.size(); ++j) {
    if (rule[j]) expected.push_back(static_cast<int64_t>(j));
  }
  REQUIRE(expected.size() > 100);
  for (const int ranks : {1, 3}) CHECK(active_classes(ranks, 0.02, kMany, 8, {4096, 13'000, 4096}) == expected);
}

TEST_CASE("draws of a block are those that are made one by one") {
  // Counters over the ends of 32 bits, in b and in a; keys of any seed and purpose.
  for (const uint64_t seed : {0ULL, 7ULL, 0x123456789ABCDEFULL}) {
    for (const uint64_t a : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 40) + 3}) {
      for (const uint64_t b : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 32) - 5, ~uint64_t{0} - 20}) {
        for (const math::Draw what : {math::Draw::rounding, math::Draw::class_sample}) {
          uint32_t words[kernels::kBlockWords];
          kernels::random_block({seed, what, a}, b, words);
          for (int64_t g = 0; g < kernels::kBlockDraws; ++g) {
            const math::Random4 draw = math::random4(seed, what, a, b + static_cast<uint64_t>(g));
            for (int k = 0; k < 4; ++k) CHECK(words[4 * g + k] == draw.x[k]);
          }
        }
      }
    }
  }
}

TEST_CASE("uniform sampling takes about ratio C classes, others in every step") {
  double total = 0;
  for (int64_t step = 0; step < 50; ++step) {
    total += static_cast<double>(active_classes(1, 0.1, 2000, step, {1, 2, 3}).size());
  }
  // 200 +- sqrt(180 / 50) = 1.9; four times that.
  CHECK(total / 50 == Approx(200).margin(7.6));
  CHECK(active_classes(1, 0.1, 2000, 0, {1}) != active_classes(1, 0.1, 2000, 1, {1}));
}

TEST_CASE("a label out of range is an error that names it, on every rank") {
  run_ranks(3, [](ThreadRank& rank) {
    CpuContext cpu(rank);
    HeadConfig config;
    auto head = drawn_head(cpu.context, config, 10, 4);
    for (const int64_t bad : {int64_t{10}, int64_t{-1}, int64_t{1} << 40}) {
      // Ranks differ in their number of samples: what pads the batch is no label.
      std::vector<int64_t> labels{3, rank.rank == 1 ? bad : 9};
      if (rank.rank == 2) labels.pop_back();
      const std::string text =
          error_text([&] { begin_head(cpu.context, *head, {labels}, {.step = 0, .global_batch = 5}, {}); });
      PLSC_CHECK(contains_all(text, {"rank 1", "sample 1", "label " + std::to_string(bad), "classes = 10"}), "got: {}",
                 text);
    }
  });
}

TEST_CASE("the first loss of an untrained head is the one it expects") {
  CpuContext cpu(2);
  constexpr int64_t kClasses = 20000, kColumns = 128, kBatch = 64;
  std::vector<HeadConfig> configs(3);
  configs[1].margin = named_margin("cosface");
  configs[2].sampling = {"uniform", 0.5};
  for (HeadConfig& config : configs) {
    config.scale = 16;  // s^2 / 2D stays the exact mean for as long as its own tail does not matter
    auto head = drawn_head(cpu.context, config, kClasses, kColumns);
    const auto labels = random_labels(kBatch, kClasses, 1);
    begin_head(cpu.context, *head, {labels}, {.step = 0, .global_batch = kBatch}, {});
    const HeadResult result =
        head->run(cpu.context, to_tensor(random_values(kBatch * kColumns, 2), {kBatch, kColumns}));
    // The mean over 64 targets of s cos(theta), whose deviation is 16 / sqrt(128 * 64) = .18.
    CHECK(totals_of(cpu.context, result).loss_sum / kBatch == Approx(head->expected_first_loss()).margin(0.6));
  }
  HeadConfig defaults;
  CHECK(drawn_head(cpu.context, defaults, 50000, 512)->expected_first_loss() ==
        Approx(64 * std::sin(0.5) + std::log(50000.0) + 4));
  // Few classes and a large scale: the largest cosine alone counts, and the closed form says 99.
  auto few = drawn_head(cpu.context, defaults, 60, 32);
  const auto labels = random_labels(1024, 60, 1);
  begin_head(cpu.context, *few, {labels}, {.step = 0, .global_batch = 1024}, {});
  const HeadResult result = few->run(cpu.context, to_tensor(random_values(1024 * 32, 2), {1024, 32}));
  // The 60 centres are the same for all 1024 samples: the spread of their cosines is good to a tenth.
  CHECK(few->expected_first_loss() == Approx(totals_of(cpu.context, result).loss_sum / 1024).epsilon(0.05));
  CHECK(few->expected_first_loss() < 65);
  CHECK(contains_all(drawn_head(cpu.context, defaults, 1000, 512)->description(),
                     {"arcface", "m2 0.5", "s 64", "1000 classes x 512", "full softmax"}));
}

}  // namespace
}  // namespace plsc::test
