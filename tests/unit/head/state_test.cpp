// What a checkpoint keeps of the head: reading it changes nothing, and a head filled from it goes on as the old one
// would have, on any number of ranks, also where the sampling changes.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>

#include <fmt/ranges.h>

#include "head/catch_up_table.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/head_cases.h"
#include "support/head_step.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

constexpr int64_t kClasses = 37, kColumns = 8, kBatch = 6;

HeadConfig sampled_head() {
  HeadConfig config;
  config.scale = 16;
  config.sampling = {"uniform", 0.15};
  return config;
}

void train(Context& context, MarginHead& head, int64_t first, int64_t steps,
           const math::UpdateRule& rule = {.lr = 0.1F, .weight_decay = 0.01F, .momentum = 0.9F}) {
  const int64_t ranks = context.ranks(), each = kBatch / ranks, begin = each * context.rank();
  for (int64_t t = first; t < first + steps; ++t) {
    const auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(t));
    const auto labels = random_labels(kBatch, kClasses, static_cast<uint64_t>(t));
    const std::vector<double> mine(e.begin() + begin * kColumns, e.begin() + (begin + each) * kColumns);
    const std::vector<int64_t> my_labels(labels.begin() + begin, labels.begin() + begin + each);
    begin_head_by(context, head, {my_labels}, {.step = t, .global_batch = kBatch}, rule);
    head.run(context, to_tensor(mine, {each, kColumns}));
    head.end_step(context);
    context.backend.optim->finish_step();
  }
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
    const size_t width = row_bytes(rows.rows);
    auto& whole = saved.tensors[rows.name];
    whole.resize(kClasses * width);
    std::memcpy(whole.data() + static_cast<size_t>(head.shard().begin) * width, rows.rows.raw(), rows.rows.bytes());
  }
  saved.table = head.state_table();
}
void restore(MarginHead& head, const Saved& saved, RestoreFor purpose = RestoreFor::training) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : saved.tensors) names.push_back(name);
  for (const HeadRows& rows : head.state_to_fill(names, purpose)) {
    const auto& whole = saved.tensors.at(rows.name);
    std::memcpy(rows.rows.raw(), whole.data() + static_cast<size_t>(head.shard().begin) * row_bytes(rows.rows),
                rows.rows.bytes());
  }
  head.restore_table(saved.table, {});
}

Saved saved_run(int ranks, const HeadConfig& config, int64_t steps, const Saved* from = nullptr, int64_t first = 0) {
  Saved out;
  std::mutex mutex;
  run_ranks(ranks, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    auto head = make_margin_head(cpu.context, config, kClasses, kColumns);
    from != nullptr ? restore(*head, *from) : head->init();
    train(cpu.context, *head, first, steps);
    const std::lock_guard lock(mutex);
    save(*head, out);
  });
  return out;
}

std::vector<double> floats(const Saved& saved, const std::string& name) {
  const auto& bytes = saved.tensors.at(name);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return {values.begin(), values.end()};
}

TEST_CASE("a head filled from a checkpoint goes on bit for bit, and saving changes nothing") {
  for (const auto& [kind, lagging] :
       {std::pair("margin", true), {"margin", false}, {"d_softmax", true}, {"linear", true}, {"linear", false}}) {
    INFO(kind << ", lagging " << lagging);
    HeadConfig config = sampled_head();
    config.kind = kind;
    if (!lagging) config.sampling.method = "full";
    const Saved straight = saved_run(1, config, 20);
    const Saved half = saved_run(1, config, 9);
    CHECK(half.tensors.contains("last_update") == lagging);
    const Saved resumed = saved_run(1, config, 11, &half, 9);
    CHECK(resumed.tensors == straight.tensors);
    CHECK(resumed.table == straight.table);

    CpuContext cpu;
    auto head = drawn_head(cpu.context, config, kClasses, kColumns);
    train(cpu.context, *head, 0, 9);
    Saved first, second;
    save(*head, first);
    save(*head, second);
    CHECK(first.tensors == second.tensors);
    train(cpu.context, *head, 9, 11);
    save(*head, second);
    CHECK(second.tensors == straight.tensors);
  }
}

