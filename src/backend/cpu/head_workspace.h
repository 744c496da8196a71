// What the head's passes on a CPU work in: how active rows are cut into tiles and tiles shared out over threads, and
// each thread's scratch memory.
#pragma once
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "backend/cpu/head_products.h"
#include "backend/cpu/row_weights.h"
#include "backend/device.h"
#include "backend/head_ops.h"

namespace plsc {

/// Thread p of `threads` takes a contiguous run of the tiles; everything depends on the sizes alone.
struct TilePlan {
  int64_t rows = 0;   // active rows
  int64_t tile = 0;   // rows of a tile, a multiple of kRowMultiple
  int64_t tiles = 0;  // the last one may be shorter

  /// Products are made for a multiple of this many rows, so that few different primitives are needed.
  static constexpr int64_t kRowMultiple = 64;
  static TilePlan make(int64_t rows, int64_t samples, int64_t columns, int threads);
  int64_t begin(int64_t t) const { return t * tile; }
  int64_t count(int64_t t) const { return std::min(tile, rows - t * tile); }
};

/// The rows of one tile as the products want them: contiguous, caught up, in the products' type.
struct PreparedTile {
  RowTile source;
  int64_t count = 0, padded = 0;  // rows; with the zero rows behind them
  const void* operand = nullptr;  // (padded, D)
};

/// The tile behind the one that is worked on: its rows are asked for piece by piece in between, so that they come from
/// memory while something is computed. Rows that lie in order are not: the processor sees that by itself, and asking
/// cost fp32 a few per cent.
class NextTile {
 public:
  /// Tile t of `plan`; none where t is `end`: the tiles from there on are another thread's, which may be changing them.
  NextTile(RowSource& rows, const TilePlan& plan, int64_t t, int64_t end);
  ~NextTile();
  NextTile(const NextTile&) = delete;
  NextTile& operator=(const NextTile&) = delete;

  /// f(first, n) for all of `count` rows, some at a time, each time after as many of the next tile's rows were asked
  /// for.
  template <class F>
  void beside(int64_t count, const F& f) const {
    for (int64_t first = 0; first < count; first += kTogether) {
      ask(first, kTogether);
      f(first, std::min(kTogether, count - first));
    }
  }

 private:
  static constexpr int64_t kTogether = 8;  // rows
  void ask(int64_t first, int64_t count) const;

  RowSource& rows_;
  RowTile tile_;  // of no rows: there is no next one
};

/// One thread's memory. Sizes: T rows of a tile, S padded samples, D columns.
struct TileScratch {
  TileScratch(Device& device, int64_t tile, int64_t padded_samples, int64_t columns, Dtype compute);

  /// Opens rows [begin, begin + count), gathers or points at them, and takes their inverse norms (1 where rows count
  /// as they are).
  PreparedTile prepare(RowSource& rows, int64_t begin, int64_t count, RowAccess access);

  /// Row i of an opened tile, caught up, in fp32: where it lies or in `row`.
  const float* row_in_fp32(const PreparedTile& tile, int64_t i);

  /// dx is of that type.
  void take_gradient(Dtype dtype);
  /// dx = 0, in that type.
  void start_gradient(Dtype dtype);

  Device& device;
  int64_t columns;
  Dtype compute;
  bool unit_rows = true;  // HeadPass::unit_rows
  TileProducts products;
  Tensor gathered;                      // (T, D) in the compute type
  Tensor inverse;                       // (T)
  Tensor dots;                          // (T, S) fp32: dot products, then their gradient
  Tensor gradient16;                    // (T, S) bf16
  Tensor row_gradient;                  // (T, D) fp32
  Tensor dx;                            // (S, D) fp32, or fp64 where the pass sums in double
  Tensor max_cosine, max_logit, shift;  // (S)
  std::vector<double> sum;              // (S)
  RowScratch row;                       // one in fp32

 private:
  /// Where the products can take the tile's rows from as they are stored.
  bool stored_as_wanted(const PreparedTile& tile) const;
  void gather(const PreparedTile& tile);
};

/// Scratch for all threads, kept from pass to pass while sizes stay.
class HeadWorkspace {
 public:
  HeadWorkspace(Device& device, int threads) : device_(device), threads_(threads) {}

  /// Makes what is needed for this pass over `rows`.
  void prepare(const RowSource& rows, const HeadPass& pass);
  /// x (B, D) with zero rows up to the padded samples, in the compute type.
  void set_samples(const Tensor& x);

  const TilePlan& plan() const { return plan_; }
  int threads() const { return threads_; }
  int64_t samples() const { return samples_; }
  int64_t padded_samples() const { return padded_; }
  TileScratch& scratch(int part) { return *scratch_[static_cast<size_t>(part)]; }
  const void* x() const { return compute_ == Dtype::f32 ? x32_.raw() : x16_.raw(); }

 private:
  /// Memory for these sizes, kept where it fits.
  void allocate(const RowSource& rows, int64_t samples, Dtype compute);

  Device& device_;
  int threads_;
  TilePlan plan_;
  int64_t samples_ = 0, padded_ = 0, columns_ = 0, scratch_tile_ = 0;
  Dtype compute_ = Dtype::f32;
  Tensor x32_, x16_;
  std::vector<std::unique_ptr<TileScratch>> scratch_;
};

/// The samples whose target is among given active rows.
class TargetIndex {
 public:
  explicit TargetIndex(const Tensor& position);
  /// f(sample, position) for the targets in [begin, begin + count), by position and sample.
  template <class F>
  void each(int64_t begin, int64_t count, F&& f) const {
    auto it = std::lower_bound(targets_.begin(), targets_.end(), std::pair<int64_t, int64_t>(begin, 0));
    for (; it != targets_.end() && it->first < begin + count; ++it) f(it->second, it->first);
  }

 private:
  std::vector<std::pair<int64_t, int64_t>> targets_;  // (position, sample), ascending
};

}  // namespace plsc
