// Reading on all ranks, of which one alone may meet damage: what it finds is every rank's.
#include <algorithm>

#include "checkpoint/checkpoint.h"

namespace plsc {

void read_together(Context& context, const std::function<void()>& work) {
  constexpr int64_t kDamaged = 1, kFailed = 2;
  int64_t state = 0;
  std::string error;
  try {
    work();
  } catch (const DamagedError& e) {
    state = kDamaged;
    error = e.what();
  } catch (const std::exception& e) {
    state = kFailed;
    error = e.what();
  }
  // What is wrong beside damage would be so with any checkpoint: that is what is told then.
  const bool other = std::ranges::count(gather_values(context.host, state), kFailed) > 0;
  if (other && state == kDamaged) error.clear();
  try {
    agree_or_fail(context.host, error);
  } catch (const AgreedError& e) {
    if (other) throw;
    throw AgreedDamage(e.what(), e.voice());
  }
}

}  // namespace plsc
