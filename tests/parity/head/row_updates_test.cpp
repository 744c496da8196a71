// Steps of the head by every optimizer against the textbook in double (tests/support/row_reference.h): all rows or
// sampled ones, caught up or at rest, updated in the backward pass or from a kept gradient, in each kind of head.
//
// Tolerances. A row's gradient is off by some 1e-5 of itself (head_step_test.cpp), and AdamW, LARS and LAMB make steps
// of a set length of it: a step is off by 1e-5 of lr or lr trust |w|, thirty of them at rates below .2 by less than
// 2e-5 of a weight.
#include "head/row_store.h"
#include "support/catch.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

using math::UpdateKind;

constexpr int64_t kClasses = 60, kColumns = 9, kBatch = 8, kSteps = 30;

struct Case {
  HeadConfig config;
  math::UpdateRule rule;
  int64_t micro_batches = 1;

  bool linear() const { return config.kind == "linear"; }
  int64_t columns() const { return kColumns + (linear() ? 1 : 0); }  // of a row without its padding
  std::string text() const {
    return fmt::format("{}, {}, {}, {}, {} micro-batches, decay {}", math::name_of(rule.kind), config.kind,
                       config.sampling.method, config.update, micro_batches, rule.weight_decay);
  }
};

Case case_of(UpdateKind kind, const char* head, const char* method, const char* update) {
  Case c;
  c.rule = row_rule(kind);
  c.config.kind = head;
  c.config.scale = 16;
  c.config.sampling = {method, 0.25};
  c.config.update = update;
  return c;
}

/// Rows as the textbook has them in those of the head, which end in zeros, and back.
std::vector<double> to_stored(const Case& c, const std::vector<double>& rows) {
  const auto own = static_cast<size_t>(c.columns()), wide = static_cast<size_t>(row_columns(c.config, kColumns));
  std::vector<double> out(kClasses * wide, 0.0);
  for (size_t j = 0; j < kClasses; ++j) std::copy_n(rows.begin() + j * own, own, out.begin() + j * wide);
  return out;
}
std::vector<double> from_stored(const Case& c, const std::vector<double>& rows) {
  const auto own = static_cast<size_t>(c.columns()), wide = static_cast<size_t>(row_columns(c.config, kColumns));
  std::vector<double> out;
  for (size_t j = 0; j < kClasses; ++j) {
    out.insert(out.end(), rows.begin() + j * wide, rows.begin() + j * wide + own);
    for (size_t d = own; d < wide; ++d) REQUIRE(rows[j * wide + d] == 0);
  }
  return out;
}

/// What a step trains on.
struct Batch {
  std::vector<double> embeddings;
  std::vector<int64_t> labels;
};
Batch batch_of(int64_t t) {
  const auto stream = static_cast<uint64_t>(t);
  return {random_values(kBatch * kColumns, stream), random_labels(kBatch, kClasses, stream)};
}

struct Trained {
  std::vector<double> losses, weights, moments, seconds;
};

Trained train_head(Context& context, const Case& c, const std::vector<double>& start) {
  set_fresh_state(context);
  auto head = make_margin_head(context, c.config, kClasses, kColumns, c.rule.kind);
  head->init();
  set_values(context, head_rows(*head, "centers"), to_stored(c, start));
  Trained out;
  for (int64_t t = 0; t < kSteps; ++t) {
    const auto [e, labels] = batch_of(t);
    const int64_t part = kBatch / c.micro_batches;
    std::vector<std::vector<int64_t>> parts;
    for (int64_t m = 0; m < c.micro_batches; ++m)
      parts.emplace_back(labels.begin() + m * part, labels.begin() + (m + 1) * part);
    begin_head_by(context, *head, parts, {.step = t, .global_batch = kBatch}, c.rule);
    double loss = 0;
    for (int64_t m = 0; m < c.micro_batches; ++m) {
      const std::vector<double> mine(e.begin() + m * part * kColumns, e.begin() + (m + 1) * part * kColumns);
      loss += totals_of(context, head->run(context, to_device_tensor(context, mine, {part, kColumns}))).loss_sum;
    }
    out.losses.push_back(loss);
    head->end_step(context);
    context.backend.optim->finish_step();
  }
  if (const Tensor second = head_rows(*head, "second_moment"); second.defined())
    out.seconds = to_doubles(context, second);
  out.moments = from_stored(c, to_doubles(context, head_rows(*head, "momentum")));
  head->start_over();  // catches up
  out.weights = from_stored(c, to_doubles(context, head_rows(*head, "centers")));
  return out;
}

/// d_weight is of rows as `w` has them, with a linear head's bias.
ReferenceStep textbook_step(const Case& c, const std::vector<bool>& active, const Batch& batch,
                            const std::vector<double>& w) {
  if (!c.linear()) {
    ReferenceHead head = reference_of(c.config, kClasses, kColumns);
    head.active = active;
    return reference_step(head, batch.embeddings, batch.labels, w, 1.0 / kBatch);
  }
  LinearWeights parts;
  for (auto row = w.begin(); row != w.end(); row += kColumns + 1) {
    parts.weight.insert(parts.weight.end(), row, row + kColumns);
    parts.bias.push_back(row[kColumns]);
  }
  const ReferenceLinear head{kClasses, kColumns, active, false};
  ReferenceStep step = reference_step(head, batch.embeddings, batch.labels, parts, 1.0 / kBatch);
  std::vector<double> rows;
  for (size_t j = 0; j < kClasses; ++j) {
    const auto row = step.d_weight.begin() + static_cast<std::ptrdiff_t>(j * kColumns);
    rows.insert(rows.end(), row, row + kColumns);
    rows.push_back(step.d_bias[j]);
  }
  step.d_weight = rows;
  return step;
}

