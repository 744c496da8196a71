// The compute seam, part 6: the rows nearest to rows. A search holds a short list of candidates for each of its
// queries, and is shown all rows (keys) block by block, twice: the first time products of matrices find the candidates,
// the second time each candidate's cosine is measured in fp32, in an order that depends on nothing (kernels/math/
// fixed_dot.h). So blocks, tiles, threads, ranks and the type of the scores do not show in what comes out, as long as
// the lists are somewhat longer than what is asked for. The algorithm over all ranks is src/head/neighbour_graph.h.
// Q: queries, D: columns, k: candidates of a query.
#pragma once
#include <cstdint>
#include <memory>

#include "backend/head_ops.h"
#include "backend/row_source.h"
#include "tensor/tensor.h"

namespace plsc {

/// Part of the queries against part of the keys. Both are unit rows, fp32, in device memory.
struct NeighbourBlock {
  Tensor queries;  // (q, D): queries [first_query, first_query + q) of the search
  int64_t first_query = 0;
  Tensor keys;  // (m, D): classes [first_key, first_key + m)
  int64_t first_key = 0;
};

struct NeighbourSearchSpec {
  int64_t queries = 0, columns = 0;
  int64_t candidates = 0;     // k, at most NeighbourOps::kMostCandidates
  int64_t first_class = 0;    // query i is class first_class + i, which is no neighbour of itself; or kNotInOrder
  Dtype scores = Dtype::f32;  // of the products' inputs: f32 or bf16

  /// For queries that are no consecutive classes: nothing is left out of their lists.
  static constexpr int64_t kNotInOrder = int64_t{-1} << 62;
};

class NeighbourSearch {
 public:
  virtual ~NeighbourSearch() = default;
  /// The candidates among these keys. For any query, blocks come in ascending order of their keys.
  virtual void score(const NeighbourBlock& block) = 0;
  /// Cosines of the candidates among these keys, in fp32. In any order of blocks, each once.
  virtual void measure(const NeighbourBlock& block) = 0;
  /// Sorts every list by cosine, ties by class. After all keys were measured.
  virtual void sort() = 0;
  /// (Q, k): `rows` are classes, -1 (with cosine -inf) behind those that there are.
  virtual const TopRows& lists() const = 0;
};

class NeighbourOps {
 public:
  /// What fits a block's shared memory on a GPU.
  static constexpr int64_t kMostCandidates = 1500;
  /// Blocks of whole multiples of so many keys need no copy to be filled up.
  static constexpr int64_t kKeyRows = 1024;

  virtual ~NeighbourOps() = default;
  /// out (n, D) fp32 = the active rows [begin, begin + n) as a reader sees them: caught up, in copies.
  virtual void read_rows(RowSource& rows, int64_t begin, Tensor& out) = 0;
  virtual std::unique_ptr<NeighbourSearch> start(const NeighbourSearchSpec& spec) = 0;
};

/// What every device's search asks of its arguments.
void check_search(const NeighbourSearchSpec& spec);
void check_block(const NeighbourSearchSpec& spec, const NeighbourBlock& block);

}  // namespace plsc
