// The heads as a textbook writes them: every logit stored, softmax over all of them, in double and on one rank.
// An independent text: nothing of the product's kernels is used.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace plsc::test {

struct ReferenceHead {
  int64_t classes = 0, columns = 0;
  double scale = 64, m1 = 1, m2 = 0, m3 = 0;
  bool straight_through = false;
  std::optional<double> filter;
  std::optional<double> termination;  // D-Softmax, in place of the softmax
  std::vector<bool> active;           // classes that take part; empty: all
  /// Inputs of the matrix products rounded to bf16 (negatives' cosines and both gradients; targets stay exact).
  bool bf16_operands = false;
};

struct ReferenceStep {
  double loss_sum = 0, intra_sum = 0;  // intra: of D-Softmax
  int64_t correct = 0;
  std::vector<double> losses;       // (B)
  std::vector<double> d_embedding;  // (B, D) of gradient_scale * sum of losses
  std::vector<double> d_weight;     // (C, D)
  std::vector<double> d_bias;       // (C) of a linear head
};

/// embeddings (B, D) and weights (C, D) are not normalised.
ReferenceStep reference_step(const ReferenceHead& head, const std::vector<double>& embeddings,
                             const std::vector<int64_t>& labels, const std::vector<double>& weights,
                             double gradient_scale);

/// The linear head: logits x . w + b, cross-entropy over the active classes.
struct ReferenceLinear {
  int64_t classes = 0, columns = 0;
  std::vector<bool> active;    // classes that take part; empty: all
  bool bf16_operands = false;  // as ReferenceHead has it; the bias is one of them
};
struct LinearWeights {
  std::vector<double> weight, bias;  // (C, D) and (C)
};
ReferenceStep reference_step(const ReferenceLinear& head, const std::vector<double>& embeddings,
                             const std::vector<int64_t>& labels, const LinearWeights& weights, double gradient_scale);

/// torch.optim.SGD on one tensor.
struct ReferenceSgd {
  double lr = 0, momentum = 0, weight_decay = 0;
  bool nesterov = false;
  void step(const std::vector<double>& gradient, std::vector<double>& w, std::vector<double>& v) const;
};

}  // namespace plsc::test
