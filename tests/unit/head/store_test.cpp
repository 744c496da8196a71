// Class centres in bf16: rounding by chance is right in its corners and in the mean, and what is drawn for it depends
// on the class and the update alone, not on ranks, sampling or where a run was cut.
#include "head/row_store.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "base/threads.h"
#include "kernels/math/stochastic_rounding.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/head_step.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

TEST_CASE("rounding by chance goes up for just the part of all draws that is cut off") {
  // All 65,536 draws: the count is exact. In and between binades, both signs, the smallest numbers.
  for (const uint32_t bits : {0x3F804000u, 0x3F800001u, 0x3FFFFFFFu, 0xBF80C000u, 0x00001234u, 0x807FFFFFu, 0x7F7EABCDu,
                              0x3F800000u, 0xC1230000u}) {
    int64_t up = 0, other = 0;
    for (uint32_t draw = 0; draw < 65536; ++draw) {
      const uint32_t rounded = math::float_to_bf16_stochastic(from_bits(bits), draw);
      up += rounded == (bits >> 16) + 1 ? 1 : 0;
      other += rounded != (bits >> 16) + 1 && rounded != bits >> 16 ? 1 : 0;
    }
    INFO(std::hex << bits);
    CHECK(up == static_cast<int64_t>(bits & 0xFFFFu));
    CHECK(other == 0);
  }
}

TEST_CASE("rounding by chance in its corners") {
  const auto round = [](uint32_t bits, uint32_t draw) { return math::float_to_bf16_stochastic(from_bits(bits), draw); };
  for (const uint32_t draw : {0u, 1u, 0x8000u, 0xFFFFu, 0xFFFFFFFFu}) {
    CHECK(round(0x00000000u, draw) == 0x0000);
    CHECK(round(0x80000000u, draw) == 0x8000);
    CHECK(round(0x7F7F0000u, draw) == 0x7F7F);  // the largest bf16
    CHECK(round(0x00010000u, draw) == 0x0001);  // the smallest
    CHECK(round(0x7F800000u, draw) == 0x7F80);
    CHECK(round(0xFF800000u, draw) == 0xFF80);
    // NaN, also where all that makes it one lies in the bits that are cut off.
    for (const uint32_t nan : {0x7FC00000u, 0x7F800001u, 0xFF80FFFFu, 0x7FFFFFFFu})
      CHECK(std::isnan(math::bf16_to_float(round(nan, draw))));
  }
  CHECK(round(0x7F7FFFFFu, 0) == 0x7F7F);       // the largest fp32: down,
  CHECK(round(0x7F7FFFFFu, 0xFFFF) == 0x7F80);  // or to infinity, as rounding to nearest does
  CHECK(round(0x3FFFFFFFu, 1) == 0x4000);       // just below 2, the carry goes into the exponent
  CHECK(round(0x007FFFFFu, 1) == 0x0080);       // from the largest number without one to the smallest with one
  CHECK(round(0x00000001u, 0xFFFE) == 0x0000);
  CHECK(round(0x00000001u, 0xFFFF) == 0x0001);
  CHECK(round(0x3F808000u, 0x17FFF) == 0x3F80);  // sixteen bits of a draw count
}

/// Means of products with what stands `apart` places further on in one direction, in units of their deviation.
struct Neighbours {
  std::string what;
  int64_t updates = 0, classes = 0, columns = 0;
};

