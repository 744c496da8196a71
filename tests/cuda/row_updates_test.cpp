// The steps of rows by LARS, AdamW and LAMB, and AdamW's rows that missed steps, on a device against their CPU twins
// (backend/cpu/row_change.h) on the same rows.
//
// Tolerances. Sums of squares are fp32's here and double there: over a few hundred columns they, and so a row's rate
// and second moment, differ by less than 1e-6; a step, and what a row coasted, by as much.
#include <cmath>

#include "backend/cpu/row_change.h"
#include "head/catch_up_table.h"
#include "head_device.h"
#include "kernels/cuda/head_rows.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;
using math::UpdateKind;

constexpr double kTolerance = 2e-6;
constexpr int64_t kRows = 11, kUpdates = 150;

struct Case {
  UpdateKind kind = UpdateKind::adamw;
  int64_t columns = 16, padding = 0;
  Dtype weights = Dtype::f32, momentum = Dtype::f32;
  bool indexed = false, lagging = false;

  std::string text() const {
    return fmt::format("{}, {} columns, {} of padding, {} and {}, indexed {}, lagging {}", math::name_of(kind), columns,
                       padding, dtype_name(weights), dtype_name(momentum), indexed, lagging);
  }
};

/// A value of a table: fp32, or the 16 bits of bf16.
struct Table {
  Table(Dtype type_, std::vector<float> values) : type(type_), wide(std::move(values)) {
    for (float& x : wide) {
      narrow.push_back(math::float_to_bf16(x));
      if (type == Dtype::bf16) x = math::bf16_to_float(narrow.back());
    }
  }
  void* data() { return type == Dtype::f32 ? static_cast<void*>(wide.data()) : narrow.data(); }
  std::vector<float> values() const {
    if (type == Dtype::f32) return wide;
    std::vector<float> out;
    for (const uint16_t bits : narrow) out.push_back(math::bf16_to_float(bits));
    return out;
  }
  Dtype type;
  std::vector<float> wide;
  std::vector<uint16_t> narrow;
};

/// Rows on the host, of which some missed up to 149 of 150 updates: more than a warp has lanes.
struct Store {
  explicit Store(const Case& c)
      : how(c),
        weights(c.weights, padded(random_floats(kRows * c.columns, 3))),
        momentum(c.momentum, padded(random_floats(kRows * c.columns, 4))) {
    for (float x : random_floats(kRows, 5)) second.push_back(0.2F * (x + 1));
    second[2] = 0;  // a row that has had no gradient so far
    std::fill_n(momentum.wide.begin() + 2 * c.columns, c.columns, 0.0F);
    std::fill_n(momentum.narrow.begin() + 2 * c.columns, c.columns, uint16_t{0});
    const int64_t count = c.indexed ? 6 : kRows;
    for (int64_t i = 0; i < count; ++i) rows.push_back(c.indexed ? i + i / 2 : i);
    for (int64_t t = 0; t < kUpdates; ++t) {
      math::UpdateRule rule = row_rule(c.kind);
      rule.lr *= static_cast<float>(kUpdates - t) / kUpdates;
      if (c.lagging) t % 11 == 4 ? table.append_skipped(c.kind) : table.append(rule, t + 1);
    }
    const int64_t taken[] = {150, 149, 118, 117, 86, 1, 60};
    for (int64_t j = 0; j < kRows; ++j) last.push_back(taken[j % 7]);
  }
  std::vector<float> padded(std::vector<float> values) const {
    for (size_t i = 0; i < values.size(); ++i)
      if (static_cast<int64_t>(i) % how.columns >= how.columns - how.padding) values[i] = 0;
    return values;
  }
  RowTile tile() {
    RowTile t;
    t.count = static_cast<int64_t>(rows.size());
    t.weight = weights.data();
    t.weight_type = weights.type;
    t.momentum = momentum.data();
    t.momentum_type = momentum.type;
    t.second_moment = math::has_second_moment(how.kind) ? second.data() : nullptr;
    t.padding = how.padding;
    t.rounding = {77, 12, 1000};
    t.index = how.indexed ? rows.data() : nullptr;
    if (!how.lagging) return t;
    t.lag.last_update = last.data();
    t.lag.first = table.first();
    t.lag.next = table.next();
    t.lag.steps = reinterpret_cast<const math::CatchUpMatrix<float>*>(table.steps().raw());
    if (table.is_adamw()) t.lag.coasting = reinterpret_cast<const math::CoastingStep*>(table.coasting().raw());
    return t;
  }
  /// f(tile, stored row, scratch) for each of them.
  template <class F>
  void each(const F& f) {
    RowScratch scratch(how.columns);
    const RowTile t = tile();
    for (const int64_t row : rows) f(t, row, scratch);
  }

