// The head's kernels on rows against their twins in kernels/cpu, or against the formulas of kernels/math one by one.
//
// Tolerances. A sum over a row of n elements of about 1 is off by n ulp at most, in practice by its root: 1e-6 of the
// largest for the few hundred columns here. A step's weights and momentum are sums of three such terms.
#include "kernels/cuda/head_rows.h"

#include <cmath>

#include "head_device.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/math/normalize.h"
#include "kernels/math/stochastic_rounding.h"

namespace plsc::test {
namespace {

namespace gpu = kernels::cuda;

constexpr double kTolerance = 2e-6;

struct Sizes {
  int64_t rows, columns;
};
/// None, one, odd and aligned ones, more rows than a block has warps, more than one turn of the columns, and more rows
/// than a whole grid takes at a time.
const std::vector<Sizes> kSizes = {{0, 8}, {1, 1}, {3, 4}, {9, 37}, {20, 129}, {5, 512}, {66000, 1}};

math::StepState scaled_state(double scale) {
  math::StepState state;
  state.loss_scale.scale = scale;
  return state;
}

TEST_CASE("rows are normalised as on the CPU, and so is the gradient behind them, times the loss scale") {
  for (const auto& [rows, columns] : kSizes) {
    INFO(rows << " rows of " << columns);
    std::vector<float> x = random_floats(rows * columns, 1);
    const std::vector<float> dy = random_floats(rows * columns, 2);
    if (rows > 1) std::fill_n(x.begin() + columns, columns, 0.0F);  // below the floor
    std::vector<float> y(x.size()), norm(static_cast<size_t>(rows)), dx(x.size());
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * columns;
      norm[static_cast<size_t>(i)] = kernels::row_normalize(x.data() + at, columns, y.data() + at);
      kernels::row_normalize_backward(y.data() + at, norm[static_cast<size_t>(i)], dy.data() + at, columns,
                                      dx.data() + at);
    }
    for (float& g : dx) g *= 1024;

    const OnDevice<float> there(x), gradient(dy), unit(rows * columns), norms(rows), back(rows * columns);
    gpu::row_normalize({there.get(), unit.get(), norms.get(), rows, columns}, stream());
    CHECK(largest_error(unit.read(), y) < kTolerance);
    CHECK(largest_error(norms.read(), norm) < kTolerance);
    // A row of one column is divided by itself: what is left of its gradient is rounding.
    if (columns == 1) continue;
    const OnDevice<math::StepState> state({scaled_state(1024)});
    gpu::row_normalize_backward({unit.get(), norms.get(), gradient.get(), back.get(), rows, columns, state.get()},
                                stream());
    CHECK(largest_error(back.read(), dx) < kTolerance);
  }
}

TEST_CASE("a row's first values are the CPU's") {
  for (const auto& [rows, columns] : kSizes) {
    INFO(rows << " rows of " << columns);
    const int64_t first = 7, n = rows * columns;
    std::vector<float> expected(static_cast<size_t>(n));
    for (int64_t i = 0; i < rows; ++i) kernels::row_init(5, first + i, 0.25F, columns, expected.data() + i * columns);
    const OnDevice<float> wide(n);
    const OnDevice<uint16_t> narrow(n);
    gpu::init_rows({wide.get(), gpu::HeadType::f32, rows, columns, 5, first, 0.25F}, stream());
    gpu::init_rows({narrow.get(), gpu::HeadType::bf16, rows, columns, 5, first, 0.25F}, stream());
    // The same text in double; a device's logarithm may be off by its last bit, which seldom shows in fp32.
    CHECK(largest_error(wide.read(), expected) < 1e-7);
    const std::vector<uint16_t> bits = narrow.read();
    size_t other = 0;
    for (size_t i = 0; i < bits.size(); ++i) other += bits[i] != math::float_to_bf16(expected[i]);
    CHECK(other <= bits.size() / 10000);
  }
}

TEST_CASE("the last columns of first values are 0 where they are asked to be; the others stay as they were drawn") {
  constexpr int64_t kRows = 9, kColumns = 37, kZeros = 5;
  const OnDevice<float> all(kRows * kColumns), some(kRows * kColumns);
  gpu::RowInit init{all.get(), gpu::HeadType::f32, kRows, kColumns, 5, 7, 0.25F};
  gpu::init_rows(init, stream());
  init.rows = some.get();
  init.zero_columns = kZeros;
  gpu::init_rows(init, stream());
  std::vector<float> expected = all.read();
  for (int64_t i = 0; i < kRows; ++i) std::fill_n(expected.begin() + (i + 1) * kColumns - kZeros, kZeros, 0.0F);
  CHECK(some.read() == expected);
}

TEST_CASE("a one is appended to rows, and their gradient comes back without it, times the loss scale") {
  for (const auto& [rows, columns] : kSizes) {
    INFO(rows << " rows of " << columns);
    const int64_t wide = columns + 3;
    const std::vector<float> x = random_floats(rows * columns, 11), dy = random_floats(rows * wide, 12);
    std::vector<float> y, dx;
    for (int64_t i = 0; i < rows; ++i) {
      y.insert(y.end(), x.begin() + i * columns, x.begin() + (i + 1) * columns);
      y.insert(y.end(), {1, 0, 0});
      for (int64_t d = 0; d < columns; ++d) dx.push_back(1024 * dy[static_cast<size_t>(i * wide + d)]);
    }
    const OnDevice<float> there(x), longer(rows * wide), gradient(dy), back(rows * columns);
    gpu::append_one({there.get(), longer.get(), rows, columns, wide}, stream());
    CHECK(longer.read() == y);
    const OnDevice<math::StepState> state({scaled_state(1024)});
    gpu::append_one_backward({gradient.get(), back.get(), rows, columns, wide, state.get()}, stream());
    CHECK(back.read() == dx);
  }
}

/// A store of 11 rows, of which some were left out of steps, in fp32 or in bf16, and which of them take part.
struct Store {
  static constexpr int64_t kStored = 11, kFirst = 3, kNext = 6;
  explicit Store(int64_t columns_, bool bf16_, bool indexed_, bool lagging_, int64_t count_ = 7,
                 bool bf16_momentum_ = false)
      : columns(columns_),
        count(count_),
        bf16(bf16_),
        bf16_momentum(bf16_momentum_),
        indexed(indexed_),
        lagging(lagging_),
        w(random_floats(kStored * columns, 3)) {
    v = random_floats(kStored * columns, 4);
    for (float& value : w) {
      bits.push_back(math::float_to_bf16(value));
      if (bf16) value = math::bf16_to_float(bits.back());
    }
    for (float& value : v) {
      momentum_bits.push_back(math::float_to_bf16(value));
      if (bf16_momentum) value = math::bf16_to_float(momentum_bits.back());
    }
    for (int64_t i = 0; i < count; ++i) rows.push_back(indexed_ ? i + i / 2 : i);
    for (int64_t i = 0; i < kStored; ++i) last.push_back(lagging_ ? kFirst + i % 4 : kNext);
    for (int i = 0; i < 3; ++i) steps.push_back({-1e-3F * static_cast<float>(i + 1), -0.2F, 0.01F, 0.5F});
  }
  int64_t columns, count;
  bool bf16, bf16_momentum, indexed = false, lagging = false;
  std::vector<float> w, v;
  std::vector<uint16_t> bits, momentum_bits;
  std::vector<int64_t> rows, last;  // stored rows of the active ones; updates that each stored row took
  std::vector<math::CatchUpMatrix<float>> steps;