TEST_CASE("a checkpoint of any number of ranks is taken up by any other") {
  const HeadConfig config = sampled_head();
  const Saved straight = saved_run(1, config, 20);
  for (const int before : {1, 2, 3}) {
    const Saved half = saved_run(before, config, 9);
    for (const int after : {1, 2, 3}) {
      const Saved resumed = saved_run(after, config, 11, &half, 9);
      CHECK(resumed.tensors.at("last_update") == straight.tensors.at("last_update"));
      // Other sums in fp32; see ranks_test.cpp.
      CHECK(relative_error(floats(resumed, "centers"), floats(straight, "centers")) < 5e-6);
      CHECK(relative_error(floats(resumed, "momentum"), floats(straight, "momentum")) < 5e-5);
      CHECK(resumed.table == straight.table);
    }
  }
}

/// All rows' directions as `nearest` sees them: the cosine of every class with each axis.
std::vector<double> seen_rows(Context& context, MarginHead& head) {
  std::vector<double> axes(kColumns * kColumns, 0.0), out(kClasses * kColumns);
  for (size_t d = 0; d < kColumns; ++d) axes[d * kColumns + d] = 1;
  const auto nearest = head.nearest(context, to_tensor(axes, {kColumns, kColumns}), kClasses);
  for (int64_t i = 0; i < kColumns * kClasses; ++i) {
    out[static_cast<size_t>(nearest.classes.data<int64_t>()[i] * kColumns + i / kClasses)] =
        nearest.cosines.data<float>()[i];
  }
  return out;
}

TEST_CASE("rows that lag in the checkpoint are caught up for a head whose rows do not, and the other way round") {
  CpuContext cpu;
  auto head = drawn_head(cpu.context, sampled_head(), kClasses, kColumns);
  train(cpu.context, *head, 0, 15);
  Saved saved;
  save(*head, saved);
  HeadConfig full = sampled_head();
  full.sampling.method = "full";
  auto other = make_margin_head(cpu.context, full, kClasses, kColumns);
  restore(*other, saved);
  CHECK(relative_error(seen_rows(cpu.context, *other), seen_rows(cpu.context, *head)) < 1e-6);
  CHECK_FALSE(head_rows(*other, "last_update").defined());
  train(cpu.context, *other, 15, 3);

  Saved dense;
  save(*other, dense);
  auto again = make_margin_head(cpu.context, sampled_head(), kClasses, kColumns);
  restore(*again, dense);
  CHECK(seen_rows(cpu.context, *again) == seen_rows(cpu.context, *other));
  for (int64_t last : head_rows(*again, "last_update").values<int64_t>()) CHECK(last == 18);
  train(cpu.context, *again, 18, 3);
}

TEST_CASE("a checkpoint of another optimizer: its rows are caught up by it, and what it kept beside them is left") {
  using enum math::UpdateKind;
  for (const auto& [before, after] : {std::pair(adamw, sgd),
                                      {sgd, adamw},
                                      {adamw, lars},
                                      {lars, adamw},
                                      {sgd, lars},
                                      {lars, lamb},
                                      {adamw, lamb},
                                      {lamb, adamw}}) {
    INFO(math::name_of(before) << ", then " << math::name_of(after));
    CpuContext cpu;
    const auto config_of = [](math::UpdateKind kind) {
      HeadConfig config = sampled_head();
      if (kind == lamb) config.update = "lazy";
      return config;
    };
    auto head = make_margin_head(cpu.context, config_of(before), kClasses, kColumns, before);
    head->init();
    train(cpu.context, *head, 0, 15, row_rule(before));
    Saved saved;
    save(*head, saved);
    auto other = make_margin_head(cpu.context, config_of(after), kClasses, kColumns, after);
    restore(*other, saved);
    CHECK(relative_error(seen_rows(cpu.context, *other), seen_rows(cpu.context, *head)) < 1e-6);
    const bool moments = math::has_second_moment(before) && math::has_second_moment(after);
    Saved next;
    save(*other, next);
    const auto zero = [&](const std::string& name) {
      return std::ranges::count(floats(next, name), 0.0) == static_cast<int64_t>(floats(next, name).size());
    };
    CHECK(zero("momentum") == !moments);
    if (math::has_second_moment(after)) CHECK(zero("second_moment") == !moments);
    train(cpu.context, *other, 15, 3, row_rule(after));
    // For weights alone the other optimizer matters as little.
    auto weights = make_margin_head(cpu.context, config_of(after), kClasses, kColumns, after);
    restore(*weights, saved, RestoreFor::weights);
    weights->start_over();
    CHECK(relative_error(seen_rows(cpu.context, *weights), seen_rows(cpu.context, *head)) < 1e-6);
  }
}

