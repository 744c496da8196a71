// The linear head (head.kind: linear) against the textbook's softmax of x . w + b in double, on one rank.
//
// Tolerances. A logit in fp32 is off by about 1e-7 of |x| |w|, here of a few units: 1e-6; so are losses and, relative
// to the largest element, gradients. Logits of 1e4 are off by 1e-3.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "support/catch.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

struct Problem {
  int64_t samples, classes, columns;
  std::vector<double> embeddings;
  LinearWeights weights;
  std::vector<int64_t> labels;
  ReferenceLinear reference() const { return {classes, columns, {}, false}; }
};
Problem random_problem(int64_t samples, int64_t classes, int64_t columns, uint64_t stream) {
  return {samples,
          classes,
          columns,
          random_values(samples * columns, 4 * stream),
          {random_values(classes * columns, 4 * stream + 1), random_values(classes, 4 * stream + 2)},
          random_labels(samples, classes, stream)};
}

HeadConfig linear() {
  HeadConfig config;
  config.kind = "linear";
  return config;
}

/// Rows as the head stores them, and back. What lies behind the bias must be 0.
std::vector<double> packed(const LinearWeights& w, int64_t columns) {
  const int64_t wide = row_columns(linear(), columns);
  std::vector<double> rows(w.bias.size() * static_cast<size_t>(wide));
  for (size_t j = 0; j < w.bias.size(); ++j) {
    const auto from = w.weight.begin() + static_cast<int64_t>(j) * columns;
    *std::copy(from, from + columns, rows.begin() + static_cast<int64_t>(j) * wide) = w.bias[j];
  }
  return rows;
}
LinearWeights unpacked(const std::vector<double>& rows, int64_t columns) {
  const int64_t wide = row_columns(linear(), columns);
  LinearWeights w;
  for (auto row = rows.begin(); row != rows.end(); row += wide) {
    w.weight.insert(w.weight.end(), row, row + columns);
    w.bias.push_back(row[columns]);
    for (int64_t d = columns + 1; d < wide; ++d) CHECK(row[d] == 0);
  }
  return w;
}

struct Seen {
  HeadResult result;
  HeadTotals totals;
  std::vector<double> d_embedding;
  LinearWeights gradient;
};

/// One step with lr 0 and no decay: the momentum that it leaves is the gradient of the rows.
Seen run_head(Context& context, const HeadConfig& config, const Problem& p, int64_t step = 0) {
  auto head = drawn_head(context, config, p.classes, p.columns);
  const Tensor centers = head_rows(*head, "centers");
  for (const double b : unpacked(to_doubles(context, centers), p.columns).bias) CHECK(b == 0);
  set_values(context, centers, packed(p.weights, p.columns));
  begin_head(context, *head, {p.labels}, {.step = step, .global_batch = p.samples}, {.lr = 0, .momentum = 0.9F});
  Seen seen;
  seen.result = head->run(context, to_device_tensor(context, p.embeddings, {p.samples, p.columns}));
  seen.totals = totals_of(context, seen.result);
  head->end_step(context);
  seen.d_embedding = to_doubles(context, seen.result.d_embedding);
  seen.gradient = unpacked(to_doubles(context, head_rows(*head, "momentum")), p.columns);
  return seen;
}

struct Tolerance {
  double loss = 1e-5;      // absolute, a sample
  double gradient = 2e-5;  // of the largest element
};

void check_step(Context& context, const Problem& p, const ReferenceLinear& reference, const Tolerance& tolerance = {},
                const HeadConfig& config = linear(), int64_t step = 0) {
  INFO(p.samples << " samples, " << p.classes << " classes x " << p.columns << ", " << config.sampling.method);
  const ReferenceStep expected =
      reference_step(reference, p.embeddings, p.labels, p.weights, 1.0 / static_cast<double>(p.samples));
  const Seen seen = run_head(context, config, p, step);
  CHECK(std::abs(seen.totals.loss_sum - expected.loss_sum) <
        tolerance.loss * static_cast<double>(p.samples) + 1e-6 * expected.loss_sum);
  CHECK(seen.totals.correct == expected.correct);
  CHECK(relative_error(seen.d_embedding, expected.d_embedding, 1e-6) < tolerance.gradient);
  CHECK(relative_error(seen.gradient.weight, expected.d_weight, 1e-6) < tolerance.gradient);
  CHECK(relative_error(seen.gradient.bias, expected.d_bias, 1e-6) < tolerance.gradient);
}