  /// Element d of stored row j, caught up.
  std::pair<float, float> element(int64_t j, int64_t d) const {
    auto at = static_cast<size_t>(j * columns + d);
    float a = w[at], b = v[at];
    const int64_t taken = last[static_cast<size_t>(j)];
    if (taken < kNext) math::catch_up(steps[static_cast<size_t>(taken - kFirst)], a, b);
    return {a, b};
  }
  /// Stores what element d of stored row j was changed to, rounded by chance where it is bf16.
  void keep(int64_t j, int64_t d, float weight, float momentum) {
    const auto at = static_cast<size_t>(j * columns + d);
    const auto rounded = [&](float x, math::Draw what) {
      const math::RowRandom random = math::row_random(77, 12, 1000 + j, what);
      return math::bf16_to_float(math::float_to_bf16_stochastic(x, math::rounding_bits(random, d)));
    };
    w[at] = bf16 ? rounded(weight, math::Draw::rounding) : weight;
    v[at] = bf16_momentum ? rounded(momentum, math::Draw::momentum_rounding) : momentum;
  }
};

/// The same in device memory.
struct StoreOnDevice {
  explicit StoreOnDevice(const Store& s)
      : store(s),
        w(s.w),
        v(s.v),
        bits(s.bits),
        momentum_bits(s.momentum_bits),
        index(s.rows),
        last(s.last),
        steps(s.steps) {}
  gpu::HeadRows rows() const {
    gpu::HeadRows r;
    r.count = store.count;
    r.columns = store.columns;
    r.weight = store.bf16 ? static_cast<void*>(bits.get()) : w.get();
    r.type = store.bf16 ? gpu::HeadType::bf16 : gpu::HeadType::f32;
    r.momentum = store.bf16_momentum ? static_cast<void*>(momentum_bits.get()) : v.get();
    r.momentum_type = store.bf16_momentum ? gpu::HeadType::bf16 : gpu::HeadType::f32;
    r.index = store.indexed ? index.get() : nullptr;
    r.last_update = store.lagging ? last.get() : nullptr;
    r.steps = steps.get();
    r.first = Store::kFirst;
    r.next = Store::kNext;
    r.seed = 77;
    r.update = 12;
    r.first_class = 1000;
    return r;
  }
  std::vector<float> weights() const { return store.bf16 ? floats(bits) : w.read(); }
  std::vector<float> momentum() const { return store.bf16_momentum ? floats(momentum_bits) : v.read(); }
  static std::vector<float> floats(const OnDevice<uint16_t>& bits) {
    std::vector<float> out;
    for (uint16_t b : bits.read()) out.push_back(math::bf16_to_float(b));
    return out;
  }
  const Store& store;
  OnDevice<float> w, v;
  OnDevice<uint16_t> bits, momentum_bits;
  OnDevice<int64_t> index, last;
  OnDevice<math::CatchUpMatrix<float>> steps;
};

/// f(store) over widths, types of weights, and rows as they lie or at an index, lagging or not.
template <class F>
void each_store(F&& f) {
  for (const int64_t columns : {1, 5, 16, 132}) {
    for (const bool bf16 : {false, true}) {
      for (const bool indexed : {false, true}) {
        for (const bool lagging : {false, true}) {
          INFO(columns << " columns, bf16 " << bf16 << ", indexed " << indexed << ", lagging " << lagging);
          f(Store(columns, bf16, indexed, lagging, 7, bf16 && indexed));
        }
      }
    }
  }
}

TEST_CASE("a tile is gathered, caught up, rounded and measured") {
  each_store([](const Store& s) {
    const int64_t padded = 9, n = padded * s.columns;
    std::vector<float> expected(static_cast<size_t>(n)), inverse(static_cast<size_t>(s.count));
    for (int64_t i = 0; i < s.count; ++i) {
      float* to = expected.data() + i * s.columns;
      for (int64_t d = 0; d < s.columns; ++d) to[d] = s.element(s.rows[static_cast<size_t>(i)], d).first;
      kernels::row_inverse_norms(to, 1, s.columns, &inverse[static_cast<size_t>(i)]);
    }
    const StoreOnDevice there(s);
    const OnDevice<float> wide(n), norms(s.count), norms_alone(s.count);
    const OnDevice<uint16_t> narrow(n);
    gpu::prepare_rows(there.rows(), {wide.get(), gpu::HeadType::f32, padded, norms.get()}, stream());
    gpu::prepare_rows(there.rows(), {narrow.get(), gpu::HeadType::bf16, padded, nullptr}, stream());
    gpu::prepare_rows(there.rows(), {nullptr, gpu::HeadType::f32, s.count, norms_alone.get()}, stream());
    CHECK(largest_error(wide.read(), expected) < 1e-7);
    CHECK(largest_error(norms.read(), inverse) < kTolerance);
    CHECK(norms_alone.read() == norms.read());
    gpu::prepare_rows(there.rows(), {nullptr, gpu::HeadType::f32, s.count, norms_alone.get(), false}, stream());
    CHECK(norms_alone.read() == std::vector<float>(inverse.size(), 1.0F));  // rows that count as they are
    const std::vector<float> gathered = wide.read();
    const std::vector<uint16_t> bits = narrow.read();
    for (size_t i = 0; i < bits.size(); ++i) CHECK(bits[i] == math::float_to_bf16(gathered[i]));
  });
}

TEST_CASE("targets' cosines are of caught-up rows, in double, and 0 for targets elsewhere") {
  each_store([](const Store& s) {
    const std::vector<int64_t> position = {0, -1, s.count - 1, 2, 2};
    const auto samples = static_cast<int64_t>(position.size());
    const std::vector<float> x = random_floats(samples * s.columns, 8);
    std::vector<double> expected, products;
    for (size_t i = 0; i < position.size(); ++i) {
      double dot = 0, squares = 0;
      for (int64_t d = 0; position[i] >= 0 && d < s.columns; ++d) {
        const double w = s.element(s.rows[static_cast<size_t>(position[i])], d).first;
        dot += w * double{x[i * static_cast<size_t>(s.columns) + static_cast<size_t>(d)]};
        squares += w * w;
      }
      expected.push_back(position[i] >= 0 ? dot / std::sqrt(squares) : 0);
      products.push_back(dot);
    }
    const StoreOnDevice there(s);
    const OnDevice<float> embeddings(x);
    const OnDevice<int64_t> positions(position);
    const OnDevice<double> cosine(samples);
    gpu::target_cosines(there.rows(), {embeddings.get(), positions.get(), samples, cosine.get()}, stream());
    CHECK(largest_error(cosine.read(), expected) < 2e-7);  // the inverse norm is fp32
    gpu::target_cosines(there.rows(), {embeddings.get(), positions.get(), samples, cosine.get(), false}, stream());
    CHECK(largest_error(cosine.read(), products) < 1e-12);
  });
}

/// What an update leaves: by the formulas, element by element. `along` null: the gradient is that of the row already.
void update_store(Store& s, const math::SgdRule& rule, const std::vector<float>& u, const std::vector<float>* inverse) {
  for (int64_t i = 0; i < s.count; ++i) {
    const int64_t j = s.rows[static_cast<size_t>(i)];
    const float* g = u.data() + i * s.columns;
    double dot = 0;
    for (int64_t d = 0; d < s.columns; ++d) dot += double{g[d]} * double{s.element(j, d).first};
    const float along = inverse ? math::along_row(static_cast<float>(dot), (*inverse)[static_cast<size_t>(i)]) : 0;
    for (int64_t d = 0; d < s.columns; ++d) {
      auto [w, v] = s.element(j, d);
      math::sgd_update(rule, math::row_gradient(g[d], along, w), w, v);
      s.keep(j, d, w, v);
    }
  }
}

TEST_CASE("a fused update catches up, projects, steps, and rounds bf16 weights by chance") {
  each_store([](const Store& s) {
    const std::vector<float> u = random_floats(s.count * s.columns, 9);
    std::vector<float> inverse;
    for (int64_t i = 0; i < s.count; ++i) inverse.push_back(0.3F + 0.1F * static_cast<float>(i));
    for (const bool projected : {false, true}) {
      for (const math::SgdRule& rule : {math::SgdRule{0.1F, 0.9F, 5e-4F}, math::SgdRule{0.2F, 0.8F, 0, 1, true}}) {
        Store expected = s;
        update_store(expected, rule, u, projected ? &inverse : nullptr);
        const StoreOnDevice there(s);
        const OnDevice<float> gradient(u), norms(inverse);
        const OnDevice<math::StepState> state({math::StepState{}});
        gpu::update_rows(there.rows(), {gradient.get(), projected ? norms.get() : nullptr}, math::update_rule(rule),
                         state.get(), stream());
        CHECK(largest_error(there.momentum(), expected.v) < (s.bf16_momentum ? 1.0 / 128 : kTolerance));
        // A sum that is off by its last bit may fall on the other side of a random bound: a step of bf16.
        const std::vector<float> seen = there.weights();
        CHECK(largest_error(seen, expected.w) < (s.bf16 ? 1.0 / 128 : kTolerance));
        int64_t other = 0;
        for (size_t i = 0; i < seen.size(); ++i) other += seen[i] != expected.w[i] ? 1 : 0;
        if (s.bf16) CHECK(other <= 1);
        std::vector<int64_t> last = s.last;
        for (int64_t j : s.rows) {
          if (s.lagging) last[static_cast<size_t>(j)] = Store::kNext + 1;
        }
        CHECK(there.last.read() == last);
      }
    }
  });
}

TEST_CASE("an update does nothing where the step's state blocks it") {
  const Store s(20, false, true, true);
  const std::vector<float> u = random_floats(s.count * s.columns, 9);
  for (const bool overflow : {false, true}) {
    math::StepState blocked;
    (overflow ? blocked.overflow : blocked.failed) = 1;
    const StoreOnDevice there(s);
    const OnDevice<float> gradient(u);
    const OnDevice<math::StepState> state({blocked});
    gpu::update_rows(there.rows(), {gradient.get(), nullptr}, math::update_rule({0.1F, 0.9F, 0.1F}), state.get(),
                     stream());
    CHECK(there.weights() == s.w);
    CHECK(there.momentum() == s.v);
    CHECK(there.last.read() == s.last);
  }
}

TEST_CASE("a gradient is kept, and added to, of caught-up rows; the rows stay") {
  each_store([](const Store& s) {
    const std::vector<float> u = random_floats(s.count * s.columns, 9);
    const std::vector<float> before = random_floats(s.count * s.columns, 10);
    const std::vector<float> inverse(static_cast<size_t>(s.count), 0.7F);
    std::vector<float> written(u.size()), added = before;
    for (int64_t i = 0; i < s.count; ++i) {
      std::vector<float> w;
      for (int64_t d = 0; d < s.columns; ++d) w.push_back(s.element(s.rows[static_cast<size_t>(i)], d).first);
      const kernels::RowGradient g{u.data() + i * s.columns, 0.7F, s.columns};
      kernels::row_write_gradient(g, w.data(), written.data() + i * s.columns);
      kernels::row_add_gradient(g, w.data(), added.data() + i * s.columns);
    }
    const StoreOnDevice there(s);
    const OnDevice<float> gradient(u), norms(inverse), dw(s.count * s.columns), sum(before);
    gpu::keep_gradients(there.rows(), {gradient.get(), norms.get()}, false, dw.get(), stream());
    gpu::keep_gradients(there.rows(), {gradient.get(), norms.get()}, true, sum.get(), stream());
    CHECK(largest_error(dw.read(), written) < kTolerance);
    CHECK(largest_error(sum.read(), added) < kTolerance);
    CHECK(there.weights() == s.w);
    CHECK(there.momentum() == s.v);
  });
}

TEST_CASE("rows are caught up where they lie") {
  each_store([](const Store& s) {
    Store expected = s;
    for (int64_t j : s.rows) {
      for (int64_t d = 0; s.last[static_cast<size_t>(j)] < Store::kNext && d < s.columns; ++d) {
        const auto [w, v] = s.element(j, d);
        expected.keep(j, d, w, v);
      }
      if (s.lagging) expected.last[static_cast<size_t>(j)] = Store::kNext;
    }
    const StoreOnDevice there(s);
    gpu::catch_up_rows(there.rows(), 0, {}, stream());
    CHECK(largest_error(there.momentum(), expected.v) < (s.bf16_momentum ? 1.0 / 128 : 1e-7));
    CHECK(largest_error(there.weights(), expected.w) < (s.bf16 ? 1.0 / 128 : 1e-7));
    CHECK(there.last.read() == expected.last);
  });
}

TEST_CASE("rows that missed few steps stay as they are") {
  each_store([](const Store& s) {
    if (!s.lagging) return;
    const StoreOnDevice there(s);
    gpu::catch_up_rows(there.rows(), 2, {}, stream());
    const std::vector<int64_t> last = there.last.read();
    for (int64_t j : s.rows) {
      const auto row = static_cast<size_t>(j);
      CHECK(last[row] == (Store::kNext - s.last[row] > 2 ? Store::kNext : s.last[row]));
      if (last[row] != Store::kNext || s.last[row] == Store::kNext) {
        CHECK(there.weights()[row * static_cast<size_t>(s.columns)] == s.w[row * static_cast<size_t>(s.columns)]);
      }
    }
  });
}

TEST_CASE("no rows: nothing is written") {
  Store s(8, false, true, true, 0);
  const StoreOnDevice there(s);
  const OnDevice<float> empty(0);
  const OnDevice<math::StepState> state({math::StepState{}});
  gpu::update_rows(there.rows(), {empty.get(), empty.get()}, math::update_rule({0.1F}), state.get(), stream());
  gpu::catch_up_rows(there.rows(), 0, {}, stream());
  gpu::prepare_rows(there.rows(), {empty.get(), gpu::HeadType::f32, 0, empty.get()}, stream());
  CHECK(there.weights() == s.w);
}

}  // namespace
}  // namespace plsc::test
