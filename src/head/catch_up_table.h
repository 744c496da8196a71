// What the last thousand steps did to rows that were not sampled: for each step the product of the 2x2 matrices from
// that step to now, so that a row of any age within the window is caught up by one matrix. With AdamW, whose matrices
// lack an entry that is the row's own, also what each step adds to that (kernels/math/catch_up.h).
#pragma once
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/row_source.h"

namespace plsc {

class CatchUpTable {
 public:
  /// Steps that the table goes back. Every row is brought up to date at least as often: each class has its turn every
  /// kTurns steps (RowStore::turn). One that then lags by no more than kFew may miss it: at the next it still lags no
  /// more than the window. Of rows that are sampled now and then hardly any lags so far, so that a turn costs next to
  /// nothing.
  static constexpr int64_t kWindow = 1024, kTurns = kWindow / 4, kFew = kWindow - kTurns;

  /// Updates so far; the number of the next one.
  int64_t next() const { return next_; }
  int64_t first() const { return next_ - static_cast<int64_t>(products_.size()); }
  /// One more update, with this rule, of sgd, lars or adamw; `number`: math::update_number, which adamw wants.
  void append(const math::UpdateRule& rule, int64_t number);
  /// One more of this kind of rule, which left every row as it was.
  void append_skipped(math::UpdateKind kind);
  /// For a head whose rows never lag: counts, without products.
  void count_update() { ++next_; }
  void forget_products() {
    products_.clear();
    coasting_.clear();
    stale_ = true;
  }
  /// Whether rows are caught up as AdamW's. A table without products has no rows to catch up.
  bool is_adamw() const { return !coasting_.empty(); }

  /// What the passes need to read rows as if they had taken every update; `last_update` null: nothing lags.
  RowLag lag(Device& device, int64_t* last_update);
  /// The products in fp32 on the host, (next - first, 4). Stays as it is until the table changes.
  const Tensor& steps();
  /// The same of coasting steps, (next - first, 5) fp64; undefined where there are none.
  const Tensor& coasting();

  /// `update`: the optimizer whose state is beside it.
  std::string to_json(bool lagging, math::UpdateKind update) const;
  struct Stored {
    bool lagging = false;  // the rows beside the table
    math::UpdateKind update = math::UpdateKind::sgd;
  };
  /// Throws Error where the text is not what to_json writes.
  Stored from_json(const std::string& text);

 private:
  void append(const math::CatchUpMatrix<double>& step);
  void append(const math::CoastingStep& step);
  void refresh();

  int64_t next_ = 0;
  std::vector<math::CatchUpMatrix<double>> products_;  // of updates [first() + i, next)
  std::vector<math::CoastingStep> coasting_;           // of update first() + i; empty, or as many
  // Made when they are asked for: the products in fp32, (products, 4), and the coasting steps, (products, 5), on the
  // host and in device memory.
  Tensor rounded_, on_device_, coasting_on_host_, coasting_on_device_;
  bool stale_ = true;
};

}  // namespace plsc
