#include "train/step_order.h"

#include "base/error.h"

namespace plsc {
namespace {

void add_one(std::vector<StageOf>& order, size_t batch) {
  for (const Stage stage : {Stage::forward, Stage::head_forward, Stage::head_backward, Stage::backward})
    order.push_back({stage, batch});
}

void add_pipeline(std::vector<StageOf>& order, size_t first, size_t count) {
  constexpr size_t kLast = static_cast<size_t>(Stage::head_backward);
  for (size_t round = 0; round < count + kLast; ++round) {
    for (size_t late = 0; late <= kLast; ++late) {
      if (round >= late && round - late < count) order.push_back({static_cast<Stage>(late), first + round - late});
    }
  }
  for (size_t i = 0; i < count; ++i) order.push_back({Stage::backward, first + i});
}

}  // namespace

std::vector<StageOf> step_order(size_t micro_batches, size_t together) {
  PLSC_CHECK(together >= 1 && micro_batches % together == 0, "{} micro-batches, {} together", micro_batches, together);
  std::vector<StageOf> order;
  for (size_t first = 0; first < micro_batches; first += together) {
    if (together == 1) add_one(order, first);
    if (together > 1) add_pipeline(order, first, together);
  }
  return order;
}

}  // namespace plsc