TEST_CASE("the random bits of columns, rows and updates are uniform and know nothing of each other") {
  constexpr int64_t kUpdates = 12, kClasses = 100, kColumns = 76;  // the last 32 columns are not all there
  const auto u = [](int64_t update, int64_t c, int64_t column) {
    return (math::rounding_bits(math::row_random(7, update, c), column) + 0.5) / 65536 - 0.5;
  };
  double sum = 0, squares = 0;
  std::vector<int64_t> ones(16), bytes(256);
  // Columns of one word, of neighbouring words; the same column of the next row, and of the next update.
  std::vector<Neighbours> with{{"the next column", 0, 0, 1},
                               {"the other half of a word", 0, 0, 16},
                               {"the next 32", 0, 0, 32},
                               {"the next row", 0, 1, 0},
                               {"the next update", 1, 0, 0}};
  std::vector<double> products(with.size()), pairs(with.size());
  for (int64_t update = 0; update < kUpdates; ++update) {
    for (int64_t c = 0; c < kClasses; ++c) {
      for (int64_t column = 0; column < kColumns; ++column) {
        const double here = u(update, c, column);
        sum += here;
        squares += here * here;
        const uint32_t bits = math::rounding_bits(math::row_random(7, update, c), column);
        for (size_t k = 0; k < ones.size(); ++k) ones[k] += bits >> k & 1u;
        ++bytes[bits >> 8];
        for (size_t k = 0; k < with.size(); ++k) {
          const Neighbours& n = with[k];
          if (update + n.updates >= kUpdates || c + n.classes >= kClasses || column + n.columns >= kColumns) continue;
          products[k] += here * u(update + n.updates, c + n.classes, column + n.columns);
          ++pairs[k];
        }
      }
    }
  }
  const double n = kUpdates * kClasses * kColumns;  // 91,200
  // Deviations of the means, times four: u has 1/12 of variance, u^2 has 1/180, a product of two 1/144.
  CHECK(std::abs(sum / n) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 12) < 4 * std::sqrt(1.0 / 180 / n));
  for (size_t k = 0; k < with.size(); ++k) {
    INFO(with[k].what);
    CHECK(std::abs(products[k] / pairs[k]) < 4 * std::sqrt(1.0 / 144 / pairs[k]));
  }
  for (const int64_t count : ones) CHECK(std::abs(static_cast<double>(count) - n / 2) < 4 * std::sqrt(n / 4));
  // Chi squared of the upper bytes: 255 degrees of freedom, whose deviation is sqrt(510).
  double chi = 0;
  for (const int64_t count : bytes) chi += std::pow(static_cast<double>(count) - n / 256, 2) / (n / 256);
  CHECK(chi < 255 + 4 * std::sqrt(510.0));
  CHECK(chi > 255 - 4 * std::sqrt(510.0));
}

TEST_CASE("a row's random bits come again in no other row, update, seed or kind") {
  std::set<std::vector<uint32_t>> seen;
  int64_t rows = 0;
  const auto add = [&](const math::RowRandom& row) {
    std::vector<uint32_t> words;
    for (uint32_t place = 0; place < 16; ++place) words.push_back(math::rounding_word(row, place));
    seen.insert(words);
    ++rows;
  };
  for (const uint64_t seed : {1, 2}) {
    for (const math::Draw what : {math::Draw::rounding, math::Draw::momentum_rounding}) {
      for (int64_t update = 0; update < 10; ++update) {
        for (int64_t c = 0; c < 100; ++c) add(math::row_random(seed, update, c, what));
      }
    }
  }
  CHECK(static_cast<int64_t>(seen.size()) == rows);
  // Rows whose counters overlap differ by their keys: the words of one are not those of the other further on.
  const math::RowRandom row{5, 17}, shifted{5 + 0x9E3779B9u, 18};
  int64_t same = 0;
  for (uint32_t place = 0; place < 256; ++place)
    same += math::rounding_word(row, place + 1) == math::rounding_word(shifted, place) ? 1 : 0;
  CHECK(same == 0);
}

/// The mean over all elements after `updates` steps of the same gradient, in units of the last place of 1.5, which is
/// where they begin.
double mean_moved(int64_t updates, float per_update, const SamplingConfig& sampling) {
  constexpr int64_t kRows = 64, kColumns = 96;
  CpuContext cpu;
  RowStore store(cpu.context,
                 {.rows = kRows, .columns = kColumns, .type = Dtype::bf16, .lagging = sampling.method == "uniform"});
  store.init(cpu.context, 0);
  Tensor centers = store.state(cpu.context)[0].second;
  for (bf16_t& w : centers.span<bf16_t>()) w.bits = math::float_to_bf16(1.5F);
  const math::UpdateRule rule{.lr = per_update};
  for (int64_t t = 0; t < updates; ++t) {
    // Sampled: the even rows, then the odd ones, and so on; the others are not read.
    Tensor index;
    int64_t rows = kRows;
    if (sampling.method == "uniform") {
      std::vector<int64_t> some;
      for (int64_t row = t % 2; row < kRows; row += 2) some.push_back(row);
      rows = kRows / 2;
      index = Tensor::from(some, {rows});
    }
    RowStore::View view = store.view(cpu.context, RowAccess::update, index);
    const std::vector<double> ones(static_cast<size_t>(rows * kColumns), 1.0);
    cpu.context.backend.head->update_rows(view, to_tensor(ones, {rows, kColumns}), rule);
    store.finish_update(cpu.context, rule);
  }
  double sum = 0;
  for (const bf16_t& w : centers.span<bf16_t>()) sum += 1.5 - double{math::bf16_to_float(w.bits)};
  return sum / static_cast<double>(centers.elements()) * 128;
}