TEST_CASE("the linear head's step is the textbook's: sizes") {
  HeadContext rank(2);
  uint64_t stream = 0;
  for (const int64_t samples : {1, 15, 17, 130}) {
    for (const int64_t classes : {1, 2, 63, 65, 513}) {
      for (const int64_t columns : {1, 5, 16, 37}) {
        const Problem p = random_problem(samples, classes, columns, ++stream);
        check_step(rank.context, p, p.reference());
      }
    }
  }
}

TEST_CASE("the linear head on one class: no loss and no gradient") {
  HeadContext rank;
  const Seen seen = run_head(rank.context, linear(), random_problem(5, 1, 7, 200));
  CHECK(seen.totals.loss_sum == 0);
  CHECK(seen.totals.correct == 5);
  for (double g : seen.d_embedding) CHECK(g == 0);
  for (double g : seen.gradient.weight) CHECK(g == 0);
}

TEST_CASE("the linear head's logits may be as large as they like: 1e4 and -1e4, together and apart") {
  HeadContext rank(2);
  // The first column and the bias alone make logits of this size, exactly; the others differ by a few units.
  for (const auto& [target, negatives] :
       {std::pair(1e4, 1e4), {-1e4, -1e4}, {1e4, -1e4}, {-1e4, 1e4}, {0.0, 1e4}, {0.0, -1e4}}) {
    INFO("target at " << target << ", negatives at " << negatives);
    for (const bool by_bias : {false, true}) {
      Problem p = random_problem(9, 70, 12, 210);
      for (int64_t i = 0; i < p.samples; ++i) p.embeddings[static_cast<size_t>(i * p.columns)] = 1000;
      p.labels.assign(p.labels.size(), 3);
      for (int64_t j = 0; j < p.classes; ++j) {
        const double at = j == 3 ? target : negatives;
        p.weights.weight[static_cast<size_t>(j * p.columns)] = by_bias ? 0 : at / 1000;
        p.weights.bias[static_cast<size_t>(j)] += by_bias ? at : 0;
      }
      // What is left of the probabilities' sum, 1 in a textbook, is 1e-3; the embeddings' gradient has it times 10.
      check_step(rank.context, p, p.reference(), {.loss = 5e-3, .gradient = 1e-2});
    }
  }
}

TEST_CASE("the linear head's uniform sampling leaves the softmax over the active classes") {
  HeadContext rank(2);
  for (const double ratio : {0.0, 0.3, 1.0}) {
    HeadConfig config = linear();
    config.sampling = {"uniform", ratio};
    const Problem p = random_problem(14, 400, 12, 220);
    ReferenceLinear reference = p.reference();
    reference.active = sampled_classes(rank.context.seed, 7, p.classes, ratio, p.labels);
    check_step(rank.context, p, reference, {}, config, 7);
  }
}

TEST_CASE("the linear head in bf16 products: the same step on operands rounded to bf16") {
  HeadContext rank(2);
  if (!rank.context.device().supports(Dtype::bf16)) return;
  rank.context.activations = Dtype::bf16;
  for (const int64_t classes : {70, 600}) {
    const Problem p = random_problem(17, classes, 32, 230);
    ReferenceLinear reference = p.reference();
    reference.bf16_operands = true;
    check_step(rank.context, p, reference, {.loss = 1e-4, .gradient = 4e-3});  // G is rounded to 8 bits
  }
}

double along(const std::vector<double>& gradient, const std::vector<double>& direction) {
  double sum = 0;
  for (size_t i = 0; i < gradient.size(); ++i) sum += gradient[i] * direction[i];
  return sum;
}
void move(std::vector<double>& x, double h, const std::vector<double>& direction) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += h * direction[i];
}

