// Batches for one rank, in an order that depends on (seed, epoch) and on nothing else.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "config/step_map.h"
#include "data/source.h"
#include "runtime/context.h"

namespace plsc {

/// This rank's slice of one micro-batch.
struct Batch {
  Tensor bytes;                  // (b, H, W, C) u8 on the host
  Tensor flip;                   // (b) u8: mirror this image
  std::vector<int64_t> labels;   // b
  std::vector<int64_t> samples;  // b: indices into the source
  int64_t first_sample = 0;      // position of the slice within the step's global batch
};

struct LoaderOptions {
  DataConfig data;
  uint64_t seed = 1;
  int rank = 0, ranks = 1;
  int local_ranks = 1;       // ranks that share this node (threads, cache)
  int64_t global_batch = 0;  // samples of an optimizer step; of the first, where the batch grows
  int64_t micro_batches = 1;
  int64_t pipeline = 1;  // each of them is cut into so many
  GrowConfig grow;
  int64_t first_step = 0;  // resume: the cursor
  int64_t last_step = 0;   // exclusive
  /// Names the decoded cache that the local ranks share: the same on all ranks of a job, another for every job (its
  /// output folder). Empty: each rank has a cache of its own, of cache_limit / local_ranks.
  std::string cache_key;
};

/// The step's global batch is cut into micro-batches first and each of these over the ranks (the first ranks take one
/// more), so that neither cut changes which samples a micro-batch holds.
/// An epoch's order is one permutation of (seed, epoch); which of it a step takes, and what is dropped, says config/
/// step_map.h. Decoding runs on
/// `data.workers` threads, ahead of the consumer; the batches do not depend on the number of threads.
class Loader {
 public:
  virtual ~Loader() = default;
  /// All micro-batches of the next step.
  virtual std::vector<Batch> next() = 0;
  virtual const StepMap& steps() const = 0;
  /// Samples of this rank replaced since the start because they could not be read (data.on_error: skip). The trainer
  /// adds them up over the ranks: warnings of other ranks than 0 reach train.log alone.
  virtual int64_t skipped() const = 0;
  /// Seconds that `next` waited for decoding since the last call of this.
  virtual double take_wait_seconds() = 0;
};

/// `source` must outlive the loader. Throws Error when the data holds fewer samples than the largest global batch.
std::unique_ptr<Loader> make_loader(const DataSource& source, const LoaderOptions& options, Log& log);

/// Decodes and shapes one sample as `data` says (channels, image_size, resize), into out (H*W*C bytes).
void decode_image(const RawSample& sample, const DataConfig& data, std::span<uint8_t> out);

}  // namespace plsc