TEST_CASE("updates far below half a unit in the last place add up, and would be lost to rounding to nearest") {
  constexpr float kFiftieth = 1.0F / 128 / 50;
  // 1,000 times 1/50 is 20 units. A step moves an element by a whole unit with probability 1/50: variance .0196, 19.6
  // over the steps, and 6,144 elements' mean deviates by sqrt(19.6 / 6144) = .056. Four times that.
  CHECK(mean_moved(1000, kFiftieth, {"full"}) == Approx(20).margin(0.23));
  // Half of the updates each.
  CHECK(mean_moved(1000, kFiftieth, {"uniform"}) == Approx(10).margin(0.16));
  CHECK(math::bf16_to_float(math::float_to_bf16(1.5F - kFiftieth)) == 1.5F);
}

TEST_CASE("momentum in bf16: gradients far below half a unit in the last place add up, by draws of their own") {
  constexpr int64_t kRows = 64, kColumns = 96, kUpdates = 1000;
  CpuContext cpu;
  RowStore store(cpu.context, {.rows = kRows, .columns = kColumns, .momentum = Dtype::bf16});
  store.init(cpu.context, 0);
  Tensor momentum = store.state(cpu.context)[1].second;
  REQUIRE(momentum.dtype() == Dtype::bf16);
  for (bf16_t& v : momentum.span<bf16_t>()) v.bits = math::float_to_bf16(1.5F);
  constexpr double kFiftieth = 1.0 / 128 / 50;
  const math::UpdateRule rule{.momentum = 1};
  const Tensor gradient = to_tensor(std::vector<double>(kRows * kColumns, kFiftieth), {kRows, kColumns});
  for (int64_t t = 0; t < kUpdates; ++t) {
    RowStore::View view = store.view(cpu.context, RowAccess::update);
    cpu.context.backend.head->update_rows(view, gradient, rule);
    store.finish_update(cpu.context, rule);
  }
  double sum = 0;
  for (const bf16_t& v : momentum.span<bf16_t>()) sum += double{math::bf16_to_float(v.bits)} - 1.5;
  // 20 units, as above.
  CHECK(sum / static_cast<double>(momentum.elements()) * 128 == Approx(20).margin(0.23));
}

// The head as a whole, with sums that do not depend on the ranks, so that each bit can be compared.

constexpr int64_t kClasses = 41, kColumns = 12, kBatch = 6;

HeadConfig bf16_head(const char* method, const char* update) {
  HeadConfig config;
  config.scale = 16;
  config.sampling = {method, 0.3};
  config.update = update;
  config.store.dtype = "bf16";
  return config;
}

/// Whole tensors by name, over all ranks.
struct Saved {
  std::map<std::string, std::vector<std::byte>> tensors;
  std::string table;
};

size_t row_bytes(const Tensor& t) {
  return static_cast<size_t>(t.elements() / std::max<int64_t>(1, t.dim(0))) * dtype_size(t.dtype());
}

void save(MarginHead& head, Saved& saved) {
  for (const HeadRows& rows : head.state()) {
    auto& whole = saved.tensors[rows.name];
    whole.resize(kClasses * row_bytes(rows.rows));
    std::memcpy(whole.data() + static_cast<size_t>(head.shard().begin) * row_bytes(rows.rows), rows.rows.raw(),
                rows.rows.bytes());
  }
  saved.table = head.state_table();
}

void restore(MarginHead& head, const Saved& saved) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : saved.tensors) names.push_back(name);
  for (const HeadRows& rows : head.state_to_fill(names, RestoreFor::training)) {
    const auto& whole = saved.tensors.at(rows.name);
    std::memcpy(rows.rows.raw(), whole.data() + static_cast<size_t>(head.shard().begin) * row_bytes(rows.rows),
                rows.rows.bytes());
  }
  head.restore_table(saved.table, {});
}

void train(Context& context, MarginHead& head, int64_t first, int64_t steps,
           const math::UpdateRule& rule = {.lr = 0.02F, .weight_decay = 0.01F, .momentum = 0.9F}) {
  const int64_t begin = range_begin(kBatch, context.ranks(), context.rank()),
                end = range_begin(kBatch, context.ranks(), context.rank() + 1);
  for (int64_t t = first; t < first + steps; ++t) {
    const auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(t));
    const auto labels = random_labels(kBatch, kClasses, static_cast<uint64_t>(t));
    const std::vector<double> mine(e.begin() + begin * kColumns, e.begin() + end * kColumns);
    begin_head_by(context, head, {{labels.begin() + begin, labels.begin() + end}}, {.step = t, .global_batch = kBatch},
                  rule);
    head.run(context, to_tensor(mine, {end - begin, kColumns}));
    head.end_step(context);
    context.backend.optim->finish_step();
  }
}

