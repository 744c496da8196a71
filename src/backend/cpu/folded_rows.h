// Rows of channels folded into longer rows, and split over threads: batch norm's loops run over columns, and 32 of them
// are too few to run at the speed of memory.
#pragma once
#include <cstdint>
#include <vector>

#include "backend/cpu/parts.h"

namespace plsc {

/// `rows` rows of `channels` as full rows of `width` = fold * channels, and what is left over as plain rows.
class FoldedRows {
 public:
  FoldedRows(int64_t rows, int64_t channels, int threads)
      : rows_(rows), channels_(channels), fold_(kColumns / channels > 1 ? kColumns / channels : 1) {
    if (fold_ > rows) fold_ = rows > 0 ? rows : 1;
    parts_ = parts_for(rows * channels, kElementsPerPart, threads);
  }

  int64_t channels() const { return channels_; }
  int64_t width() const { return fold_ * channels_; }
  int parts() const { return parts_; }

  /// body(first element, rows, width, part) for blocks of at most `block` rows of equal width: each thread's folded
  /// rows, then on the last thread the rows left over, whose width is `channels`.
  template <class Body>
  void for_blocks(int64_t block, const Body& body) const {
    const int64_t folded = rows_ / fold_;
    parallel_ranges(folded, parts_, [&](int64_t begin, int64_t end, int part) {
      for (int64_t r = begin; r < end; r += block) body(r * width(), std::min(block, end - r), width(), part);
      const int64_t left = rows_ - folded * fold_;
      if (part == parts_ - 1 && left > 0) body(folded * width(), left, channels_, part);
    });
  }

  /// (channels) repeated over the width.
  std::vector<float> columns(const float* values) const {
    std::vector<float> out(static_cast<size_t>(width()));
    for (int64_t i = 0; i < width(); ++i) out[static_cast<size_t>(i)] = values[i % channels_];
    return out;
  }

 private:
  static constexpr int64_t kColumns = 512;
  int64_t rows_, channels_, fold_;
  int parts_;
};

}  // namespace plsc
