// Rows of class centres on their way between tables and buffers, against loops over plain vectors: bits must be the
// same.
#include "kernels/cuda/row_copy.h"

#include <algorithm>

#include "head_device.h"
#include "kernels/cuda/head_rows.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;

constexpr int64_t kRows = 300;

/// `count` rows whose bytes tell which row and whose memory it was; rows of 2 * columns bytes of weights, and as many
/// or twice as many of momentum.
struct Rows {
  Rows(int64_t count, int64_t columns, bool wide_momentum, uint16_t mark)
      : momentum_columns((wide_momentum ? 2 : 1) * columns) {
    for (int64_t i = 0; i < count * columns; ++i) weight.push_back(static_cast<uint16_t>(mark + i));
    for (int64_t i = 0; i < count * momentum_columns; ++i) momentum.push_back(static_cast<uint16_t>(3 * mark + i));
    for (int64_t i = 0; i < count; ++i) last_update.push_back(100 * mark + i);
    for (int64_t i = 0; i < count; ++i) second_moment.push_back(static_cast<float>(1000 * mark + i));
  }
  void take(int64_t to, const Rows& from, int64_t row) {
    const auto columns = static_cast<int64_t>(weight.size() / last_update.size());
    std::copy_n(from.weight.begin() + row * columns, columns, weight.begin() + to * columns);
    std::copy_n(from.momentum.begin() + row * momentum_columns, momentum_columns,
                momentum.begin() + to * momentum_columns);
    last_update[static_cast<size_t>(to)] = from.last_update[static_cast<size_t>(row)];
    second_moment[static_cast<size_t>(to)] = from.second_moment[static_cast<size_t>(row)];
  }
  bool operator==(const Rows&) const = default;

  int64_t momentum_columns;
  std::vector<uint16_t> weight, momentum;
  std::vector<int64_t> last_update;
  std::vector<float> second_moment;
};

struct RowsOnDevice {
  explicit RowsOnDevice(const Rows& rows)
      : like(rows),
        weight(rows.weight),
        momentum(rows.momentum),
        last_update(rows.last_update),
        second_moment(rows.second_moment) {}
  gpu::RowMemory memory(bool lagging, bool moments) const {
    return {weight.get(), momentum.get(), moments ? second_moment.get() : nullptr,
            lagging ? last_update.get() : nullptr};
  }
  Rows read() const {
    Rows rows = like;
    rows.weight = weight.read();
    rows.momentum = momentum.read();
    rows.last_update = last_update.read();
    rows.second_moment = second_moment.read();
    return rows;
  }
  Rows like;
  OnDevice<uint16_t> weight, momentum;
  OnDevice<int64_t> last_update;
  OnDevice<float> second_moment;
};

TEST_CASE("rows come from the table, from the buffer that has them already, and go back") {
  // Rows of whole 16 bytes and of others; more rows than the blocks of a copy take at a time come in the last case.
  for (const int64_t columns : {1, 7, 8, 64}) {
    for (const bool wide_momentum : {false, true}) {
      for (const bool lagging : {false, true}) {
        const bool moments = lagging != wide_momentum;
        INFO(columns << " columns, momentum twice as wide " << wide_momentum << ", lagging " << lagging << ", moments "
                     << moments);
        std::vector<int64_t> mine, others;
        for (int64_t row = 1; row < kRows; row += 2) mine.push_back(row);
        for (int64_t row = 3; row < kRows; row += 3) others.push_back(row);
        const auto count = static_cast<int64_t>(mine.size()), other_count = static_cast<int64_t>(others.size());
        Rows table(kRows, columns, wide_momentum, 1), buffer(count, columns, wide_momentum, 2);
        const Rows other(other_count, columns, wide_momentum, 5);
        const RowsOnDevice table_there(table), buffer_there(buffer), other_there(other);
        const OnDevice<int64_t> list(mine), except(others);

        gpu::RowCopy copy;
        copy.list = {list.get(), count};
        copy.weight_bytes = 2 * columns;
        copy.momentum_bytes = 2 * table.momentum_columns;
        copy.table = table_there.memory(lagging, moments);
        copy.buffer = buffer_there.memory(lagging, moments);
        const std::vector<int64_t> numbers = buffer.last_update;
        const std::vector<float> squares = buffer.second_moment;
        gpu::fetch_rows(copy, {except.get(), other_count}, stream());
        for (int64_t i = 0; i < count; ++i) {
          if (!std::ranges::binary_search(others, mine[static_cast<size_t>(i)]))
            buffer.take(i, table, mine[static_cast<size_t>(i)]);
        }
        if (!lagging) buffer.last_update = numbers;
        if (!moments) buffer.second_moment = squares;
        CHECK(buffer_there.read() == buffer);

        gpu::take_over_rows(copy, {except.get(), other_count}, other_there.memory(lagging, moments), stream());
        for (int64_t i = 0; i < count; ++i) {
          const auto found = std::ranges::lower_bound(others, mine[static_cast<size_t>(i)]);
          if (found != others.end() && *found == mine[static_cast<size_t>(i)])
            buffer.take(i, other, found - others.begin());
        }
        if (!lagging) buffer.last_update = numbers;
        if (!moments) buffer.second_moment = squares;
        CHECK(buffer_there.read() == buffer);

        const std::vector<int64_t> before = table.last_update;
        const std::vector<float> squares_before = table.second_moment;
        gpu::write_back_rows(copy, stream());
        for (int64_t i = 0; i < count; ++i) table.take(mine[static_cast<size_t>(i)], buffer, i);
        if (!lagging) table.last_update = before;
        if (!moments) table.second_moment = squares_before;
        CHECK(table_there.read() == table);
        CHECK(other_there.read() == other);
      }
    }
  }
}