struct Run {
  int ranks = 1;
  int64_t first = 0, steps = 0;
  bool kept = false;  // dW is kept to the step's end, as with loss scaling
  math::UpdateRule rule{.lr = 0.02F, .weight_decay = 0.01F, .momentum = 0.9F};
};

Saved run_head(const HeadConfig& config, const Run& run, const Saved* from = nullptr) {
  Saved out;
  std::mutex mutex;
  run_ranks(run.ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    cpu.context.sums_in_double = true;
    cpu.context.loss_scaling = run.kept;
    set_updates(cpu.context.backend, run.first);
    auto head = make_margin_head(cpu.context, config, kClasses, kColumns, run.rule.kind);
    from != nullptr ? restore(*head, *from) : head->init();
    train(cpu.context, *head, run.first, run.steps, run.rule);
    const std::lock_guard lock(mutex);
    save(*head, out);
  });
  return out;
}

bool operator==(const Saved& a, const Saved& b) { return a.tensors == b.tensors && a.table == b.table; }

/// Whether a linear head's rows have biases, and zeros behind them still.
bool only_biases_behind_weights(const Saved& saved) {
  constexpr size_t kWide = kColumns + 8;
  const auto& bytes = saved.tensors.at("centers");
  bool biases = false, others = false;
  for (size_t i = 0; i < kClasses * kWide; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    biases = biases || (i % kWide == kColumns && bits != 0);
    others = others || (i % kWide > kColumns && (bits & 0x7FFFU) != 0);
  }
  return biases && !others;
}

TEST_CASE("bf16 centres: the same bits on any number of ranks, and after a resume on any other") {
  struct Case {
    const char *kind, *method, *update, *momentum;
  };
  for (const auto& [kind, method, update, momentum] :
       {Case{"margin", "full", "dense", "fp32"}, Case{"margin", "uniform", "dense", "fp32"},
        Case{"margin", "uniform", "lazy", "fp32"}, Case{"linear", "uniform", "dense", "fp32"},
        Case{"d_softmax", "uniform", "dense", "fp32"}, Case{"margin", "full", "dense", "bf16"},
        Case{"margin", "uniform", "dense", "bf16"}}) {
    INFO(kind << ", " << method << ", " << update << ", momentum " << momentum);
    HeadConfig config = bf16_head(method, update);
    config.kind = kind;
    config.store.momentum = momentum;
    const Saved straight = run_head(config, {.steps = 20});
    CHECK(straight.tensors.at("centers").size() == static_cast<size_t>(kClasses * row_columns(config, kColumns)) * 2);
    if (config.kind == "linear") CHECK(only_biases_behind_weights(straight));
    for (const int ranks : {1, 2, 3}) {
      INFO(ranks << " ranks");
      CHECK(run_head(config, {.ranks = ranks, .steps = 20}) == straight);
      const Saved half = run_head(config, {.ranks = ranks, .steps = 9});
      CHECK_FALSE(half == straight);
      for (const int after : {1, 2, 3})
        CHECK(run_head(config, {.ranks = after, .first = 9, .steps = 11}, &half) == straight);
    }
  }
}

TEST_CASE("rows by LARS, AdamW and LAMB: the same bits on any number of ranks, and after a resume on any other") {
  struct Case {
    math::UpdateKind kind;
    const char *head, *method, *update, *dtype;
  };
  using enum math::UpdateKind;
  for (const auto& [kind, head, method, update, dtype] :
       {Case{lars, "margin", "uniform", "dense", "fp32"}, Case{lars, "linear", "uniform", "dense", "bf16"},
        Case{lars, "margin", "full", "dense", "bf16"}, Case{adamw, "margin", "uniform", "dense", "fp32"},
        Case{adamw, "linear", "uniform", "dense", "bf16"}, Case{adamw, "d_softmax", "uniform", "lazy", "bf16"},
        Case{adamw, "margin", "full", "dense", "bf16"}, Case{lamb, "margin", "uniform", "lazy", "bf16"},
        Case{lamb, "linear", "full", "dense", "fp32"}}) {
    INFO(math::name_of(kind) << ", " << head << ", " << method << ", " << update << ", " << dtype);
    HeadConfig config = bf16_head(method, update);
    config.kind = head;
    config.store.dtype = config.store.momentum = dtype;
    const math::UpdateRule rule = row_rule(kind);
    const Saved straight = run_head(config, {.steps = 20, .rule = rule});
    CHECK(straight.tensors.contains("second_moment") == math::has_second_moment(kind));
    if (math::has_second_moment(kind)) CHECK(straight.tensors.at("second_moment").size() == kClasses * 4);
    if (config.kind == "linear" && config.store.dtype == "bf16") CHECK(only_biases_behind_weights(straight));
    HeadConfig far = config;
    far.store.tier = "host";
    CHECK(run_head(far, {.steps = 20, .rule = rule}) == straight);
    for (const int ranks : {1, 2, 3}) {
      INFO(ranks << " ranks");
      CHECK(run_head(config, {.ranks = ranks, .steps = 20, .rule = rule}) == straight);
      const Saved half = run_head(config, {.ranks = ranks, .steps = 9, .rule = rule});
      CHECK_FALSE(half == straight);
      for (const int after : {1, 2, 3})
        CHECK(run_head(config, {.ranks = after, .first = 9, .steps = 11, .rule = rule}, &half) == straight);
    }
  }
}

