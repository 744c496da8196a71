#include "nn/batch_norm.h"

#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

Param buffer(const std::string& name, Tensor value) {
  Param p;
  p.name = name;
  p.kind = ParamKind::buffer;
  p.value = std::move(value);
  return p;
}

}  // namespace

BatchNorm::BatchNorm(Device& device, const std::string& name, const BatchNormOptions& options)
    : name_(name),
      options_(options),
      weight_(make_param(device, name + ".weight", {options.channels}, ParamKind::norm, 1)),
      bias_(make_param(device, name + ".bias", {options.channels}, ParamKind::norm)),
      local_(device.tensor({2 * options.channels + 1}, Dtype::f64)),
      pooled_(device.zeros({2 * options.channels + 1}, Dtype::f64)) {
  weight_.frozen = options.fixed_scale;
  running_mean_ = buffer(name + ".running_mean", filled(device, {options.channels}, 0));
  running_var_ = buffer(name + ".running_var", filled(device, {options.channels}, 1));
  batches_ = buffer(name + ".num_batches_tracked", Tensor::from<int64_t>({0}, Shape()));
}

void BatchNorm::visit(ParamVisitor& visitor) {
  visitor.param(weight_);
  visitor.param(bias_);
  visitor.param(running_mean_);
  visitor.param(running_var_);
  visitor.param(batches_);
  visitor.summed(pooled_);
  visitor.norm(*this);
  visitor.saved(saved_);
}

Tensor BatchNorm::forward(Context& context, const Tensor& x, const Pass& pass, const Fused& fused) {
  const int64_t rows = x.elements() / options_.channels;
  PLSC_CHECK(rows * options_.channels == x.elements(), "{} of {}", name_, x.shape().text());
  PLSC_CHECK(!pass.again() || saved_->apply.mean_rstd.defined(), "{}: a second pass without a first", name_);
  const bool measure = pass.train() && !pass.again() && !frozen();
  BatchNormApply args;
  args.x = x;
  args.mean_rstd = pass.again() ? saved_->apply.mean_rstd
                   : measure    ? batch_statistics(context, x, pass)
                                : running_statistics(context);
  args.gamma = weight_.value;
  args.beta = bias_.value;
  args.residual = fused.residual;
  args.activation = fused.activation;
  if (fused.slope != nullptr) args.slope = fused.slope->value;
  args.y = context.device().tensor(x.shape(), fused.fp32_output ? Dtype::f32 : x.dtype());
  const bool feeds = next_ != nullptr && pass.train() && !pass.again() && !next_->frozen();
  if (feeds) args.sums = next_->local_sums();
  context.nn().batch_norm_apply(args);
  if (feeds) next_->measured_ = args.y;
  if (pass.again()) {
    restore(x);
  } else if (pass.train()) {
    const double samples = static_cast<double>(options_.synchronised ? pass.all_samples : pass.samples);
    save(args, measure ? static_cast<double>(rows / pass.samples) * samples : 0, fused.slope);
    if (!pass.saves()) saved_->apply.x = {};
  }
  return args.y;
}

void BatchNorm::feed(BatchNorm& next) {
  PLSC_CHECK(next.options_.channels == options_.channels, "{} feeds {}", name_, next.name_);
  next_ = &next;
}

void BatchNorm::save(const BatchNormApply& args, double count, Param* slope) {
  *saved_ = {args, count, slope};
  saved_->apply.sums = {};
  // Backward computes z again; only a ReLU behind a residual sum is read off its output. It asks whether there was a
  // residual then, not what it was: that need not be kept beside the output.
  PLSC_CHECK(!args.residual.defined() || args.activation != Activation::prelu, "{}: a PReLU behind a sum", name_);
  const bool reads_output = args.residual.defined() && args.activation == Activation::relu;
  if (!reads_output) saved_->apply.y = {};
  saved_->apply.residual = saved_->apply.y;
}

void BatchNorm::restore(const Tensor& x) {
  PLSC_CHECK(saved_->apply.mean_rstd.defined() && !saved_->apply.x.defined(), "{}: a second pass without a first",
             name_);
  saved_->apply.x = x;
}