TEST_CASE("more rows than the blocks of a copy take at a time, and none at all") {
  constexpr int64_t kMany = 5000, kColumns = 8;
  std::vector<int64_t> all;
  for (int64_t row = 0; row < kMany; ++row) all.push_back(row);
  const Rows table(kMany, kColumns, false, 1);
  const RowsOnDevice from(table), to(Rows(kMany, kColumns, false, 2));
  const OnDevice<int64_t> list(all);
  gpu::RowCopy copy{{list.get(), 0}, 2 * kColumns, 2 * kColumns, from.memory(true, true), to.memory(true, true)};
  gpu::fetch_rows(copy, {}, stream());
  gpu::take_over_rows(copy, {}, {}, stream());
  gpu::write_back_rows(copy, stream());
  CHECK(to.read() == to.like);
  copy.list.count = kMany;
  gpu::fetch_rows(copy, {}, stream());
  CHECK(to.read() == table);
  CHECK(from.read() == table);
}

TEST_CASE("rows in turn are caught up where they lie, but for those that are left alone") {
  constexpr int64_t kColumns = 4, kStride = 7, kFirst = 3, kTurn = (kRows - kFirst + kStride - 1) / kStride;
  const std::vector<float> w = random_floats(kRows * kColumns, 1), v = random_floats(kRows * kColumns, 2);
  std::vector<int64_t> last(kRows, 4), alone;
  for (int64_t row = 0; row < kRows; row += 2) alone.push_back(row);
  const math::CatchUpMatrix<float> step{-1e-3F, -0.2F, 0.01F, 0.5F};
  const OnDevice<float> weight(w), momentum(v);
  const OnDevice<int64_t> last_update(last), except(alone);
  const OnDevice<math::CatchUpMatrix<float>> steps({step});
  gpu::HeadRows rows;
  rows.count = kTurn;
  rows.columns = kColumns;
  rows.weight = weight.get();
  rows.momentum = momentum.get();
  rows.begin = kFirst;
  rows.stride = kStride;
  rows.last_update = last_update.get();
  rows.steps = steps.get();
  rows.first = 4;
  rows.next = 5;
  gpu::catch_up_rows(rows, 0, {except.get(), static_cast<int64_t>(alone.size())}, stream());

  std::vector<float> expected_w = w, expected_v = v;
  for (int64_t row = kFirst; row < kRows; row += kStride) {
    if (row % 2 == 0) continue;
    last[static_cast<size_t>(row)] = 5;
    for (int64_t d = 0; d < kColumns; ++d) {
      const auto at = static_cast<size_t>(row * kColumns + d);
      math::catch_up(step, expected_w[at], expected_v[at]);
    }
  }
  CHECK(last_update.read() == last);
  CHECK(largest_error(weight.read(), expected_w) < 1e-7);
  CHECK(largest_error(momentum.read(), expected_v) < 1e-7);
}

}  // namespace
}  // namespace plsc::test
