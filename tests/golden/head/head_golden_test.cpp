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

/// (rows, from) of golden values as rows of `to` columns, zeros behind.
std::vector<double> widened(const std::vector<double>& rows, size_t from, size_t to) {
  std::vector<double> out;
  for (size_t i = 0; i < rows.size(); ++i) {
    out.push_back(rows[i]);
    if (i % from == from - 1) out.resize(out.size() + to - from);
  }
  return out;
}
/// [weight, bias] by row.
std::vector<double> with_bias(const std::vector<double>& weights, const std::vector<double>& bias) {
  const size_t columns = weights.size() / bias.size();
  std::vector<double> out;
  for (size_t j = 0; j < bias.size(); ++j) {
    out.insert(out.end(), weights.begin() + static_cast<int64_t>(j * columns),
               weights.begin() + static_cast<int64_t>((j + 1) * columns));
    out.push_back(bias[j]);
  }
  return out;
}

struct Case {
  std::string name;
  HeadConfig config;
  bool nesterov = false;
};
std::vector<Case> cases() {
  std::vector<Case> out(7);
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
  out[5].name = out[5].config.kind = "linear";
  out[6].name = out[6].config.kind = "d_softmax";
  out[6].config.termination = 0.6;
  out[6].config.scale = 32;
  return out;
}

TEST_CASE("the head trains as PyTorch's autograd and SGD do") {
  constexpr int64_t kSamples = 12, kClasses = 20, kColumns = 16, kSteps = 3;
  const auto labels = read_npy(test::source_dir() + "/tests/golden/head/data/labels.npy").values<int64_t>();
  for (const Case& c : cases()) {
    INFO(c.name);
    HeadContext rank(2);
    auto head = drawn_head(rank.context, c.config, kClasses, kColumns);
    // A linear head's rows: PyTorch's weight and bias, and zeros.
    const bool linear = c.config.kind == "linear";
    const size_t stored = static_cast<size_t>(kColumns) + (linear ? 1 : 0),
                 wide = static_cast<size_t>(head->row_columns());
    const auto start = linear ? with_bias(golden("centers"), golden("bias")) : golden("centers");
    set_values(rank.context, head_rows(*head, "centers"), widened(start, stored, wide));
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
    CHECK(relative_error(centers, widened(golden(c.name + "_centers"), stored, wide)) < 1e-5);
  }
}

}  // namespace
}  // namespace plsc::test