TEST_CASE("rows in host memory give the device's bits, and a checkpoint of either is taken up by the other") {
  for (const char* method : {"full", "uniform"}) {
    for (const char* dtype : {"fp32", "bf16"}) {
      INFO(method << ", " << dtype);
      HeadConfig near = bf16_head(method, "dense");
      near.store.dtype = near.store.momentum = dtype;
      HeadConfig far = near;
      far.store.tier = "host";
      const Saved straight = run_head(near, {.steps = 12});
      CHECK(run_head(far, {.steps = 12}) == straight);
      const Saved half = run_head(near, {.steps = 5}), half_far = run_head(far, {.ranks = 2, .steps = 5});
      CHECK(half_far == half);
      CHECK(run_head(far, {.first = 5, .steps = 7}, &half) == straight);
      CHECK(run_head(near, {.ranks = 2, .first = 5, .steps = 7}, &half_far) == straight);
    }
  }
}

TEST_CASE("rows in host memory are taken from the host's tables, not from the device's memory") {
  constexpr int64_t kRows = 4096, kWide = 64;
  for (const bool on_host : {false, true}) {
    CpuContext cpu;
    RowStore store(cpu.context, {.rows = kRows, .columns = kWide, .on_host = on_host});
    store.init(cpu.context, 1);
    store.state(cpu.context);
    CHECK((cpu.context.device().memory().in_use < kRows * kWide * sizeof(float)) == on_host);
  }
}

TEST_CASE("bf16 centres: other draws in every update, whether it happens in the backward pass or at the step's end") {
  const HeadConfig config = bf16_head("full", "dense");
  const Saved fused = run_head(config, {.steps = 3}), kept = run_head(config, {.steps = 3, .kept = true});
  // Not bit for bit: the update of a kept gradient may round the last bit of fp32 otherwise.
  const auto centers = [](const Saved& saved) {
    std::vector<double> out(kClasses * kColumns);
    for (size_t i = 0; i < out.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, saved.tensors.at("centers").data() + 2 * i, 2);
      out[i] = double{math::bf16_to_float(bits)};
    }
    return out;
  };
  const auto a = centers(fused), b = centers(kept);
  int64_t differing = 0;
  for (size_t i = 0; i < a.size(); ++i) differing += a[i] != b[i] ? 1 : 0;
  CHECK(differing < kClasses * kColumns / 50);
  // A table one update on gives other draws.
  Saved shifted = fused;
  const auto at = shifted.table.find("\"updates\":3");
  REQUIRE(at != std::string::npos);
  shifted.table.replace(at, 11, "\"updates\":4");
  const auto next = centers(run_head(config, {.first = 3, .steps = 1}, &fused)),
             other = centers(run_head(config, {.first = 3, .steps = 1}, &shifted));
  differing = 0;
  for (size_t i = 0; i < next.size(); ++i) differing += next[i] != other[i] ? 1 : 0;
  CHECK(differing > kClasses * kColumns / 5);
}

TEST_CASE("bf16 centres that are not finite stay so, and stop the step") {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    CpuContext cpu;
    auto head = drawn_head(cpu.context, bf16_head("full", "dense"), kClasses, kColumns);
    Tensor centers = head_rows(*head, "centers");
    centers.data<bf16_t>()[5 * kColumns].bits = math::float_to_bf16(bad);
    std::vector<std::byte> before(centers.bytes());
    std::memcpy(before.data(), centers.raw(), before.size());
    train(cpu.context, *head, 0, 1);
    CHECK(state_of(cpu.context).failed == 1);
    CHECK(std::memcmp(before.data(), centers.raw(), before.size()) == 0);
  }
}

}  // namespace
}  // namespace plsc::test