TEST_CASE("AdamW's rows that lag, without their second moments, are an error") {
  CpuContext cpu;
  auto head = make_margin_head(cpu.context, sampled_head(), kClasses, kColumns, math::UpdateKind::adamw);
  head->init();
  train(cpu.context, *head, 0, 6, row_rule(math::UpdateKind::adamw));
  Saved saved;
  save(*head, saved);
  saved.tensors.erase("second_moment");
  auto other = make_margin_head(cpu.context, sampled_head(), kClasses, kColumns);
  CHECK(contains(error_text([&] { restore(*other, saved); }), "second_moment"));
}

TEST_CASE("starting over keeps the centres, caught up, and nothing else") {
  CpuContext cpu;
  auto head = drawn_head(cpu.context, sampled_head(), kClasses, kColumns);
  train(cpu.context, *head, 0, 15);
  const auto seen = seen_rows(cpu.context, *head);
  head->start_over();
  // Caught up in place now, in a copy before: two loops, which may round the last bit apart.
  CHECK(relative_error(seen_rows(cpu.context, *head), seen) < 1e-6);
  CHECK(contains(head->state_table(), "\"updates\":0"));
  for (double v : to_doubles(head_rows(*head, "momentum"))) CHECK(v == 0);
  for (int64_t last : head_rows(*head, "last_update").values<int64_t>()) CHECK(last == 0);
  train(cpu.context, *head, 0, 3);
}

TEST_CASE("reading centres for evaluation takes no memory for momentum, but while lagging rows are caught up") {
  constexpr int64_t kMany = 20011, kWide = 64;
  constexpr size_t kBytes = kMany * kWide * sizeof(float);
  for (const bool lagging : {false, true}) {
    CpuContext cpu;
    HeadConfig config = sampled_head();
    if (!lagging) config.sampling.method = "full";
    std::map<std::string, Tensor> stored;
    std::string table;
    std::vector<int64_t> expected;
    const auto query = to_tensor(random_values(3 * kWide, 5), {3, kWide});
    {
      auto head = drawn_head(cpu.context, config, kMany, kWide);
      for (int64_t t = 0; t < 2; ++t) {
        const auto labels = random_labels(4, kMany, static_cast<uint64_t>(t));
        begin_head(cpu.context, *head, {labels}, {.step = t, .global_batch = 4}, {.lr = 0.1F, .weight_decay = 0.1F});
        head->run(cpu.context, to_tensor(random_values(4 * kWide, static_cast<uint64_t>(t)), {4, kWide}));
        head->end_step(cpu.context);
      }
      for (const HeadRows& rows : head->state()) {
        stored[rows.name] = Tensor(host_allocator(), rows.rows.shape(), rows.rows.dtype());
        std::memcpy(stored[rows.name].raw(), rows.rows.raw(), rows.rows.bytes());
      }
      table = head->state_table();
      expected = head->nearest(cpu.context, query, 5).classes.values<int64_t>();
    }
    std::vector<std::string> names;
    for (const auto& [name, rows] : stored) names.push_back(name);
    const size_t before = cpu.context.device().memory().in_use;
    auto head = make_margin_head(cpu.context, config, kMany, kWide);
    for (const HeadRows& rows : head->state_to_fill(names, RestoreFor::weights)) {
      std::memcpy(rows.rows.raw(), stored[rows.name].raw(), rows.rows.bytes());
    }
    // The centres, an eighth for the size class, and eight bytes a row of last updates.
    const size_t limit = before + kBytes + kBytes / 4;
    CHECK((cpu.context.device().memory().in_use < limit) == !lagging);
    head->restore_table(table, {});
    head->start_over();
    CHECK(head->nearest(cpu.context, query, 5).classes.values<int64_t>() == expected);
    CHECK(cpu.context.device().memory().in_use < limit + kBytes / 2);  // the pass's scratch memory
  }
}

/// One class that is a positive of every step, and the others of none: rows move by decay and momentum alone.
void train_on_class(Context& context, MarginHead& head, int64_t positive, int64_t first, int64_t steps) {
  const Tensor e = to_tensor(random_values(kColumns, 1), {1, kColumns});
  for (int64_t t = first; t < first + steps; ++t) {
    begin_head(context, head, {{positive}}, {.step = t, .global_batch = 1}, {.lr = 0.1F, .weight_decay = 0.01F});
    head.run(context, e);
    head.end_step(context);
    for (const HeadRows& rows : head.state()) {
      if (rows.name != "last_update") continue;
      const auto last = rows.rows.values<int64_t>();
      REQUIRE(*std::ranges::min_element(last) >= t + 1 - CatchUpTable::kWindow);
    }
  }
}

