// What the last thousand steps did to rows that were not sampled: for each step the product of the 2x2 matrices from
// that step to now, so that a row of any age within the window is caught up by one matrix.
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
  /// One more update, with this rule.
  void append(const math::SgdRule& rule);
  /// For a head whose rows never lag: counts, without products.
  void count_update() { ++next_; }
  void forget_products() { products_.clear(); }

  /// What the passes need to read rows as if they had taken every update; `last_update` null: nothing lags.
  RowLag lag(Device& device, int64_t* last_update);
  /// The products in fp32 on the host, (next - first, 4). Stays as it is until the table changes.
  const Tensor& steps();

  std::string to_json(bool lagging) const;
  /// Throws Error where the text is not what to_json writes. Returns whether the rows beside it lag.
  bool from_json(const std::string& text);

 private:
  int64_t next_ = 0;
  std::vector<math::CatchUpMatrix<double>> products_;  // of updates [first() + i, next)
  // The same in fp32, (products, 4), made when they are asked for: on the host and in device memory.
  Tensor rounded_, on_device_;
  bool stale_ = true;
};

}  // namespace plsc