  Case how;
  Table weights, momentum;
  std::vector<float> second;
  std::vector<int64_t> rows, last;
  CatchUpTable table;
};

/// The same in device memory.
struct StoreOnDevice {
  explicit StoreOnDevice(Store& s)
      : host(s.tile()),
        columns(s.how.columns),
        wide(s.weights.wide),
        wide_momentum(s.momentum.wide),
        narrow(s.weights.narrow),
        narrow_momentum(s.momentum.narrow),
        second(s.second),
        index(s.rows),
        last(s.last),
        steps(s.table.steps().values<float>()),
        coasting(s.table.is_adamw() ? s.table.coasting().values<double>() : std::vector<double>{}) {}
  gpu::HeadRows rows() const {
    const bool bf16 = host.weight_type == Dtype::bf16, bf16_momentum = host.momentum_type == Dtype::bf16;
    gpu::HeadRows r;
    r.count = host.count;
    r.columns = columns;
    r.weight = bf16 ? static_cast<void*>(narrow.get()) : wide.get();
    r.type = bf16 ? gpu::HeadType::bf16 : gpu::HeadType::f32;
    r.momentum = bf16_momentum ? static_cast<void*>(narrow_momentum.get()) : wide_momentum.get();
    r.momentum_type = bf16_momentum ? gpu::HeadType::bf16 : gpu::HeadType::f32;
    r.index = host.index != nullptr ? index.get() : nullptr;
    r.last_update = host.lag.last_update != nullptr ? last.get() : nullptr;
    r.steps = reinterpret_cast<const math::CatchUpMatrix<float>*>(steps.get());
    r.coasting = host.lag.coasting != nullptr ? reinterpret_cast<const math::CoastingStep*>(coasting.get()) : nullptr;
    r.first = host.lag.first;
    r.next = host.lag.next;
    r.second_moment = host.second_moment != nullptr ? second.get() : nullptr;
    r.padding = host.padding;
    r.seed = 77;
    r.update = 12;
    r.first_class = 1000;
    return r;
  }
  void check(const Store& expected) const {
    compare(expected.weights, wide.read(), narrow.read());
    compare(expected.momentum, wide_momentum.read(), narrow_momentum.read());
    CHECK(largest_error(second.read(), expected.second) < kTolerance);
    CHECK(last.read() == expected.last);
  }
  /// bf16: a number that is off by its last bit of fp32 may fall to the other side of its draw: one in some thousands.
  static void compare(const Table& expected, const std::vector<float>& floats, const std::vector<uint16_t>& bits) {
    if (expected.type == Dtype::f32) {
      CHECK(largest_error(floats, expected.wide) < kTolerance);
      return;
    }
    Table seen(Dtype::f32, expected.wide);
    seen.type = Dtype::bf16;
    seen.narrow = bits;
    CHECK(largest_error(seen.values(), expected.values()) < 1.0 / 128);
    int64_t other = 0;
    for (size_t i = 0; i < bits.size(); ++i) other += bits[i] != expected.narrow[i] ? 1 : 0;
    CHECK(other <= 2);
  }
  RowTile host;
  int64_t columns;
  OnDevice<float> wide, wide_momentum;
  OnDevice<uint16_t> narrow, narrow_momentum;
  OnDevice<float> second;
  OnDevice<int64_t> index, last;
  OnDevice<float> steps;
  OnDevice<double> coasting;
};

template <class F>
void each_case(const F& f) {
  for (const UpdateKind kind : {UpdateKind::lars, UpdateKind::adamw, UpdateKind::lamb}) {
    for (const bool lagging : {false, true}) {
      if (lagging && kind == UpdateKind::lamb) continue;
      for (const Case& c : {Case{kind, 1, 0, Dtype::f32, Dtype::f32, false, lagging},
                            Case{kind, 5, 2, Dtype::f32, Dtype::bf16, true, lagging},
                            Case{kind, 16, 7, Dtype::bf16, Dtype::f32, false, lagging},
                            Case{kind, 132, 0, Dtype::bf16, Dtype::bf16, true, lagging}}) {
        INFO(c.text());
        f(c);
      }
    }
  }
}

