// manifest.json: which files a checkpoint has, the checksum of each of their blocks, and where every tensor lies.
#pragma once
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace plsc {

struct ManifestFile {
  std::string file;  // a plain name in the checkpoint's folder
  int64_t bytes = 0;
  std::vector<uint64_t> checksums;  // one a block
};

/// Where a tensor, or rows [row_begin, row_end) of it, lies.
struct ManifestPart {
  std::string file;
  int64_t row_begin = 0, row_end = 0;  // sharded tensors only
};

struct ManifestTensor {
  std::string group;  // backbone | optimizer | head | head_optimizer | compressed
  TensorSpec spec;    // the shape is that of the whole tensor
  bool sharded = false;
  std::vector<ManifestPart> parts;  // one where not sharded; else by rows, without gaps
};

struct Manifest {
  int64_t step = 0, ranks = 0;
  int64_t block_bytes = 0;
  std::string meta = "{}";  // JSON object
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;

  const ManifestFile* find_file(const std::string& file) const;
  const ManifestTensor* find(const std::string& group, const std::string& name) const;
  /// Adds what another rank wrote: its files, and its parts of the sharded tensors.
  void add(Manifest&& other);
  /// Every reference resolves and the rows of every sharded tensor are covered; Error names `where`.
  void check_whole(const std::string& where) const;

  std::string to_text() const;
  /// Throws Error when the text is cut short, changed (it carries its own checksum) or of a newer format.
  static Manifest parse(const std::string& text, const std::string& where);
};

}  // namespace plsc