TEST_CASE("the linear head's gradients are the slopes of its own loss: embeddings, weights and biases") {
  HeadContext rank;
  const Problem p = random_problem(6, 40, 10, 240);
  const Seen here = run_head(rank.context, linear(), p);
  const auto dx = random_values(6 * 10, 241), dw = random_values(40 * 10, 242), db = random_values(40, 243);
  const double expected[] = {along(here.d_embedding, dx), along(here.gradient.weight, dw),
                             along(here.gradient.bias, db)};
  // A mean loss in fp32 carries 1e-6, over 2 h = 2e-2 that is 5e-5 of a slope of about .3; h^2 / 6 of third
  // derivatives.
  const double h = 1e-2;
  for (int part = 0; part < 3; ++part) {
    double side[2];
    for (int s = 0; s < 2; ++s) {
      Problem q = p;
      if (part == 0) move(q.embeddings, s == 0 ? -h : h, dx);
      if (part == 1) move(q.weights.weight, s == 0 ? -h : h, dw);
      if (part == 2) move(q.weights.bias, s == 0 ? -h : h, db);
      side[s] = run_head(rank.context, linear(), q).totals.loss_sum / static_cast<double>(p.samples);
    }
    INFO("of embeddings, weights, biases: " << part);
    CHECK((side[1] - side[0]) / (2 * h) == Approx(expected[part]).epsilon(3e-3).margin(1e-4));
  }
}

/// Steps of the head, sampled, and of the textbook with dense SGD in double on every row.
struct Trained {
  std::vector<double> losses;
  LinearWeights weights;
};
constexpr int64_t kClasses = 60, kColumns = 9, kBatch = 8, kSteps = 30;
const math::SgdRule kRule{.lr = 0.2F, .momentum = 0.9F, .weight_decay = 0.02F};

HeadConfig sampled(const char* update) {
  HeadConfig config = linear();
  config.sampling = {"uniform", 0.25};
  config.update = update;
  return config;
}
Trained train_head(Context& context, const HeadConfig& config, const LinearWeights& start) {
  auto head = drawn_head(context, config, kClasses, kColumns);
  set_values(context, head_rows(*head, "centers"), packed(start, kColumns));
  Trained out;
  for (int64_t t = 0; t < kSteps; ++t) {
    const auto stream = static_cast<uint64_t>(t);
    begin_head(context, *head, {random_labels(kBatch, kClasses, stream)}, {.step = t, .global_batch = kBatch}, kRule);
    const auto e = random_values(kBatch * kColumns, stream);
    out.losses.push_back(
        totals_of(context, head->run(context, to_device_tensor(context, e, {kBatch, kColumns}))).loss_sum);
    head->end_step(context);
  }
  head->start_over();  // catches up
  out.weights = unpacked(to_doubles(context, head_rows(*head, "centers")), kColumns);
  return out;
}
Trained train_textbook(uint64_t seed, const HeadConfig& config, LinearWeights w) {
  Trained out;
  LinearWeights v{std::vector<double>(w.weight.size()), std::vector<double>(w.bias.size())};
  const ReferenceSgd sgd{double{kRule.lr}, double{kRule.momentum}, double{kRule.weight_decay}};
  for (int64_t t = 0; t < kSteps; ++t) {
    const auto stream = static_cast<uint64_t>(t);
    const auto labels = random_labels(kBatch, kClasses, stream);
    ReferenceLinear head{kClasses, kColumns, {}, false};
    head.active = sampled_classes(seed, t, kClasses, config.sampling.ratio, labels);
    const ReferenceStep step = reference_step(head, random_values(kBatch * kColumns, stream), labels, w, 1.0 / kBatch);
    out.losses.push_back(step.loss_sum);
    sgd.step(step.d_weight, w.weight, v.weight);
    sgd.step(step.d_bias, w.bias, v.bias);
  }
  out.weights = w;
  return out;
}

