// What tells the heads apart. The margin head's logits are cosines of unit vectors with a margin; D-Softmax has the
// same logits, without one, and another loss; the linear head's are x . w + b, as a plain classifier's. The bias is a
// column of a class's row, and the embedding has a 1 there: so the matrix products, the updates, the sampling and the
// checkpoints of the one head are those of the others.
#pragma once
#include <optional>
#include <string>

#include "config/config.h"
#include "kernels/math/softmax_loss.h"
#include "runtime/context.h"

namespace plsc {

struct HeadForm {
  bool linear = false;
  int64_t embedding_size = 0;
  math::LossRule loss;
  math::LogitRule logits;

  /// What a linear head's rows have behind the weights: the bias, and zeros up to whole 16 bytes of bf16.
  static constexpr int64_t kBiasColumns = 8;
  int64_t bias_columns() const { return linear ? kBiasColumns : 0; }
  /// Of them, those behind the bias.
  int64_t padding() const { return linear ? kBiasColumns - 1 : 0; }
  /// Of a class's row, D in what follows.
  int64_t columns() const { return embedding_size + bias_columns(); }
  /// Relative to what the exponentials of this many classes are summed; nothing where each sample needs its maximum.
  std::optional<double> fixed_shift(int64_t classes) const;
};
HeadForm head_form(const HeadConfig& config, int64_t embedding_size);
/// The head in words: see MarginHead::description.
std::string describe(const HeadForm& form, const HeadConfig& config, int64_t classes);

/// What rows are multiplied with, made of one rank's embeddings: unit vectors, or the embeddings and a 1.
class HeadInput {
 public:
  /// embeddings (b, form.embedding_size) fp32.
  HeadInput(Context& context, const HeadForm& form, const Tensor& embeddings);
  /// (b, D)
  const Tensor& rows() const { return rows_; }
  /// The gradient of the embeddings, times the loss scale, from that of rows(): fp32 (b, D).
  Tensor gradient(Context& context, const Tensor& d_rows) const;

 private:
  Tensor rows_, norm_;  // norm (b): of the embeddings; undefined in a linear head
  int64_t embedding_size_;
};

}  // namespace plsc
