// One search for nearest rows on a CPU. Threads share out the queries, tile by tile. A tile of queries meets the keys
// tile by tile: a product of matrices, whose result stays in the second-level cache, and a scan of each row of it for
// scores above the query's floor, the worst of its candidates. What is above goes into a buffer, and only when that is
// full is it cut down to the best and the floor raised: so a score costs one vectorised comparison.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cpu/head_products.h"
#include "backend/device.h"
#include "backend/neighbour_ops.h"

namespace plsc {

struct NeighbourCandidate {
  float cosine;
  int64_t id;
};
/// The order of all lists: the larger cosine first, then the lower class, which is below 2^31.
inline bool nearer(const NeighbourCandidate& a, const NeighbourCandidate& b) {
  return a.cosine != b.cosine ? a.cosine > b.cosine : a.id < b.id;
}

/// The candidates of one query while it meets a block of keys.
class CandidateBuffer {
 public:
  explicit CandidateBuffer(int64_t keep);
  /// From a list (keep) of which the first ones are present, and back.
  void load(const float* cosines, const int64_t* ids);
  void store(float* cosines, int64_t* ids);
  /// Scores of at most this are no candidates.
  float floor() const { return floor_; }
  /// Classes come in ascending order: an equal score behind a full list is no candidate.
  void add(float cosine, int64_t id) {
    if (!(cosine > floor_)) return;
    held_.push_back(key_of(cosine, id));
    if (held_.size() == room_) cut();
  }

 private:
  /// Keeps the best, and raises the floor to the worst of them.
  void cut();

  /// Cosine and class as one number, lower for what is nearer: one comparison orders both.
  static uint64_t key_of(float cosine, int64_t id);
  static NeighbourCandidate candidate_of(uint64_t key);

  size_t keep_, room_;
  float floor_;
  std::vector<uint64_t> held_;
};

/// What a search works in, beside its lists.
struct NeighbourScratch {
  /// Products have this shape always, with zero rows where there are fewer: so the bits of a score do not depend on how
  /// rows were cut into blocks.
  static constexpr int64_t kQueryTile = 128, kKeyTile = NeighbourOps::kKeyRows;

  /// One thread's.
  struct Part {
    Part(Device& device, const NeighbourSearchSpec& spec);
    TileProducts products;
    Tensor queries, scores;
    std::vector<int32_t> places;
    std::vector<CandidateBuffer> buffers;
  };

  NeighbourScratch(Device& device, const NeighbourSearchSpec& spec);
  /// Memory for a block's keys in the products' type, up to whole tiles; null where the products take them as they are.
  void* take_keys(const NeighbourBlock& block);
  Part& part(int p) { return *parts_[static_cast<size_t>(p)]; }

 private:
  Device& device_;
  Dtype scores_;
  Tensor keys_;  // (whole tiles, D), kept from block to block
  std::vector<std::unique_ptr<Part>> parts_;
};

class CpuNeighbourSearch final : public NeighbourSearch {
 public:
  CpuNeighbourSearch(Device& device, const NeighbourSearchSpec& spec);
  void score(const NeighbourBlock& block) override;
  void measure(const NeighbourBlock& block) override;
  void sort() override;
  const TopRows& lists() const override { return lists_; }

 private:
  /// The block's keys in the products' type, with zero rows up to whole tiles.
  const std::byte* prepare_keys(const NeighbourBlock& block);
  /// Queries [begin, begin + count) of the block.
  void score_tile(NeighbourScratch::Part& scratch, const NeighbourBlock& block, const std::byte* keys, int64_t begin,
                  int64_t count);

  Device& device_;
  NeighbourSearchSpec spec_;
  TopRows lists_;
  NeighbourScratch scratch_;
};

}  // namespace plsc
