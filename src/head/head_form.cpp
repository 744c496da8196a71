#include "head/head_form.h"

#include <cmath>
#include <limits>

namespace plsc {

HeadForm head_form(const HeadConfig& config, int64_t embedding_size) {
  HeadForm form;
  form.linear = config.kind == "linear";
  form.embedding_size = embedding_size;
  if (form.linear) {
    form.loss.margin.limit = std::numeric_limits<double>::infinity();
    return form;
  }
  form.logits.scale = static_cast<float>(config.scale);
  form.loss.scale = double{form.logits.scale};
  if (config.kind == "d_softmax") {
    form.loss.dissected = true;
    form.loss.termination = config.termination;
  } else {
    const MarginConfig& m = config.margin;
    form.loss.margin = {.m1 = m.m1, .m2 = m.m2, .m3 = m.m3, .straight_through = config.gradient == "straight_through"};
  }
  form.logits.limit = 1;
  if (config.interclass_filter) form.logits.filter = static_cast<float>(*config.interclass_filter);
  return form;
}

/// Logits in [-s, s] have a sum of exponentials that is bounded on both sides: a shift known beforehand keeps it within
/// fp32, up to this width. Beyond it, and where logits have no bounds, every sample needs its own maximum.
std::optional<double> HeadForm::fixed_shift(int64_t classes) const {
  constexpr double kWidest = 172;
  const double scale = double{logits.scale}, log_classes = std::log(static_cast<double>(classes));
  if (linear || 2 * scale + log_classes > kWidest) return {};
  return scale + log_classes - kWidest / 2;
}

namespace {

std::string describe(const SamplingConfig& sampling) {
  if (sampling.method == "full") return "full softmax";
  const std::string part =
      sampling.active > 0 ? fmt::format("{} classes", sampling.active) : fmt::format("{}", sampling.ratio);
  if (sampling.method == "uniform") return "uniform sampling of " + part;
  return fmt::format("knn sampling of {}, {} neighbours a class, {} of it uniform", part, sampling.neighbours,
                     sampling.uniform_share);
}

}  // namespace

std::string describe(const HeadForm& form, const HeadConfig& config, int64_t classes) {
  std::string text;
  if (form.linear) {
    text = "linear softmax with bias";
  } else if (form.loss.dissected) {
    text = fmt::format("D-Softmax d {}, s {}", config.termination, config.scale);
  } else {
    const math::MarginRule& m = form.loss.margin;
    text = config.margin.name;
    if (text == "custom" || m.m1 != 1) text += fmt::format(" m1 {}", m.m1);
    if (text == "custom" || m.m2 != 0) text += fmt::format(" m2 {}", m.m2);
    if (text == "custom" || m.m3 != 0) text += fmt::format(" m3 {}", m.m3);
    text += fmt::format(", s {}", config.scale);
  }
  text += fmt::format(", {} classes x {}, ", classes, form.embedding_size);
  text += describe(config.sampling);
  if (config.store.dtype != "fp32") text += ", centres in " + config.store.dtype;
  if (config.store.momentum != "fp32") text += ", their momentum in " + config.store.momentum;
  if (config.store.tier == "host") text += ", in host memory";
  if (config.interclass_filter) text += fmt::format(", inter-class filter {}", *config.interclass_filter);
  return text;
}

HeadInput::HeadInput(Context& context, const HeadForm& form, const Tensor& embeddings)
    : embedding_size_(form.embedding_size) {
  PLSC_CHECK(embeddings.dim(1) == form.embedding_size);
  const int64_t samples = embeddings.dim(0);
  rows_ = context.device().tensor({samples, form.columns()});
  if (form.linear) {
    context.backend.head->append_one(embeddings, rows_);
  } else {
    norm_ = context.device().tensor({samples});
    context.backend.head->row_normalize(embeddings, rows_, norm_);
  }
}

Tensor HeadInput::gradient(Context& context, const Tensor& d_rows) const {
  Tensor gradient = context.device().tensor({rows_.dim(0), embedding_size_});
  if (norm_.defined()) {
    context.backend.head->row_normalize_backward(rows_, norm_, d_rows, gradient);
  } else {
    context.backend.head->append_one_backward(d_rows, gradient);
  }
  return gradient;
}

}  // namespace plsc
