// Sharded checkpoints: written by all ranks together, read by any number of ranks. Formats: safetensors files and a
// manifest with a checksum per 16-MiB block; see "Checkpoints" in src/README.md.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "comm/errors.h"
#include "runtime/context.h"

namespace plsc {

/// A tensor that is the same on all ranks (written once), on the host or a device.
struct NamedTensor {
  std::string name;
  Tensor value;
};
/// A tensor with one row per class; this rank holds `rows` = [begin, begin + rows.dim(0)) of `total`.
struct NamedRows {
  std::string name;
  Tensor rows;
  int64_t begin = 0, total = 0;
};

/// A text that lies beside the tensors, as a file of its own under the same checksums.
struct NamedText {
  std::string file;
  std::string text;
};

struct CheckpointContent {
  int64_t step = 0;
  std::string meta;  // JSON object: epoch, cursor, seed, config, versions, ...: kept in the manifest as "meta"
  std::vector<NamedTensor> backbone;      // backbone.safetensors
  std::vector<NamedTensor> backbone_ema;  // backbone_ema.safetensors, where there is an average
  std::vector<NamedTensor> optimizer;     // optimizer.safetensors
  std::vector<NamedRows> head;            // head.RRRRR-of-WWWWW.safetensors
  std::vector<NamedRows> head_optimizer;  // optimizer.RRRRR-of-WWWWW.safetensors
  /// What each node keeps of gradients (train/compressed_state.h): rows are elements, all nodes' in turn.
  std::vector<NamedRows> compressed;  // compressed.RRRRR-of-WWWWW.safetensors
  std::vector<NamedText> texts;       // rank 0's count
};

std::string checkpoints_folder(const std::string& output);  // output/checkpoints
std::string step_name(int64_t step);                        // step_00001200

struct KeepPolicy {
  int64_t keep = 3;
  int64_t keep_every = 0;            // steps; such checkpoints are never pruned
  std::optional<int64_t> best_step;  // never pruned
};

/// Writes output/checkpoints/step_XXXXXXXX through a temporary folder: fsync, rename, then `latest`, then pruning.
/// All ranks call it. On any rank's failure (a full disk) every rank throws the same AgreedError, the older checkpoints
/// stay as they were, and the ranks may go on together. Returns the folder.
std::string save_checkpoint(Context& context, const std::string& output, const CheckpointContent& content,
                            const KeepPolicy& keep);

/// Error on all ranks where `output` has no room for a checkpoint of that content. All ranks call it.
void require_checkpoint_space(Context& context, const std::string& output, const CheckpointContent& content);

/// A checkpoint that was whole when it was written does not hold what was written: a checksum or the system's own
/// reading says so. Another checkpoint may be well.
class DamagedError : public Error {
 public:
  using Error::Error;
};
/// A DamagedError of one rank or several, which every rank throws at the same place.
class AgreedDamage : public AgreedError {
 public:
  using AgreedError::AgreedError;
};
/// Runs `work`, which reads from checkpoints and meets no other rank, on each rank. Where it fails on one, every rank
/// throws: AgreedDamage where damage is all that is wrong, else AgreedError. All ranks call it.
void read_together(Context& context, const std::function<void()>& work);

/// One checkpoint for reading. Every block that is read is checked against its checksum: DamagedError.
class CheckpointReader {
 public:
  /// Reads the manifest and checks the files' sizes; Error says what is missing. `folder` may also be one
  /// .safetensors file (weights alone, no manifest), or the file `latest` beside the checkpoints.
  static std::unique_ptr<CheckpointReader> open(const std::string& folder);
  virtual ~CheckpointReader() = default;

  struct TensorInfo {
    std::string name;
    Shape shape;  // of the whole tensor, over all shards
    Dtype dtype;
    std::string group;  // "backbone", "backbone_ema", "optimizer", "head", "head_optimizer", "compressed"
  };
  virtual int64_t step() const = 0;
  virtual const std::string& meta() const = 0;  // JSON object
  virtual int64_t ranks() const = 0;            // that wrote it; 0: a lone .safetensors file
  virtual const std::string& folder() const = 0;
  virtual std::vector<TensorInfo> tensors() const = 0;
  bool has(const std::string& group, const std::string& name) const { return find(group, name).has_value(); }
  virtual std::optional<TensorInfo> find(const std::string& group, const std::string& name) const = 0;
  /// The whole tensor into `to` (same shape and type, host or device).
  virtual void read(Context& context, const std::string& group, const std::string& name, Tensor& to) const = 0;
  /// Rows [begin, begin + to.dim(0)), from as many shards as they lie in; reads only the blocks it needs.
  virtual void read_rows(Context& context, const std::string& group, const std::string& name, int64_t begin,
                         Tensor& to) const = 0;

  /// A text of CheckpointContent::texts; empty where the checkpoint has none of that name.
  virtual std::string text(const std::string& file) const = 0;

  struct FileInfo {
    std::string file;
    int64_t bytes = 0;
    std::vector<TensorInfo> tensors;
    int64_t row_begin = 0, row_end = 0;  // shards only
  };
  virtual std::vector<FileInfo> files() const = 0;
  /// Reads everything and checks every block. Error names the file and the block.
  virtual void verify() const = 0;
};

/// Folders of whole checkpoints below output/checkpoints, oldest first. What is not whole is skipped and named in
/// `rejected` with the reason. Error when the folder is there and cannot be listed.
struct CheckpointList {
  std::vector<std::string> whole;
  std::vector<std::string> rejected;
};
CheckpointList list_checkpoints(const std::string& output);

/// For a run that goes on from an earlier checkpoint than its newest (`--resume DIR`): moves the checkpoints of later
/// steps to output/checkpoints/set_aside, where nothing lists, resumes from or prunes them, since they belong to a past
/// that the run leaves. `latest` then names the newest that stays. One process calls it. The names that were moved.
std::vector<std::string> set_aside_later(const std::string& output, int64_t step);

}  // namespace plsc
