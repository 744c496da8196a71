// Which classes take part in a step: the very set that the CPU's keys give. And where their rows are; and the nearest
// classes' lists.
#include "kernels/cuda/head_sample.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>

#include "head_device.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/cuda/head_top.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;

std::vector<int64_t> expected_rows(const gpu::SampleClasses& s, const std::vector<int64_t>& positives) {
  std::vector<int64_t> found(static_cast<size_t>(s.classes)), out;
  found.resize(
      static_cast<size_t>(kernels::sampled_classes({s.seed, s.step, s.limit}, s.first_class, s.classes, found.data())));
  for (int64_t& c : found) c -= s.first_class;
  std::ranges::set_union(found, positives, std::back_inserter(out));
  return out;
}

std::vector<int64_t> sampled(gpu::SampleClasses s, const std::vector<int64_t>& positives) {
  const OnDevice<int64_t> there(positives);
  s.positives = there.get();
  s.positive_count = static_cast<int64_t>(positives.size());
  const int64_t blocks = gpu::sample_blocks(s);
  const OnDevice<int64_t> counts(blocks), total(1);
  gpu::count_samples(s, counts.get(), stream());
  gpu::scan_counts(counts.get(), blocks, total.get(), stream());
  const OnDevice<int64_t> rows(total.read()[0]);
  gpu::write_samples(s, counts.get(), rows.get(), stream());
  return rows.read();
}

TEST_CASE("the sampled classes are those of the CPU's keys, for every seed, threshold and shard") {
  for (const uint64_t seed : {1ULL, 99ULL}) {
    for (const double threshold : {0.0, 0.1, 0.77, 1.0}) {
      // Shards that begin within a draw's four classes; none, few, one block's worth and its neighbours.
      for (const int64_t first : {0, 1, 6, 4099}) {
        for (const int64_t classes : {0, 1, 2, 5, 1000, 16383, 16384, 16387}) {
          if (classes > 1000 && first == 6) continue;
          gpu::SampleClasses s;
          s.seed = seed;
          s.step = static_cast<int64_t>(seed) + classes;
          s.limit = static_cast<uint64_t>(threshold * 4294967296.0);
          s.first_class = first;
          s.classes = classes;
          std::vector<int64_t> positives;
          for (int64_t row = 0; row < classes; row += 1 + row * 3 / 2) positives.push_back(row);
          INFO("seed " << seed << ", threshold " << threshold << ", classes from " << first << ", " << classes);
          CHECK(sampled(s, positives) == expected_rows(s, positives));
        }
      }
    }
  }
}

TEST_CASE("no positives, all positives, and classes beyond 32 bits") {
  gpu::SampleClasses s;
  s.seed = 3;
  s.step = 1'000'000;
  s.limit = 1U << 31;
  s.first_class = (int64_t{1} << 33) + 3;
  s.classes = 70000;  // several blocks
  CHECK(sampled(s, {}) == expected_rows(s, {}));
  s.limit = 0;
  std::vector<int64_t> all(static_cast<size_t>(s.classes));
  std::iota(all.begin(), all.end(), 0);
  CHECK(sampled(s, all) == all);
  CHECK(sampled(s, {}).empty());
}

TEST_CASE("counts of many blocks are summed in their order") {
  for (const int64_t blocks : {0, 1, 255, 256, 257, 3001}) {
    std::vector<int64_t> counts, before;
    int64_t total = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      counts.push_back((b * 7919) % 4097);
      before.push_back(total);
      total += counts.back();
    }
    const OnDevice<int64_t> there(counts), sum(1);
    gpu::scan_counts(there.get(), blocks, sum.get(), stream());
    CHECK(there.read() == before);
    CHECK(sum.read()[0] == total);
  }
}

TEST_CASE("rows are found among the active ones") {
  const std::vector<int64_t> active = {0, 3, 4, 9, 10, 11, 40, int64_t{1} << 40};
  const std::vector<int64_t> wanted = {3, -1, 5, 0, int64_t{1} << 40, 41, 10, int64_t{1} << 41};
  const OnDevice<int64_t> there(active), rows(wanted), position(8), none(8);
  gpu::find_rows({there.get(), 8, rows.get(), 8, position.get()}, stream());
  CHECK(position.read() == std::vector<int64_t>{1, -1, -1, 0, 7, -1, 4, -1});
  gpu::find_rows({there.get(), 0, rows.get(), 8, none.get()}, stream());
  CHECK(none.read() == std::vector<int64_t>(8, -1));
}

/// The k best of all rows by sorting.
void best(const std::vector<float>& cosines, int64_t k, std::vector<float>& values, std::vector<int64_t>& rows) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < cosines.size(); ++i) {
    if (!std::isnan(cosines[i])) order.push_back(static_cast<int64_t>(i));
  }
  const auto at = [&](int64_t i) { return std::clamp(cosines[static_cast<size_t>(i)], -1.0F, 1.0F); };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return at(a) > at(b); });
  for (int64_t n = 0; n < k; ++n) {
    const bool there = n < static_cast<int64_t>(order.size());
    values.push_back(there ? at(order[static_cast<size_t>(n)]) : -std::numeric_limits<float>::infinity());
    rows.push_back(there ? order[static_cast<size_t>(n)] : -1);
  }
}

TEST_CASE("the nearest classes over tiles, ties by row, -1 where there are no more") {
  for (const int64_t k : {int64_t{1}, int64_t{5}, int64_t{300}, gpu::kMostTop}) {
    for (const int64_t rows : {1, 3, 256, 700}) {
      INFO(k << " of " << rows);
      constexpr int64_t kSamples = 3;
      const int64_t tile_rows = 300;
      std::vector<float> cosines[kSamples], expected;
      std::vector<int64_t> expected_rows;
      for (int64_t i = 0; i < kSamples; ++i) {
        cosines[i] = random_floats(rows, static_cast<uint64_t>(40 + i));
        // Many ties, some beyond the ends, and rows that are not numbers.
        for (float& c : cosines[i]) c = i == 0 ? std::round(4 * c) / 3 : c;
        if (i == 1 && rows > 2) cosines[i][2] = std::numeric_limits<float>::quiet_NaN();
        best(cosines[i], k, expected, expected_rows);
      }
      const OnDevice<float> values(kSamples * k);
      const OnDevice<int64_t> places(kSamples * k);
      const gpu::TopLists lists{values.get(), places.get(), kSamples, k};
      gpu::start_top(lists, stream());
      for (int64_t begin = 0; begin < rows; begin += tile_rows) {
        const int64_t count = std::min(tile_rows, rows - begin);
        std::vector<float> dots(static_cast<size_t>(kSamples * (count + 1)), 99.0F);
        for (int64_t i = 0; i < kSamples; ++i) {
          for (int64_t j = 0; j < count; ++j) {
            dots[static_cast<size_t>(i * (count + 1) + j)] = cosines[i][static_cast<size_t>(begin + j)] * 2;
          }
        }
        const OnDevice<float> there(dots), inverse(std::vector<float>(static_cast<size_t>(count), 0.5F));
        gpu::merge_top({there.get(), inverse.get(), begin, count, count + 1}, lists, stream());
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
      }
      CHECK(places.read() == expected_rows);
      CHECK(values.read() == expected);
    }
  }
}

}  // namespace
}  // namespace plsc::test