TEST_CASE("steps of rows by their norms are the CPU's: caught up, projected, and rounded by chance") {
  each_case([](const Case& c) {
    for (const bool projected : {false, true}) {
      Store expected(c);
      const StoreOnDevice there(expected);
      const std::vector<float> u = expected.padded(random_floats(kRows * c.columns, 9));
      std::vector<float> inverse;
      for (int64_t i = 0; i < kRows; ++i) inverse.push_back(0.3F + 0.1F * static_cast<float>(i));
      math::UpdateRule rule = row_rule(c.kind);
      rule.gradient_scale = 0.5F;
      math::StepState state;
      state.updates = 6;
      const OnDevice<float> gradient(u), norms(inverse);
      const OnDevice<math::StepState> states({state});
      gpu::update_rows(there.rows(), {gradient.get(), projected ? norms.get() : nullptr}, rule, states.get(), stream());

      const RowUpdate update(rule, state);
      int64_t i = 0;
      expected.each([&](const RowTile& tile, int64_t row, RowScratch& scratch) {
        const float norm = projected ? inverse[static_cast<size_t>(i)] : 0;
        step_row(tile, row, {u.data() + i++ * c.columns, norm, c.columns}, update, scratch);
      });
      there.check(expected);
    }
  });
}

TEST_CASE("an update by norms does nothing where the step's state blocks it") {
  for (const UpdateKind kind : {UpdateKind::lars, UpdateKind::adamw, UpdateKind::lamb}) {
    Store s(Case{kind, 20});
    math::StepState blocked;
    blocked.overflow = 1;
    const StoreOnDevice there(s);
    const OnDevice<float> gradient(random_floats(kRows * 20, 9));
    const OnDevice<math::StepState> state({blocked});
    gpu::update_rows(there.rows(), {gradient.get(), nullptr}, row_rule(kind), state.get(), stream());
    there.check(s);
  }
}

TEST_CASE("rows of AdamW and LARS that missed steps are read and caught up as on the CPU") {
  each_case([](const Case& c) {
    if (!c.lagging) return;
    Store expected(c);
    const auto count = static_cast<int64_t>(expected.rows.size());
    const StoreOnDevice there(expected);
    std::vector<float> read(static_cast<size_t>(count * c.columns)), kept(read.size());
    const std::vector<float> u = random_floats(count * c.columns, 9), x = random_floats(count * c.columns, 10);
    std::vector<double> products;
    int64_t i = 0;
    expected.each([&](const RowTile& tile, int64_t row, RowScratch& scratch) {
      float* to = read.data() + i * c.columns;
      read_row(tile, row, c.columns, scratch, to);
      kernels::row_write_gradient({u.data() + i * c.columns, 0.1F, c.columns}, to, kept.data() + i * c.columns);
      double dot = 0;
      for (int64_t d = 0; d < c.columns; ++d) dot += double{to[d]} * double{x[static_cast<size_t>(i * c.columns + d)]};
      products.push_back(dot);
      ++i;
    });
    const OnDevice<float> operand(count * c.columns), gradient(u), dw(count * c.columns), samples(x);
    const OnDevice<float> inverse(std::vector<float>(static_cast<size_t>(count), 0.1F));
    gpu::prepare_rows(there.rows(), {operand.get(), gpu::HeadType::f32, count, nullptr}, stream());
    CHECK(largest_error(operand.read(), read) < kTolerance);
    gpu::keep_gradients(there.rows(), {gradient.get(), inverse.get()}, false, dw.get(), stream());
    CHECK(largest_error(dw.read(), kept) < kTolerance);
    std::vector<int64_t> positions;
    for (int64_t p = 0; p < count; ++p) positions.push_back(p);
    const OnDevice<int64_t> position(positions);
    const OnDevice<double> cosine(count);
    gpu::target_cosines(there.rows(), {samples.get(), position.get(), count, cosine.get(), false}, stream());
    CHECK(largest_error(cosine.read(), products) < kTolerance);

    gpu::catch_up_rows(there.rows(), 0, {}, stream());
    expected.each(
        [&](const RowTile& tile, int64_t row, RowScratch& scratch) { catch_up_row(tile, row, c.columns, scratch); });
    there.check(expected);
  });
}

}  // namespace
}  // namespace plsc::test