Tensor BatchNorm::batch_statistics(Context& context, const Tensor& x, const Pass& pass) {
  const int64_t c = options_.channels, rows = x.elements() / c;
  const bool merge_ranks = options_.synchronised && context.norms().size() > 1;
  if (rows < 2 && !merge_ranks) {
    fail_hint("raise train.batch_size to at least 2 images a rank and micro-batch, or set model.sync_batch_norm: true",
              "batch norm '{}' has a single row on this rank (a local batch of {}): no variance can be estimated",
              name_, pass.samples);
  }
  Device& device = context.device();
  if (local_rows_ != rows) {
    // A copy within the device, which can be recorded; from the host once for each number of rows.
    Tensor& known = row_counts_[rows];
    if (!known.defined()) {
      known = device.tensor({1}, Dtype::f64);
      device.copy(Tensor::from<double>({static_cast<double>(rows)}, {1}), known);
    }
    Tensor count = local_.slice(2 * c, {1});
    device.copy(known, count);
    local_rows_ = rows;
  }
  const bool measured = measured_.defined() && measured_.raw() == x.raw();
  measured_ = {};
  if (!measured) {
    Tensor sums = local_sums();
    context.nn().batch_norm_stats(x, sums);
  }

  // Several micro-batches of a step add up, and the ranks add up in the all-reduce: each contributes its own alone.
  if (pooled_step_ == pass.step.step) {
    context.nn().add(local_, pooled_);
  } else {
    device.copy(local_, pooled_);
  }
  pooled_step_ = pass.step.step;
  measures_ = true;

  Tensor gathered = local_.reshape({1, 2 * c + 1});
  if (merge_ranks) {
    gathered = device.tensor({context.norms().size(), 2 * c + 1}, Dtype::f64);
    context.norms().all_gather(local_, gathered, "statistics of " + name_);
  }
  Tensor mean_rstd = device.tensor({2, c});
  context.nn().batch_norm_merge(gathered, options_.eps, mean_rstd);
  return mean_rstd;
}

Tensor BatchNorm::running_statistics(Context& context) {
  Tensor mean_rstd = context.device().tensor({2, options_.channels});
  context.nn().batch_norm_constants(running_mean_.value, running_var_.value, options_.eps, mean_rstd);
  return mean_rstd;
}

BatchNorm::Gradients BatchNorm::backward(Context& context, const Tensor& dy, const Want& want) {
  PLSC_CHECK(saved_->apply.x.defined(), "{}: backward without forward", name_);
  const Kept saved = std::exchange(*saved_, {});
  BatchNormBackward args;
  args.forward = saved.apply;
  args.dy = dy;
  args.count = saved.count;
  args.sums = context.device().tensor({2, options_.channels}, Dtype::f64);
  const bool learns = !frozen() || (saved.slope != nullptr && saved.slope->trainable());
  if (learns) accumulate_gradients(context, args, saved.slope);
  if (!want.dx && !want.dresidual) return {};

  if (saved.count > 0 && options_.synchronised && context.norms().size() > 1)
    context.norms().all_reduce(args.sums, ReduceOp::sum, "gradient sums of " + name_);
  const Tensor& x = args.forward.x;
  args.add = want.add;
  args.dx = context.device().tensor(x.shape(), x.dtype());
  if (want.dresidual) args.dresidual = context.device().tensor(x.shape(), x.dtype());
  context.nn().batch_norm_backward_apply(args);
  return {args.dx, args.dresidual};
}

void BatchNorm::accumulate_gradients(Context& context, BatchNormBackward& args, Param* slope) {
  const int64_t c = options_.channels;
  const bool slope_trains = slope != nullptr && slope->trainable();
  if (slope_trains) args.dslope = context.device().tensor(slope->value.shape(), Dtype::f64);
  context.nn().batch_norm_backward_sums(args);
  // This rank's sums: the all-reduce of the gradients adds the others'.
  add_gradient(context, bias_, args.sums.slice(0, {c}));
  add_gradient(context, weight_, args.sums.slice(c, {c}));
  if (slope_trains) add_gradient(context, *slope, args.dslope);
}

void BatchNorm::step_was_played(int64_t step) {
  if (measures_) pooled_step_ = step;
}

void BatchNorm::finish_step(Context& context) {
  if (pooled_step_ < 0) return;
  pooled_step_ = -1;
  context.nn().batch_norm_fold(pooled_, kMomentum, running_mean_.value, running_var_.value);
  // Of steps, also of those that an overflow leaves out, which the host does not know yet. Nothing computes with it.
  ++*batches_.value.data<int64_t>();
}

}  // namespace plsc
