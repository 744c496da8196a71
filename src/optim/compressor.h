// Gradients of which the largest elements alone are sent (comm.compress): Deep Gradient Compression, Lin, Han, Mao,
// Wang, Dally, ICLR 2018. Each node accumulates, element by element, the steps that momentum would make of its own
// gradients, weight decay among them; a step sends the largest of them, each tensor its share, and forgets them there,
// momentum too; the rest waits. What all nodes have sent is added up in the order of the ranks, so that it is the same
// on all of them to the last bit, and is descended without another momentum.
//
// With LARS each step of that momentum is multiplied by a trust ratio, which each node takes from its own gradient:
// that of all nodes is never known. Its rate stays outside of the momentum, other than in the dense update.
//
// A node is a rank, or the ranks of a host (Context::node_group): these first sum a tensor by a reduce-scatter, each
// has a part of the sum, with what is kept of it, and sends the largest of its part. So there is one all-gather over
// all ranks in either case; a node's ranks together send what one rank would have sent.
//
// A gradient counts as it is in Param::grad, a sum over samples that is divided by the global batch: what is sent and
// what waits are in units of the update, and add up over the nodes.
//
// Tensors travel in buckets, as dense ones do: a bucket's choice is made, and its all-gather begun, when backward has
// filled it, with several ranks a node when the next one begins. Nothing that is kept is changed before the step is
// known to be finite: see `settle`.
#pragma once
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "runtime/context.h"
#include "tensor/param.h"

namespace plsc {

/// Makes the parameters' parts (Param::part, momentum and unsent, zeros) of those that are to be compressed: trainable
/// weights of at least `exclude` elements. After freezing, and before a checkpoint is read. Nothing where config has
/// none.
void compress_gradients(Context& context, const std::vector<Param*>& params, const CompressConfig& config);

/// The share of elements that is sent in an epoch (0, 1, ...) on so many nodes: falls to config.ratio by the same
/// factor each epoch of the warm-up. Not more than 1 / nodes, where a dense sum would cost as many bytes and every
/// rank has as many elements of the others as of its own, unless ratio is.
double sent_share(const CompressConfig& config, int64_t epoch, int64_t nodes);
/// The same on the context's nodes; without an epoch that after the warm-up.
double sent_share(const Context& context, const CompressConfig& config,
                  int64_t epoch = std::numeric_limits<int64_t>::max());

struct CompressorOptions {
  int64_t bucket_bytes = CommConfig{}.bucket;  // of gradients, a bucket is full when it has as many
  double share = 1;                            // see set_share
  float weight_decay = 0;
  bool trust = false;  // LARS: a trust ratio for each part of a tensor (math::local_trust_ratio)
};

class Compressor {
 public:
  /// Places the gradients of these parameters, in the order in which backward completes them.
  Compressor(Context& context, const std::vector<Param*>& params, const CompressorOptions& options);

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }
  size_t bucket_of(const Param& param) const { return bucket_of_.at(&param); }
  /// All gradients, padding included, in one piece.
  const Tensor& flat() const { return flat_; }
  double share() const { return share_; }

  /// From the next step on so much is sent. Other buffers then: work that was recorded with them is to be recorded
  /// anew.
  void set_share(Context& context, double share);

  // Of each step, the buckets in their order: start, then finish; then settle.
  void start(Context& context, size_t bucket);
  void poll(size_t bucket);
  void finish(Context& context, size_t bucket);
  /// Judges what was sent, and where updates are not blocked keeps the rest. Gradients then are the sums of what was
  /// sent, with the loss scale, as `Optimizer::step` expects them.
  void settle(Context& context);

 private:
  struct Piece {
    Param* param = nullptr;
    int64_t offset = 0;  // in flat
    UnsentPart part;
    SentPart sent;  // `first` is within the bucket
  };
  struct Bucket {
    int64_t begin = 0, elements = 0;  // of flat
    std::vector<Piece> pieces;
    Tensor sent, gathered;         // (1, 2, k), (ranks, 2, k) i32
    std::vector<Pending> summing;  // within the node, a tensor each
    Pending sending;
    bool chosen = false;
  };
  void place(Context& context, const std::vector<Param*>& params, int64_t bucket_elements);
  void make_parts(Context& context);
  void choose(Context& context, size_t bucket);

  float weight_decay_;
  bool trust_;
  double share_ = 0;
  std::vector<Bucket> buckets_;
  std::unordered_map<const Param*, size_t> bucket_of_;
  Tensor flat_, summed_;  // summed: of the node, this rank's parts; where it is a rank, flat itself
  Tensor room_, squares_;
};

}  // namespace plsc
