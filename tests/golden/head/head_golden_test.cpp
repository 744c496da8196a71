// Three steps of the head against PyTorch's autograd and SGD in float64 (tests/golden/generate_head.py). fp32 logits of
// scale 64 are off by 2e-5, and three steps of rate .1 carry that into the centres: see the tolerances.
#include "support/catch.h"
#include "support/head_cases.h"
#include "support/head_context.h"
#include "support/head_step.h"
#include "support/npy.h"
#include "support/source_dir.h"

namespace plsc::test {
namespace {

std::vector<double> golden(const std::string& name) {
  return read_npy(test::source_dir() + "/tests/golden/head/data/" + name + ".npy").values<double>();
}

struct Case {
  std::string name;
  HeadConfig config;
  bool nesterov = false;
};
std::vector<Case> cases() {
  std::vector<Case> out(5);
  out[0].name = "arcface";
  out[1].name = "cosface";
  out[1].config.margin = named_margin("cosface");
  out[2].name = "custom";
  out[2].config.margin = {"custom", 1.6, 0.9, 0.1};
  out[2].config.scale = 30;
  out[2].nesterov = true;
  out[3].name = out[3].config.gradient = "straight_through";
  out[4].name = "filter";
  out[4].config.interclass_filter = 0.2;
  return out;
}

TEST_CASE("the head trains as PyTorch's autograd and SGD do") {
  constexpr int64_t kSamples = 12, kClasses = 20, kColumns = 16, kSteps = 3;
  const auto labels = read_npy(test::source_dir() + "/tests/golden/head/data/labels.npy").values<int64_t>();
  for (const Case& c : cases()) {
    INFO(c.name);
    HeadContext rank(2);
    auto head = drawn_head(rank.context, c.config, kClasses, kColumns);
    set_values(rank.context, head_rows(*head, "centers"), golden("centers"));
    const Tensor embeddings = to_device_tensor(rank.context, golden("embeddings"), {kSamples, kColumns});
    std::vector<double> losses, d_embedding, centers;
    for (int64_t t = 0; t < kSteps; ++t) {
      begin_head(rank.context, *head, {labels}, {.step = t, .global_batch = kSamples},
                 {.lr = 0.1F, .momentum = 0.9F, .weight_decay = 5e-4F, .nesterov = c.nesterov});
      const HeadResult result = head->run(rank.context, embeddings);
      head->end_step(rank.context);
      losses.push_back(totals_of(rank.context, result).loss_sum / kSamples);
      const auto gradient = to_doubles(rank.context, result.d_embedding);
      const auto rows = to_doubles(rank.context, head_rows(*head, "centers"));
      d_embedding.insert(d_embedding.end(), gradient.begin(), gradient.end());
      centers.insert(centers.end(), rows.begin(), rows.end());
    }
    CHECK(relative_error(losses, golden(c.name + "_losses")) < 1e-5);
    CHECK(relative_error(d_embedding, golden(c.name + "_d_embedding")) < 1e-4);
    CHECK(relative_error(centers, golden(c.name + "_centers")) < 1e-5);
  }
}

}  // namespace
}  // namespace plsc::test
