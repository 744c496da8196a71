// One step of the head on one rank against the textbook head in double, over margins and D-Softmax, gradient modes, the
// filter and sizes on both sides of tile and vector boundaries.
//
// Tolerances. A cosine in fp32 is off by about 3e-7 (a dot product of unit vectors), so a logit of scale 64 by 2e-5 and
// exp(logit) by 2e-5 relative: that is the size of the error of a loss and of each term of a gradient. Gradients are
// compared to 2e-4 of their largest element, losses to 1e-4 absolute a sample plus 1e-6 relative. (Fewer than about
// four columns make cosines next to 1 likely, where the slope sin phi / sin theta magnifies a cosine's error without
// bound.)
#include "support/catch.h"
#include "support/head_context.h"
#include "support/head_problem.h"

namespace plsc::test {
namespace {

/// All heads whose logits are cosines.
std::vector<HeadConfig> heads() {
  std::vector<HeadConfig> out(8);
  out[1].margin = named_margin("cosface");
  out[2].margin = named_margin("sphereface");
  out[3].margin = named_margin("none");
  out[4].margin = {"custom", 2.3, 0.4, 0.15};  // phi goes beyond 2 pi
  out[5].margin = {"custom", 1.0, 0.3, 0.2};
  out[6].kind = out[7].kind = "d_softmax";
  out[7].termination = 0.2;  // some targets are beyond it
  return out;
}

TEST_CASE("the head's step is the textbook's: margins and gradient modes, D-Softmax") {
  HeadContext rank(2);
  uint64_t stream = 0;
  for (HeadConfig config : heads()) {
    for (const char* gradient : {"exact", "straight_through"}) {
      for (const double scale : {64.0, 10.0, 120.0}) {
        config.gradient = gradient;
        config.scale = scale;
        const HeadProblem p = random_problem(9, 70, 24, ++stream);
        // Logits twice as wide are twice as far off.
        const double factor = scale > 64 ? 2 : 1;
        check_step(rank.context, config, p, reference_of(config, 70, 24), 0, 2e-4 * factor, 1e-4 * factor);
      }
    }
  }
}

TEST_CASE("the head's step is the textbook's: sizes") {
  HeadContext rank(2);
  HeadConfig config;
  uint64_t stream = 100;
  for (const int64_t samples : {1, 2, 15, 16, 17, 130}) {
    for (const int64_t classes : {1, 2, 63, 64, 65, 513, 1030}) {
      for (const int64_t columns : {5, 16, 37}) {
        check_step(rank.context, config, random_problem(samples, classes, columns, ++stream),
                   reference_of(config, classes, columns), 0);
      }
    }
  }
}

TEST_CASE("the head's step is the textbook's: thread counts and more samples than one tile's worth") {
  HeadConfig config;
  for (const int threads : {1, 3}) {
    HeadContext rank(threads);
    check_step(rank.context, config, random_problem(600, 700, 8, 300), reference_of(config, 700, 8), 0);
  }
}

TEST_CASE("negatives beyond the inter-class filter count as cosine 0 without a gradient") {
  HeadContext rank(2);
  uint64_t stream = 400;
  for (HeadConfig config : heads()) {
    for (const double t : {0.3, 0.0, -0.2}) {
      config.interclass_filter = t;
      // A threshold below zero turns a stopped cosine into a larger one: still what the rule says.
      check_step(rank.context, config, random_problem(12, 90, 6, ++stream), reference_of(config, 90, 6), 0);
    }
  }
  HeadConfig wide;
  wide.scale = 200;  // the running maximum sees what the filter left
  wide.interclass_filter = 0.3;
  check_step(rank.context, wide, random_problem(12, 90, 6, ++stream), reference_of(wide, 90, 6), 0, 6e-4, 4e-4);
}

TEST_CASE("uniform sampling leaves the softmax over the active classes") {
  HeadContext rank(2);
  for (const double ratio : {0.0, 0.02, 0.3, 1.0}) {
    for (const int64_t step : {0, 7}) {
      HeadConfig config;
      config.sampling = {"uniform", ratio};
      const HeadProblem p = random_problem(14, 800, 12, 500 + static_cast<uint64_t>(step));
      ReferenceHead reference = reference_of(config, 800, 12);
      reference.active = sampled_classes(rank.context.seed, step, 800, ratio, p.labels);
      check_step(rank.context, config, p, reference, step);
      const SeenStep seen = run_head(rank.context, config, p, step);
      CHECK(seen.result.active == std::count(reference.active.begin(), reference.active.end(), true));
    }
  }
}

TEST_CASE("several samples of one class, and all of one class") {
  HeadContext rank(2);
  HeadConfig config;
  HeadProblem p = random_problem(20, 30, 16, 600);
  for (size_t i = 0; i < 20; ++i) p.labels[i] = static_cast<int64_t>(i / 7);
  check_step(rank.context, config, p, reference_of(config, 30, 16), 0);
  std::fill(p.labels.begin(), p.labels.end(), 29);
  check_step(rank.context, config, p, reference_of(config, 30, 16), 0);
}

TEST_CASE("bf16 products: the same step on operands rounded to bf16") {
  HeadContext rank(2);
  if (!rank.context.device().supports(Dtype::bf16)) return;
  rank.context.activations = Dtype::bf16;
  uint64_t stream = 700;
  for (HeadConfig config : heads()) {
    for (const int64_t classes : {70, 600}) {
      // The reference rounds x and w as the head does. What is left is the rounding of G to 8 bits: 2^-9 of each term,
      // whose errors are independent, so that a sum is off by less than one term is: 4e-3 of the largest element.
      const HeadProblem p = random_problem(17, classes, 32, ++stream);
      ReferenceHead reference = reference_of(config, classes, 32);
      reference.bf16_operands = true;
      check_step(rank.context, config, p, reference, 0, 4e-3);
    }
  }
}

/// The gradient along a direction, by central differences of the reference's loss.
double numeric_slope(const ReferenceHead& head, const HeadProblem& p, bool of_weights,
                     const std::vector<double>& direction) {
  const double h = 1e-6;
  double side[2];
  for (int s = 0; s < 2; ++s) {
    HeadProblem q = p;
    auto& x = of_weights ? q.weights : q.embeddings;
    for (size_t i = 0; i < x.size(); ++i) x[i] += (s == 0 ? -h : h) * direction[i];
    side[s] = reference_step(head, q.embeddings, q.labels, q.weights, 1).loss_sum;
  }
  return (side[1] - side[0]) / (2 * h);
}
double slope(const std::vector<double>& gradient, const std::vector<double>& direction) {
  double sum = 0;
  for (size_t i = 0; i < gradient.size(); ++i) sum += gradient[i] * direction[i];
  return sum;
}

TEST_CASE("the textbook head's own gradients are those of its loss") {
  uint64_t stream = 800;
  for (HeadConfig config : heads()) {
    for (const bool filtered : {false, true}) {
      if (filtered) config.interclass_filter = 0.3;
      const HeadProblem p = random_problem(5, 12, 7, ++stream);
      const ReferenceHead head = reference_of(config, 12, 7);
      const ReferenceStep step = reference_step(head, p.embeddings, p.labels, p.weights, 1);
      for (const bool of_weights : {false, true}) {
        const auto& gradient = of_weights ? step.d_weight : step.d_embedding;
        const auto direction = random_values(static_cast<int64_t>(gradient.size()), stream + 5000);
        // h^2 times a third derivative of about s^3, and rounding of 1e-15 / h: 1e-6 relative.
        CHECK(numeric_slope(head, p, of_weights, direction) ==
              Approx(slope(gradient, direction)).epsilon(1e-5).margin(1e-6));
      }
    }
  }
}

TEST_CASE("the head's gradient is the slope of the head's own loss") {
  HeadContext rank(1);
  HeadConfig config;
  config.scale = 16;
  const HeadProblem p = random_problem(6, 40, 10, 900);
  const SeenStep here = run_head(rank.context, config, p);
  const auto direction = random_values(p.samples * p.columns, 901);
  // fp32 losses of about 6 * 16 carry 1e-5; over 2 h = 8e-3 that is 1e-3 of a slope of about 1.
  const double h = 4e-3;
  double side[2];
  for (int s = 0; s < 2; ++s) {
    HeadProblem q = p;
    for (size_t i = 0; i < direction.size(); ++i) q.embeddings[i] += (s == 0 ? -h : h) * direction[i];
    side[s] = run_head(rank.context, config, q).totals.loss_sum / static_cast<double>(p.samples);
  }
  CHECK((side[1] - side[0]) / (2 * h) ==
        Approx(slope(to_doubles(rank.context, here.result.d_embedding), direction)).epsilon(5e-3));
}

}  // namespace
}  // namespace plsc::test
