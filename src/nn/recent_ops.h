// Prepared ops by spec, for layers whose batch size varies: micro-batches, the last batch of an evaluation.
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

namespace plsc {

/// Keeps the few ops that were used last. An op may remember its last forward pass, so each layer has its own.
template <class Spec, class Op>
class RecentOps {
 public:
  /// The op of `spec`, made by `make(spec)` where it is not among the kept ones. Valid until the next call.
  template <class Make>
  Op& get(const Spec& spec, Make&& make) {
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Entry& e) { return e.spec == spec; });
    if (found != kept_.end()) {
      std::rotate(kept_.begin(), found, found + 1);
    } else {
      std::unique_ptr<Op> op = make(spec);
      if (kept_.size() == kMost) kept_.pop_back();
      kept_.insert(kept_.begin(), Entry{spec, std::move(op)});
    }
    return *kept_.front().op;
  }

 private:
  struct Entry {
    Spec spec;
    std::unique_ptr<Op> op;
  };
  static constexpr size_t kMost = 4;
  std::vector<Entry> kept_;  // last used first
};

}  // namespace plsc