TEST_CASE("rows of classes with other numbers do not lag beyond the table's window") {
  constexpr int64_t kFew = 150, kNew = 100, kFirst = 300, kMore = 270;
  HeadConfig config = sampled_head();
  config.sampling.ratio = 0;
  CpuContext cpu;
  auto old = drawn_head(cpu.context, config, kFew, kColumns);
  const auto start = head_rows(*old, "centers").values<float>();
  train_on_class(cpu.context, *old, kFew - 1, 0, kFirst);

  // The new classes come before the others.
  auto head = drawn_head(cpu.context, config, kFew + kNew, kColumns);
  const auto stored = old->state();
  for (const HeadRows& rows : head->state_to_fill({"centers", "momentum", "last_update"}, RestoreFor::training)) {
    const auto from = std::ranges::find(stored, rows.name, &HeadRows::name);
    Tensor part = rows.rows.rows(kNew, kFew);
    std::memcpy(part.raw(), from->rows.raw(), part.bytes());
  }
  RowChanges changes{.fresh = std::vector<int64_t>(kNew), .moved = true};
  std::iota(changes.fresh.begin(), changes.fresh.end(), 0);
  head->restore_table(old->state_table(), changes);
  train_on_class(cpu.context, *head, kFew + kNew - 1, kFirst, kMore);

  head->start_over();  // catches up
  const auto end = head_rows(*head, "centers").values<float>();
  double w = 1;  // what SGD with a gradient of zero leaves of a weight, without momentum
  for (int64_t t = 0; t < kFirst + kMore; ++t) w -= 0.1 * 0.01 * w;
  double worst = 0;
  for (size_t i = 0; i < static_cast<size_t>((kFew - 1) * kColumns); ++i)
    worst = std::max(worst, std::abs(end[i + kNew * kColumns] / (w * start[i]) - 1));
  CHECK(worst < 1e-4);
}

TEST_CASE("a checkpoint whose rows lag, without the updates they have taken, is an error") {
  CpuContext cpu;
  auto head = drawn_head(cpu.context, sampled_head(), kClasses, kColumns);
  train(cpu.context, *head, 0, 4);
  Saved saved;
  save(*head, saved);
  HeadConfig full = sampled_head();
  full.sampling.method = "full";
  auto other = make_margin_head(cpu.context, full, kClasses, kColumns);
  CHECK(contains(error_text([&] { other->restore_table(saved.table, {}); }), "last_update"));
  const int64_t wrong = 99;
  std::memcpy(saved.tensors["last_update"].data() + 80, &wrong, 8);
  auto third = make_margin_head(cpu.context, sampled_head(), kClasses, kColumns);
  CHECK(contains_all(error_text([&] { restore(*third, saved); }), {"class centre 10", "99"}));
}

TEST_CASE("the nearest classes: best first, ties by class, fewer classes than asked for") {
  run_ranks(3, [](ThreadRank& rank) {
    CpuContext cpu(rank);
    HeadConfig config;
    auto head = drawn_head(cpu.context, config, 8, 2);
    Tensor centers = head_rows(*head, "centers");
    for (int64_t j = 0; j < head->shard().size(); ++j) {
      // Classes 1, 4 and 7 are the same; the others point away, more the later they come.
      const int64_t c = head->shard().begin + j;
      const double angle = c % 3 == 1 ? 0 : 0.3 * static_cast<double>(c + 1);
      centers.data<float>()[2 * j] = static_cast<float>(3 * std::cos(angle));
      centers.data<float>()[2 * j + 1] = static_cast<float>(3 * std::sin(angle));
    }
    const int64_t queries = rank.rank == 1 ? 0 : 2;
    const std::vector<double> e{5, 0, 1, 0};
    const auto nearest = head->nearest(cpu.context, to_tensor({e.begin(), e.begin() + 2 * queries}, {queries, 2}), 10);
    PLSC_CHECK(nearest.classes.dim(0) == queries && nearest.classes.dim(1) == 10);
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t* ids = nearest.classes.data<int64_t>() + 10 * i;
      const std::vector<int64_t> expected{1, 4, 7, 0, 2, 3, 5, 6, -1, -1};
      PLSC_CHECK(std::equal(expected.begin(), expected.end(), ids), "{}", fmt::join(ids, ids + 10, " "));
      PLSC_CHECK(std::abs(nearest.cosines.data<float>()[10 * i] - 1) < 1e-6);
      PLSC_CHECK(std::abs(nearest.cosines.data<float>()[10 * i + 3] - std::cos(0.3)) < 1e-6);
    }
  });
}

}  // namespace
}  // namespace plsc::test