TEST_CASE("a sampled linear head with update: dense is dense SGD, biases and all; with lazy it is not") {
  HeadContext rank(2);
  const LinearWeights start{random_values(kClasses * kColumns, 250), random_values(kClasses, 251)};
  const Trained expected = train_textbook(rank.context.seed, sampled("dense"), start);
  const Trained dense = train_head(rank.context, sampled("dense"), start);
  CHECK(relative_error(dense.losses, expected.losses) < 1e-5);
  CHECK(relative_error(dense.weights.weight, expected.weights.weight) < 2e-5);
  CHECK(relative_error(dense.weights.bias, expected.weights.bias) < 2e-5);
  CHECK(relative_error(train_head(rank.context, sampled("lazy"), start).weights.bias, expected.weights.bias) > 1e-2);
}

TEST_CASE("the linear head's nearest classes are those of the largest logits") {
  HeadContext rank(2);
  Problem p = random_problem(4, 90, 11, 260);
  p.weights.bias[17] = 1e3;  // nearest to all, by its bias alone
  auto head = drawn_head(rank.context, linear(), p.classes, p.columns);
  set_values(rank.context, head_rows(*head, "centers"), packed(p.weights, p.columns));
  const auto nearest =
      head->nearest(rank.context, to_device_tensor(rank.context, p.embeddings, {p.samples, p.columns}), 3);
  for (int64_t i = 0; i < p.samples; ++i) {
    std::vector<std::pair<double, int64_t>> logits;
    for (int64_t j = 0; j < p.classes; ++j) {
      double z = p.weights.bias[static_cast<size_t>(j)];
      for (int64_t d = 0; d < p.columns; ++d) {
        z += p.embeddings[static_cast<size_t>(i * p.columns + d)] *
             p.weights.weight[static_cast<size_t>(j * p.columns + d)];
      }
      logits.emplace_back(-z, j);
    }
    std::sort(logits.begin(), logits.end());
    CHECK(logits[0].second == 17);
    for (int64_t k = 0; k < 3; ++k) {
      CHECK(nearest.classes.data<int64_t>()[i * 3 + k] == logits[static_cast<size_t>(k)].second);
      CHECK(nearest.cosines.data<float>()[i * 3 + k] == Approx(-logits[static_cast<size_t>(k)].first).epsilon(1e-5));
    }
  }
}

TEST_CASE("values that are not finite end the linear head's step before a row changes") {
  HeadContext rank(2);
  for (const double value : {std::nan(""), double{INFINITY}}) {
    for (const bool in_row : {false, true}) {
      if (in_row && std::isinf(value)) continue;  // a logit of -inf is one of a class without a chance
      Problem p = random_problem(3, 40, 16, 270);
      (in_row ? p.weights.weight : p.embeddings)[18] = value;
      auto head = drawn_head(rank.context, linear(), p.classes, p.columns);
      const Tensor centers = head_rows(*head, "centers");
      set_values(rank.context, centers, packed(p.weights, p.columns));
      const auto before = rank.context.device().start_read(centers)->get().values<float>();
      begin_head(rank.context, *head, {p.labels}, {.step = 12, .global_batch = 3}, {.lr = 0.1F});
      head->run(rank.context, to_device_tensor(rank.context, p.embeddings, {3, 16}));
      INFO(value << " in row " << in_row);
      CHECK(state_of(rank.context).failed == 1);  // the loss
      set_fresh_state(rank.context);
      const auto after = rank.context.device().start_read(centers)->get().values<float>();
      CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("the linear head says what it is, and what loss it expects at first") {
  HeadContext rank;
  auto head = make_margin_head(rank.context, linear(), 1000, 16);
  CHECK(head->description() == "linear softmax with bias, 1000 classes x 16, full softmax");
  CHECK(head->kind() == "linear");
  CHECK(head->expected_first_loss() == Approx(std::log(1000)));
  HeadConfig config = linear();
  config.sampling = {"uniform", 0.1};
  CHECK(make_margin_head(rank.context, config, 1000, 16)->expected_first_loss() == Approx(std::log(100)));
}

}  // namespace
}  // namespace plsc::test