Trained train_textbook(uint64_t seed, const Case& c, std::vector<double> w) {
  Trained out;
  std::vector<double> v(w.size(), 0.0), second(kClasses, 0.0);
  for (int64_t t = 0; t < kSteps; ++t) {
    const Batch batch = batch_of(t);
    std::vector<bool> active;
    if (c.config.sampling.method == "uniform")
      active = sampled_classes(seed, t, kClasses, c.config.sampling.ratio, batch.labels);
    const ReferenceStep step = textbook_step(c, active, batch, w);
    out.losses.push_back(step.loss_sum);
    ReferenceRows rows{c.rule, c.columns(), {}};
    if (c.config.update == "lazy") rows.takes = active;
    rows.step(step.d_weight, t + 1, w, v, second);
  }
  out.weights = w;
  out.moments = v;
  out.seconds = second;
  return out;
}

void check_case(Context& context, const Case& c) {
  INFO(c.text());
  const auto start = random_values(kClasses * c.columns(), 250);
  const Trained expected = train_textbook(context.seed, c, start), seen = train_head(context, c, start);
  CHECK(relative_error(seen.losses, expected.losses) < 1e-5);
  CHECK(relative_error(seen.weights, expected.weights) < 2e-5);
  // Rows that lag have the moments of their last update.
  if (c.config.sampling.method == "uniform" && c.config.update == "dense") return;
  CHECK(relative_error(seen.moments, expected.moments) < 2e-4);
  if (math::has_second_moment(c.rule.kind)) CHECK(relative_error(seen.seconds, expected.seconds) < 2e-4);
}

constexpr UpdateKind kKinds[] = {UpdateKind::sgd, UpdateKind::lars, UpdateKind::adamw, UpdateKind::lamb};

TEST_CASE("every optimizer on all rows, fused and from a kept gradient, in each kind of head") {
  HeadContext rank(2);
  for (const UpdateKind kind : kKinds) {
    for (const char* head : {"margin", "d_softmax", "linear"}) {
      for (const int64_t micro_batches : {1, 2}) {
        Case c = case_of(kind, head, "full", "dense");
        c.micro_batches = micro_batches;
        check_case(rank.context, c);
      }
    }
  }
}

TEST_CASE("every optimizer on sampled rows that rest meanwhile") {
  HeadContext rank(2);
  for (const UpdateKind kind : kKinds) {
    for (const char* head : {"margin", "linear"}) check_case(rank.context, case_of(kind, head, "uniform", "lazy"));
  }
}

TEST_CASE("sampled rows with update: dense are those of the dense optimizer: sgd, lars and adamw") {
  HeadContext rank(2);
  for (const UpdateKind kind : {UpdateKind::sgd, UpdateKind::lars, UpdateKind::adamw}) {
    for (const char* head : {"margin", "linear"}) {
      for (const float decay : {0.02F, 0.0F}) {
        Case c = case_of(kind, head, "uniform", "dense");
        c.rule.weight_decay = decay;
        c.micro_batches = decay > 0 ? 1 : 2;
        check_case(rank.context, c);
      }
    }
    // And lazy ones are not.
    const auto start = random_values(kClasses * kColumns, 250);
    const Trained dense = train_textbook(rank.context.seed, case_of(kind, "margin", "uniform", "dense"), start);
    const Trained lazy = train_head(rank.context, case_of(kind, "margin", "uniform", "lazy"), start);
    CHECK(relative_error(lazy.weights, dense.weights) > 1e-2);
  }
}

TEST_CASE("a row of zeros, and rows without a gradient, stay finite and move as the rules say") {
  HeadContext rank(1);
  for (const UpdateKind kind : kKinds) {
    for (const float decay : {0.02F, 0.0F}) {
      for (const bool gradient : {false, true}) {
        // The linear head, whose gradient does not depend on the length of a row.
        Case c = case_of(kind, "linear", "full", "dense");
        c.rule.weight_decay = decay;
        INFO(c.text() << ", gradient " << gradient);
        std::vector<double> w = random_values(kClasses * c.columns(), 9);
        std::fill_n(w.begin(), 2 * c.columns(), 0.0);
        RowStore store(rank.context, {.rows = kClasses,
                                      .columns = row_columns(c.config, kColumns),
                                      .update = kind,
                                      .padding = row_columns(c.config, kColumns) - c.columns()});
        store.init(rank.context, 0);
        const Tensor centers = store.state(rank.context)[0].second;
        set_values(rank.context, centers, to_stored(c, w));
        set_fresh_state(rank.context);
        std::vector<double> v(w.size(), 0.0), second(kClasses, 0.0);
        for (int64_t t = 0; t < 3; ++t) {
          const auto g = gradient ? random_values(kClasses * c.columns(), static_cast<uint64_t>(t))
                                  : std::vector<double>(w.size(), 0.0);
          RowStore::View rows = store.view(rank.context, RowAccess::update);
          const Tensor there = to_device_tensor(rank.context, to_stored(c, g), centers.shape());
          rank.context.backend.head->update_rows(rows, there, c.rule);
          store.finish_update(rank.context, c.rule);
          rank.context.backend.optim->finish_step();
          ReferenceRows{c.rule, c.columns(), {}}.step(g, t + 1, w, v, second);
        }
        CHECK(relative_error(from_stored(c, to_doubles(rank.context, centers)), w) < 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace plsc::test
