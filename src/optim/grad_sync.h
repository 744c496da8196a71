// Sums gradients over the ranks. All gradients live in one flat buffer (fp32, or fp64 where the context asks for sums
// in double) whose pieces are the parameters' grad tensors, so nothing is packed or copied; buckets of it are
// all-reduced. The statistics that ride with them have an fp64 buffer of their own, which is the last bucket.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

struct GradSyncOptions {
  int64_t bucket_bytes = CommConfig{}.bucket;  // a bucket is full when it has as many
  bool bf16 = false;  // gradients are sent as bf16 and summed in fp32 (Collective::start_all_reduce_bf16)
};

class GradSync {
 public:
  /// Gives every trainable parameter a gradient inside the flat buffer, in reverse order (backward fills the last
  /// ones first), and moves the `summed` tensors (fp64) into theirs. Call it before the first backward pass and after
  /// freezing.
  GradSync(Context& context, const std::vector<Param*>& params, const std::vector<Tensor*>& summed,
           const GradSyncOptions& options = {});
  /// The same for a network: anything that has params() and summed().
  template <class Network>
  GradSync(Context& context, Network& network, const GradSyncOptions& options = {})
      : GradSync(context, network.params(), network.summed(), options) {}

  /// Announces a step of `micro_batches` backward passes whose `notify` calls will come. Without it, or without
  /// notify, `run` starts everything.
  void begin(int64_t micro_batches);
  /// The gradient of `param` for one micro-batch is complete. A bucket starts its all-reduce when the last of its
  /// parameters has been announced for the last micro-batch. The same order on every rank.
  void notify(Context& context, const Param& param);
  /// Starts what has not been started and waits for all of it, in order.
  void run(Context& context);

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }

 private:
  struct Bucket {
    Tensor elements;     // a piece of a flat buffer
    int64_t params = 0;  // gradients in it
    int64_t open = 0;    // announcements still to come in this step
    Pending pending;
    bool started = false;
  };
  void place_gradients(Context& context, const std::vector<Param*>& trainable);
  void place_statistics(Context& context, const std::vector<Tensor*>& summed);
  void start(Context& context, size_t bucket);

  GradSyncOptions options_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Param*, size_t> bucket_of_;
  bool announced_ = false;
};

}  // namespace plsc
