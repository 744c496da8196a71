// D-Softmax (head.kind: d_softmax): what is its own, beside the cases of head_step_test.cpp. Its loss has two parts
// that do not know of each other, and each must keep its digits wherever the other is.
#include <cmath>

#include "support/catch.h"
#include "support/head_context.h"
#include "support/head_problem.h"

namespace plsc::test {
namespace {

HeadConfig d_softmax(double scale = 64, double termination = 0.9) {
  HeadConfig config;
  config.kind = "d_softmax";
  config.scale = scale;
  config.termination = termination;
  return config;
}

double in_fp32(double value) { return double{static_cast<float>(value)}; }

/// One sample along the first axis; its target at this cosine, and `others` negatives at that one.
HeadProblem at_cosines(double target, double negatives, int64_t others) {
  constexpr int64_t kColumns = 16;
  HeadProblem p{1, 1 + others, kColumns, std::vector<double>(kColumns), {}, {0}};
  p.embeddings[0] = 1;
  for (int64_t j = 0; j <= others; ++j) {
    const double cosine = j == 0 ? target : negatives;
    std::vector<double> row(kColumns);
    row[0] = in_fp32(cosine);
    row[1] = in_fp32(std::sqrt(1 - cosine * cosine));
    p.weights.insert(p.weights.end(), row.begin(), row.end());
  }
  return p;
}

TEST_CASE("both parts of D-Softmax keep their relative accuracy, whether they are next to nothing or hundreds") {
  HeadContext rank;
  for (const double scale : {8.0, 64.0, 86.0, 150.0, 300.0}) {  // from 86 on sums run with a maximum
    for (const double target : {-1.0, 0.0, 0.5, 1.0}) {
      for (const double negatives : {-1.0, -0.5, 0.0, 1.0}) {
        for (const double termination : {-1.0, 0.5, 0.9}) {
          INFO("scale " << scale << ", target at " << target << ", negatives at " << negatives << ", d "
                        << termination);
          const SeenStep seen = run_head(rank.context, d_softmax(scale, termination), at_cosines(target, negatives, 5));
          const double intra = std::log1p(std::exp(scale * (termination - target))),
                       inter = std::log1p(5 * std::exp(scale * negatives));
          // The largest error is that of fp32's cosines and logits: 1e-7 of the scale.
          CHECK(seen.totals.intra_sum == Approx(intra).epsilon(1e-4).margin(0));
          CHECK(seen.totals.loss_sum == Approx(intra + inter).epsilon(1e-4).margin(0));
        }
      }
    }
  }
}

TEST_CASE("the part of D-Softmax that pulls a sample to its class does not know of the other classes") {
  HeadContext rank(2);
  // The gradient of its centre, the first row, wherever the others are.
  std::vector<double> pulls;
  for (const double negatives : {-0.6, 0.0, 0.7}) {
    const SeenStep seen = run_head(rank.context, d_softmax(), at_cosines(0.6, negatives, 9));
    pulls.push_back(std::hypot(seen.d_weight[0], seen.d_weight[1]));
  }
  CHECK(pulls[0] > 1);
  CHECK(pulls[1] == pulls[0]);
  CHECK(pulls[2] == pulls[0]);

  const HeadProblem p = random_problem(5, 300, 16, 21);
  HeadConfig sampled = d_softmax(16, 0.4);
  sampled.sampling = {"uniform", 0.05};
  const SeenStep few = run_head(rank.context, sampled, p), all = run_head(rank.context, d_softmax(16, 0.4), p);
  CHECK(few.totals.intra_sum == all.totals.intra_sum);
  CHECK(few.totals.loss_sum < all.totals.loss_sum - 1);  // fewer negatives, less to push away
}

TEST_CASE("D-Softmax on one class has its first part alone") {
  HeadContext rank;
  for (const double scale : {64.0, 200.0}) {
    const HeadProblem p = random_problem(5, 1, 16, 30);
    const SeenStep seen = run_head(rank.context, d_softmax(scale), p);
    CHECK(seen.totals.loss_sum > 1);
    CHECK(seen.totals.loss_sum == seen.totals.intra_sum);
    CHECK(seen.totals.correct == 5);
    // fp32 logits of up to 200, whose last place is 1.5e-5: so is the relative error of what is in e^logit.
    const ReferenceStep expected =
        reference_step(reference_of(d_softmax(scale), 1, 16), p.embeddings, p.labels, p.weights, 0.2);
    CHECK(relative_error(to_doubles(rank.context, seen.result.d_embedding), expected.d_embedding) < 1e-4);
  }
}

TEST_CASE("a target beyond the termination is left alone, and so are negatives far below cosine 0") {
  HeadContext rank;
  // e^(64 (.5 - .99)) = 2.4e-14 and 5 e^(-64 .9) = 5e-25: next to nothing to pull or push; times the scale of 64 for
  // gradients.
  const SeenStep seen = run_head(rank.context, d_softmax(64, 0.5), at_cosines(0.99, -0.9, 5));
  CHECK(seen.totals.loss_sum < 1e-12);
  CHECK(seen.totals.loss_sum > 0);
  for (double g : seen.d_weight) CHECK(std::abs(g) < 1e-10);
}

TEST_CASE("D-Softmax's gradients are the slopes of its own loss: embeddings and centres") {
  HeadContext rank;
  const HeadConfig config = d_softmax(12, 0.3);
  const HeadProblem p = random_problem(6, 40, 10, 40);
  const SeenStep here = run_head(rank.context, config, p);
  const auto dx = random_values(6 * 10, 41), dw = random_values(40 * 10, 42);
  const auto d_embedding = to_doubles(rank.context, here.result.d_embedding);
  const auto along = [](const std::vector<double>& gradient, const std::vector<double>& direction) {
    double sum = 0;
    for (size_t i = 0; i < gradient.size(); ++i) sum += gradient[i] * direction[i];
    return sum;
  };
  // A mean loss of about 10 in fp32 carries 3e-6, over 2 h = 8e-3 that is 4e-4 of a slope of about 1.
  const double h = 4e-3;
  for (const bool of_weights : {false, true}) {
    double side[2];
    for (int s = 0; s < 2; ++s) {
      HeadProblem q = p;
      auto& moved = of_weights ? q.weights : q.embeddings;
      const auto& direction = of_weights ? dw : dx;
      for (size_t i = 0; i < moved.size(); ++i) moved[i] = in_fp32(moved[i] + (s == 0 ? -h : h) * direction[i]);
      side[s] = run_head(rank.context, config, q).totals.loss_sum / static_cast<double>(p.samples);
    }
    INFO("of the centres: " << of_weights);
    CHECK((side[1] - side[0]) / (2 * h) ==
          Approx(of_weights ? along(here.d_weight, dw) : along(d_embedding, dx)).epsilon(5e-3).margin(2e-3));
  }
}

TEST_CASE("D-Softmax says what it is, and what loss it expects at first") {
  HeadContext rank;
  auto head = make_margin_head(rank.context, d_softmax(), 1000, 16);
  CHECK(head->description() == "D-Softmax d 0.9, s 64, 1000 classes x 16, full softmax");
  CHECK(head->kind() == "d_softmax");
  // ln(1 + e^(s d)) + ln(1 + e^(ln C + s^2 / 2D))
  CHECK(make_margin_head(rank.context, d_softmax(), 100000, 512)->expected_first_loss() ==
        Approx(64 * 0.9 + std::log(1e5) + 64.0 * 64 / 1024).epsilon(1e-5));
  // Drawn, where classes are few: against random ones.
  for (const double scale : {16.0, 64.0}) {
    const auto few = drawn_head(rank.context, d_softmax(scale), 500, 32);
    const SeenStep seen = run_head(rank.context, d_softmax(scale), random_problem(400, 500, 32, 50));
    // At a scale of 64 a sample's loss scatters by about 14 (cosines of 32 columns deviate by .18), the mean of 400 by
    // .7, of some 95.
    CHECK(seen.totals.loss_sum / 400 == Approx(few->expected_first_loss()).epsilon(0.03));
  }
}

TEST_CASE("values that are not finite end D-Softmax's step before a row changes") {
  HeadContext rank(2);
  for (const double scale : {64.0, 200.0}) {
    for (const bool in_row : {false, true}) {
      auto head = drawn_head(rank.context, d_softmax(scale), 40, 16);
      const Tensor centers = head_rows(*head, "centers");
      std::vector<double> w = to_doubles(rank.context, centers), e = random_values(3 * 16, 9);
      (in_row ? w : e)[18] = NAN;
      set_values(rank.context, centers, w);
      begin_head(rank.context, *head, {std::vector<int64_t>{0, 7, 39}}, {.step = 12, .global_batch = 3}, {.lr = 0.1F});
      head->run(rank.context, to_device_tensor(rank.context, e, {3, 16}));
      CHECK(state_of(rank.context).failed == 1);  // the loss
      set_fresh_state(rank.context);
      const auto after = to_doubles(rank.context, centers);
      for (size_t i = 0; i < w.size(); ++i) CHECK((after[i] == w[i] || (std::isnan(w[i]) && std::isnan(after[i]))));
    }
  }
}

}  // namespace
}  // namespace plsc::test
