// Sums gradients over the ranks. All gradients live in one flat buffer (fp32, or fp64 where the context asks for sums
// in double) whose pieces are the parameters' grad tensors, so nothing is packed or copied; buckets of it are
// all-reduced. The statistics that ride with them have an fp64 buffer of their own, which is the last bucket.
// Parameters with a part of a compressed gradient (Param::part) have buckets of optim/compressor.h among these.
#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "config/config.h"
#include "optim/compressor.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

struct GradSyncOptions {
  int64_t bucket_bytes = CommConfig{}.bucket;  // a bucket is full when it has as many
  bool bf16 = false;  // gradients are sent as bf16 and summed in fp32 (Collective::start_all_reduce_bf16)
  // Of compressed gradients, where there are any.
  double share = 1;  // see Compressor::set_share
  float weight_decay = 0;
  /// 0: off. A rank's gradients, of all parameters, are clipped to this norm before anything of them is sent or kept.
  /// As that norm is known when the backward pass is complete, nothing starts before.
  double local_clip = 0;
  bool trust = false;  // see CompressorOptions
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
  /// After the last `run` of a step, when its overflow is known otherwise: judges what has been sent, and then keeps
  /// what has not. Nothing where no gradient is compressed.
  void settle(Context& context);

  /// What Compressor::set_share says of compressed gradients, where there are any; whether it has changed.
  bool set_share(Context& context, double share);

  /// Whether there are compressed gradients.
  bool compresses() const { return compressor_.has_value(); }
  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }

 private:
  struct Bucket {
    Tensor elements;                   // a piece of a flat buffer; of a compressed one undefined
    std::optional<size_t> compressed;  // its number in the compressor
    int64_t last = 0;                  // place of its last parameter among all of them, by which buckets are in order
    int64_t params = 0;                // gradients in it
    int64_t open = 0;                  // announcements still to come in this step
    Pending pending;
    bool started = false;
  };
  /// Parameters with their places among all of them.
  using Placed = std::vector<std::pair<Param*, int64_t>>;
  void place_gradients(Context& context, const Placed& trainable);
  void place_compressed(Context& context, const Placed& trainable);
  void sort_buckets();
  void clip(Context& context);
  void place_statistics(Context& context, const std::vector<Tensor*>& summed);
  void start(Context& context, size_t bucket);

  GradSyncOptions options_;
  std::optional<Compressor> compressor_;
  Tensor flat_;     // of the gradients that are sent whole
  Tensor squares_;  // (2) fp64: of these and of the others
  std::vector<Bucket> buckets_;
  std::unordered_map<const Param*, size_t> bucket_of_;
  bool announced_ = false;
};

}  // namespace plsc
