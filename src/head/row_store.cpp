// Views, catching up, and what a checkpoint keeps.
#include "head/row_store.h"

#include <algorithm>

namespace plsc {
namespace {

constexpr int64_t kTurns = CatchUpTable::kTurns, kFew = CatchUpTable::kFew;

Tensor constant(Context& context, int64_t rows, int64_t value) {
  Tensor t = context.device().tensor({rows}, Dtype::i64);
  context.device().copy(Tensor::from(std::vector<int64_t>(static_cast<size_t>(rows), value), {rows}), t);
  return t;
}

std::vector<int64_t> host_values(Context& context, const Tensor& t) {
  Tensor host(host_allocator(), t.shape(), Dtype::i64);
  context.device().copy(t, host);
  return host.values<int64_t>();
}

}  // namespace

RowStore::RowStore(Context& context, const Options& options)
    : first_class_(options.first_class),
      zero_columns_(options.zero_columns),
      momentum_type_(options.momentum),
      update_(options.update),
      padding_(options.padding),
      on_host_(options.on_host),
      lagging_(options.lagging) {
  PLSC_CHECK(!lagging_ || update_ != math::UpdateKind::lamb, "rows of lamb cannot be caught up");
  const MemoryScope scope(context.device(), MemoryUse::centers);
  centers_ = new_table(context, {options.rows, options.columns}, options.type);
  if (lagging_) last_update_ = context.device().zeros({options.rows}, Dtype::i64);
}

void RowStore::init(Context& context, float std) {
  context.backend.head->init_rows(centers_, {context.seed, first_class_, std, zero_columns_});
  has_values_ = true;
}

RowTile RowStore::View::open(int64_t begin, int64_t count, RowAccess) {
  PLSC_CHECK(begin >= 0 && begin + count <= this->count());
  RowTile tile;
  tile.begin = begin;
  tile.count = count;
  tile.weight = weight_.raw();
  tile.weight_type = weight_.dtype();
  tile.far = far_;
  tile.rounding = rounding_;
  tile.momentum = momentum_.raw();
  tile.momentum_type = momentum_.dtype();
  tile.padding = padding_;
  if (second_.defined()) tile.second_moment = second_.data<float>();
  tile.lag = lag_;
  if (index_.defined()) {
    tile.index = index_.data<int64_t>() + begin;
    return tile;
  }
  if (first_ != 0 || stride_ != 1) {
    tile.first = first_ + begin * stride_;
    tile.stride = stride_;
    return tile;
  }
  tile.weight = weight_.slice(begin * columns_, {count, columns_}).raw();
  if (tile.rounding.classes != nullptr) {
    tile.rounding.classes += begin;
  } else {
    tile.rounding.first_class += begin;
  }
  if (momentum_.defined()) tile.momentum = momentum_.slice(begin * columns_, {count, columns_}).raw();
  if (tile.second_moment != nullptr) tile.second_moment += begin;
  if (tile.lag.last_update != nullptr) tile.lag.last_update += begin;
  return tile;
}

RowStore::View RowStore::view(Context& context, RowAccess access, const Tensor& index) {
  settle(context);
  return make_view(context, access, index);
}

RowStore::View RowStore::make_view(Context& context, RowAccess access, const Tensor& index) {
  PLSC_CHECK(has_values_, "class centres were used before they were drawn or read");
  if (access == RowAccess::update) make_optimizer_state(context);
  View v;
  v.rows_ = rows();
  v.columns_ = columns();
  v.far_ = on_host_ && !context.device().is_host();
  v.weight_ = centers_;
  v.rounding_ = {context.seed, 2 * table_.next(), first_class_};
  v.momentum_ = momentum_;
  v.second_ = second_;
  v.padding_ = padding_;
  v.index_ = index;
  v.lag_ = table_.lag(context.device(), lagging_ ? last_update_.data<int64_t>() : nullptr);
  return v;
}

void RowStore::prepare_step(Context& context, const Sampling& sampling) {
  if (sampling.rows == nullptr || !on_host_) return;
  make_optimizer_state(context);
  if (buffers_ == nullptr)
    buffers_ = context.backend.head->make_row_buffers({centers_, momentum_, second_, last_update_});
  if (buffers_ == nullptr) return;
  RowTurn due;
  if (turn_due_) {
    View rows = turn(context);
    due.rows = rows.open(0, rows.count(), RowAccess::update);
    due.steps = table_.steps();
    due.coasting = table_.coasting();
    due.few = kFew;
  }
  buffers_->fetch(*sampling.rows, turn_due_ ? &due : nullptr);
  turn_due_ = false;
}

ActiveClasses RowStore::begin_step(const Sampling& sampling) {
  if (buffers_ != nullptr && sampling.rows != nullptr) {
    fetched_ = buffers_->take();
    active_ = {fetched_->index, fetched_->index.dim(0)};
  } else {
    active_ = active_classes(sampling, rows());
  }
  return active_;
}

RowStore::View RowStore::step_view(Context& context, RowAccess access) {
  View v = make_view(context, access, fetched_ ? Tensor() : active_.rows);
  if (!fetched_) return v;
  v.rows_ = active_.local;
  v.far_ = false;
  v.weight_ = fetched_->weight;
  v.momentum_ = fetched_->momentum;
  v.second_ = fetched_->second_moment;
  v.rounding_.classes = active_.rows.data<int64_t>();
  if (lagging_) v.lag_.last_update = fetched_->last_update.data<int64_t>();
  return v;
}

void RowStore::settle(Context& context) {
  if (buffers_ != nullptr) buffers_->settle();
  if (turn_due_) sweep(context);
}

void RowStore::forget_steps(Context& context) {
  settle(context);
  buffers_.reset();
}

void RowStore::make_optimizer_state(Context& context) {
  const MemoryScope scope(context.device(), MemoryUse::centers);
  if (!momentum_.defined()) {
    momentum_ = new_table(context, centers_.shape(), momentum_type_);
    if (!on_host_) context.device().fill_zero(momentum_);  // fresh host memory is zero
  }
  if (!second_.defined() && math::has_second_moment(update_)) second_ = context.device().zeros({rows()});
}

void RowStore::forget_optimizer_state(Context& context) {
  wait_for_rows(context);
  momentum_ = second_ = Tensor();
}

Tensor RowStore::new_table(Context& context, Shape shape, Dtype type) const {
  return on_host_ ? Tensor(context.device().table_memory(), shape, type) : context.device().tensor(shape, type);
}

void RowStore::wait_for_rows(Context& context) const {
  if (on_host_) context.device().synchronize();
}

void RowStore::finish_update(Context& context, const math::UpdateRule& update) {
  if (fetched_) buffers_->write_back();
  fetched_.reset();
  active_ = {};
  if (!lagging_) {
    table_.count_update();
    return;
  }
  // A skipped step left every row as it was. Only these rows wait for the device to say so; and AdamW's, once, for how
  // many updates there were.
  bool skipped = false;
  if (context.loss_scaling || (update.kind == math::UpdateKind::adamw && number_ == 0)) {
    const math::StepState state = to_step_state(start_state_read(context.backend)->get());
    skipped = context.loss_scaling && math::updates_blocked(state);
    number_ = math::update_number(state);
  }
  skipped ? table_.append_skipped(update.kind) : table_.append(update, number_++);
  turn_due_ = true;
  // Rows of a skipped step are not up to date in its buffer: they have their turn where they lie.
  if (buffers_ == nullptr || skipped) settle(context);
}

RowStore::View RowStore::turn(Context& context) {
  View part = make_view(context, RowAccess::update, {});
  part.stride_ = kTurns;
  // The first row of this rank whose class is congruent to the step.
  part.first_ = ((table_.next() - first_class_) % kTurns + kTurns) % kTurns;
  part.rows_ = (rows() - part.first_ + kTurns - 1) / kTurns;
  ++part.rounding_.update;  // the next step may update the same rows: with draws of its own
  return part;
}

void RowStore::sweep(Context& context) {
  View rows = turn(context);
  if (rows.count() > 0) context.backend.head->catch_up_rows(rows, kFew);
  turn_due_ = false;
}

std::vector<std::pair<std::string, Tensor>> RowStore::state(Context& context) {
  PLSC_CHECK(has_values_, "class centres were saved before they were drawn or read");
  settle(context);
  make_optimizer_state(context);
  wait_for_rows(context);
  std::vector<std::pair<std::string, Tensor>> out{{"centers", centers_}, {"momentum", momentum_}};
  if (math::has_second_moment(update_)) out.emplace_back("second_moment", second_);
  if (lagging_) out.emplace_back("last_update", last_update_);
  return out;
}

std::vector<std::pair<std::string, Tensor>> RowStore::state_to_fill(Context& context,
                                                                    const std::vector<std::string>& stored,
                                                                    RestoreFor purpose) {
  forget_steps(context);
  filled_for_ = purpose;
  const auto has = [&](const std::string& name) { return std::ranges::find(stored, name) != stored.end(); };
  std::vector<std::pair<std::string, Tensor>> out;
  if (has("centers")) {
    out.emplace_back("centers", centers_);
    has_values_ = true;
  }
  const bool lag = has("last_update");
  if (has("momentum") && (lag || purpose == RestoreFor::training)) {
    make_optimizer_state(context);
    out.emplace_back("momentum", momentum_);
    if (has("second_moment")) {
      // The rows of another optimizer may need theirs to be caught up.
      if (!second_.defined()) second_ = context.device().zeros({rows()});
      out.emplace_back("second_moment", second_);
    }
  }
  if (lag) {
    if (!lagging_) filled_ = constant(context, rows(), -1);
    out.emplace_back("last_update", lagging_ ? last_update_ : filled_);
  }
  wait_for_rows(context);
  return out;
}

void RowStore::restore_table(Context& context, const std::string& text, const RowChanges& changes) {
  forget_steps(context);
  number_ = 0;
  const CatchUpTable::Stored stored = table_.from_json(text);
  Tensor last = lagging_ ? last_update_ : filled_;
  filled_ = Tensor();
  const bool same = math::same_state(stored.update, update_);
  if (stored.lagging) {
    restore_lag(context, last, {.fresh = changes.fresh, .moved = changes.moved || !same});
  } else if (lagging_) {
    last_update_ = constant(context, rows(), table_.next());
  }
  if (same) return;
  table_.forget_products();
  if (filled_for_ == RestoreFor::training) {
    context.log.warn(
        "the checkpoint's class centres were updated by {}, from here on they are by {}, which begins anew: their {} "
        "not "
        "used",
        math::name_of(stored.update), math::name_of(update_),
        math::has_second_moment(stored.update) ? "moments are" : "momentum is");
  }
  forget_optimizer_state(context);
}

void RowStore::restore_lag(Context& context, Tensor& last, const RowChanges& changes) {
  const bool filled = last.defined() && momentum_.defined() && (second_.defined() || !table_.is_adamw());
  std::vector<int64_t> values = filled ? host_values(context, last) : std::vector<int64_t>();
  if (filled && !changes.fresh.empty()) {
    for (const int64_t row : changes.fresh) values[static_cast<size_t>(row)] = table_.next();
    context.device().copy(Tensor::from(values, last.shape()), last);
  }
  agree_or_fail(context.host, lag_error(filled, values));
  // Classes with other numbers come to their turns at other steps, which for some would be too late.
  if (!lagging_ || changes.moved) catch_up_all(context, last);
  if (!lagging_) table_.forget_products();
}

void RowStore::start_over(Context& context) {
  forget_steps(context);
  if (lagging_) {
    if (momentum_.defined()) catch_up_all(context, last_update_);
    last_update_ = constant(context, rows(), 0);
  }
  table_ = CatchUpTable();
  number_ = 0;
  forget_optimizer_state(context);
}

/// What is wrong with the last updates that a checkpoint gave; empty where nothing is.
std::string RowStore::lag_error(bool filled, const std::vector<int64_t>& last_update) const {
  if (!filled) {
    return "the checkpoint's class centres lag behind by the steps that they were not sampled in, but were read "
           "without their 'last_update' and 'momentum' (with adamw 'second_moment', too)\n  hint: resume with the "
           "head.sampling and head.update of that "
           "run";
  }
  for (size_t i = 0; i < last_update.size(); ++i) {
    if (last_update[i] >= table_.first() && last_update[i] <= table_.next()) continue;
    return fmt::format(
        "class centre {} of this rank was last updated at step {}, outside of the catch-up table's {}..{}\n"
        "  hint: the checkpoint is damaged; use another one",
        i, last_update[i], table_.first(), table_.next());
  }
  return {};
}

void RowStore::catch_up_all(Context& context, Tensor& last_update) {
  View all = make_view(context, RowAccess::update, {});
  ++all.rounding_.update;  // as in sweep
  all.lag_ = table_.lag(context.device(), last_update.data<int64_t>());
  context.backend.head->catch_up_rows(all, 0);
}

}  // namespace plsc
