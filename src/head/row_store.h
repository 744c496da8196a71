// One rank's class centres with their optimizer's state (momentum or first moment an element, and AdamW's and LAMB's
// second moment, one number a row), in device memory or in host memory that the device reaches, and the
// views of them that the passes take: all rows, or those at an index; as they lie, or as they would be had they not
// been left out of some steps. A GPU has the rows of a sampled step in its own memory for as long as that takes
// (backend/row_buffers.h).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/optim_ops.h"
#include "head/catch_up_table.h"
#include "head/class_sampler.h"
#include "head/margin_head.h"
#include "runtime/context.h"

namespace plsc {

class RowStore final {
 public:
  struct Options {
    int64_t first_class = 0, rows = 0, columns = 0;
    int64_t zero_columns = 0;     // the last ones, which first values leave at 0
    Dtype type = Dtype::f32;      // of the centres: fp32, or bf16, which updates round by chance
    Dtype momentum = Dtype::f32;  // the same for momentum
    bool on_host = false;         // in the device's table_memory, all but what is one number a row
    bool lagging = false;         // rows that a step leaves out are to be caught up later
    math::UpdateKind update = math::UpdateKind::sgd;
    int64_t padding = 0;  // the last columns, which are always 0
  };
  /// Rows without values.
  RowStore(Context& context, const Options& options);
  /// First values, drawn as HeadOps::init_rows does.
  void init(Context& context, float std);

  /// A view for one pass: it borrows the store's memory and stands until the next change of the store.
  class View final : public RowSource {
   public:
    int64_t count() const override { return index_.defined() ? index_.dim(0) : rows_; }
    int64_t columns() const override { return columns_; }
    RowTile open(int64_t begin, int64_t count, RowAccess access) override;
    void close(const RowTile&, RowAccess) override {}

   private:
    friend class RowStore;
    int64_t rows_ = 0, columns_ = 0;
    int64_t first_ = 0, stride_ = 1;  // of a part of all rows; 0 and 1: they begin with the first and leave none out
    bool far_ = false;
    Tensor weight_;
    Tensor momentum_;  // undefined where there is none
    Tensor second_;    // the same
    int64_t padding_ = 0;
    RowRounding rounding_;
    Tensor index_;
    RowLag lag_;
  };
  /// The rows at `index` (n, i64, device memory, ascending), or all where it is undefined. Their state is made by the
  /// first view that updates: until then nothing lags, and readers have no use for it.
  View view(Context& context, RowAccess access, const Tensor& index = {});

  // The rows of a step, in this order: prepare_step, begin_step, step_view as often as it takes, finish_update. Other
  // views are for between steps.
  /// Begins to bring the rows that were sampled to where the device works on them.
  void prepare_step(Context& context, const Sampling& sampling);
  ActiveClasses begin_step(const Sampling& sampling);
  View step_view(Context& context, RowAccess access);

  int64_t rows() const { return centers_.dim(0); }
  int64_t columns() const { return centers_.dim(1); }

  /// After an update of the rows of the step, or of others (all of them, where rows do not lag): the rest missed it.
  void finish_update(Context& context, const math::UpdateRule& update);

  /// Tensors by name, as they lie: "centers", "momentum", "second_moment" where the optimizer has one, and
  /// "last_update" where rows lag. Rows in host memory may be read there until the next change of the store.
  std::vector<std::pair<std::string, Tensor>> state(Context& context);
  /// See MarginHead::state_to_fill.
  std::vector<std::pair<std::string, Tensor>> state_to_fill(Context& context, const std::vector<std::string>& stored,
                                                            RestoreFor purpose);
  std::string table() const { return table_.to_json(lagging_, update_); }
  void restore_table(Context& context, const std::string& text, const RowChanges& changes);
  /// Centres as they would be read now, without momentum or moments and at update 0.
  void start_over(Context& context);

 private:
  void make_optimizer_state(Context& context);
  void forget_optimizer_state(Context& context);
  View make_view(Context& context, RowAccess access, const Tensor& index);
  /// Rows that are brought up to date now if they lag far behind, a part of all classes, whatever their rank: none ever
  /// lags further than the table's window, however seldom it is sampled.
  View turn(Context& context);
  void sweep(Context& context);
  /// What the device is given from now on sees the tables as they are after the last step.
  void settle(Context& context);
  /// The same, before tables are taken away.
  void forget_steps(Context& context);
  Tensor new_table(Context& context, Shape shape, Dtype type) const;
  /// Until the device is done with rows that lie in host memory.
  void wait_for_rows(Context& context) const;
  std::string lag_error(bool filled, const std::vector<int64_t>& last_update) const;
  void catch_up_all(Context& context, Tensor& last_update);
  /// Rows that lag in a checkpoint: `last` is what it says of them, and `moved` that they are not to lag any more.
  void restore_lag(Context& context, Tensor& last, const RowChanges& changes);

  int64_t first_class_, zero_columns_;
  bool has_values_ = false;    // drawn, or being filled from a checkpoint
  Tensor centers_, momentum_;  // (rows, D); momentum is undefined while it is zero and nothing lags
  Tensor second_;              // (rows) f32: AdamW's and LAMB's second moment; as momentum_
  Dtype momentum_type_;
  math::UpdateKind update_;
  int64_t padding_;
  int64_t number_ = 0;  // of AdamW's next update (math::update_number); 0 while that is not known
  bool on_host_;
  Tensor last_update_;  // (rows) i64: the updates that a row has taken; undefined where rows do not lag
  Tensor filled_;       // last_update of a checkpoint being read, where this store has none
  CatchUpTable table_;
  bool lagging_;
  ActiveClasses active_;                          // of the step
  std::unique_ptr<RowBuffers> buffers_;           // null where steps work on the tables
  std::optional<FetchedRows> fetched_;            // the step's rows, in a buffer
  bool turn_due_ = false;                         // since the last update
  RestoreFor filled_for_ = RestoreFor::training;  // of the last state_to_fill
};

}  // namespace plsc
