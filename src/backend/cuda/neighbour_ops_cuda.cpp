// The search for nearest rows on a GPU: the head's loop over tiles, with keys for class centres and a part of the
// queries for samples, so that the next tile's product runs beside this one's merge into the lists.
#include "backend/cuda/neighbour_ops_cuda.h"

#include <algorithm>
#include <limits>

#include "backend/cuda/head_tiles_cuda.h"
#include "backend/tensor_rows.h"
#include "kernels/cuda/head_top.h"
#include "kernels/cuda/neighbours.h"

namespace plsc {
namespace {

class CudaNeighbourSearch final : public NeighbourSearch {
 public:
  CudaNeighbourSearch(HeadWork& work, const NeighbourSearchSpec& spec, int64_t query_rows)
      : work_(work), spec_(spec), query_rows_(query_rows) {
    check_search(spec);
    static_assert(NeighbourOps::kMostCandidates <= kernels::cuda::kMostTop);
    Device& device = work.runtime().device;
    lists_.cosines = device.tensor({spec.queries, spec.candidates});
    lists_.rows = device.tensor({spec.queries, spec.candidates}, Dtype::i64);
    kernels::cuda::start_top(lists_of(0, spec.queries), stream());
  }

  void score(const NeighbourBlock& block) override {
    check_block(spec_, block);
    TensorRows keys(block.keys);
    for (int64_t begin = 0; begin < block.queries.dim(0); begin += query_rows_) {
      const int64_t count = std::min(query_rows_, block.queries.dim(0) - begin), first = block.first_query + begin;
      HeadTileLoop loop(work_, keys, block.queries.rows(begin, count),
                        {.compute = spec_.scores, .unit_rows = false, .samples_by_rows = true});
      loop.run([&](const HeadTile& tile) {
        kernels::cuda::TopTile here;
        here.dots = tile.dots;
        here.inverse_norms = tile.inverse_norms;
        here.begin = block.first_key + tile.source.begin;
        here.rows = tile.source.count;
        here.stride = tile.padded;
        here.limit = std::numeric_limits<float>::infinity();
        here.without_own = true;
        here.own_row = spec_.first_class + first;
        kernels::cuda::merge_top(here, lists_of(first, count), stream());
      });
    }
  }

  void measure(const NeighbourBlock& block) override {
    check_block(spec_, block);
    kernels::cuda::MeasureBlock here;
    here.queries = block.queries.data<float>();
    here.keys = block.keys.data<float>();
    here.first_key = block.first_key;
    here.key_count = block.keys.dim(0);
    here.columns = spec_.columns;
    kernels::cuda::measure_candidates(here, lists_of(block.first_query, block.queries.dim(0)), stream());
  }

  void sort() override { kernels::cuda::sort_candidates(lists_of(0, spec_.queries), stream()); }
  const TopRows& lists() const override { return lists_; }

 private:
  cudaStream_t stream() const { return work_.runtime().stream; }
  /// Of queries [first, first + count).
  kernels::cuda::TopLists lists_of(int64_t first, int64_t count) const {
    const int64_t at = first * spec_.candidates;
    return {lists_.cosines.data<float>() + at, lists_.rows.data<int64_t>() + at, count, spec_.candidates};
  }

  HeadWork& work_;
  NeighbourSearchSpec spec_;
  int64_t query_rows_;
  TopRows lists_;
};

class CudaNeighbourOps final : public NeighbourOps {
 public:
  CudaNeighbourOps(const CudaRuntime& runtime, const CudaNeighbourOptions& options)
      : work_(runtime, options.tile_rows), options_(options) {}

  void read_rows(RowSource& rows, int64_t begin, Tensor& out) override {
    const int64_t count = out.dim(0);
    check_device_tensor("read_rows", out, {count, rows.columns()}, Dtype::f32);
    const RowTile tile = rows.open(begin, count, RowAccess::read);
    kernels::cuda::PreparedRows to;
    to.operand = out.raw();
    to.padded = count;
    kernels::cuda::prepare_rows(head_rows_of(tile, rows.columns()), to, work_.runtime().stream);
    rows.close(tile, RowAccess::read);
  }

  std::unique_ptr<NeighbourSearch> start(const NeighbourSearchSpec& spec) override {
    return std::make_unique<CudaNeighbourSearch>(work_, spec, options_.query_rows);
  }

 private:
  HeadWork work_;
  CudaNeighbourOptions options_;
};

}  // namespace

std::unique_ptr<NeighbourOps> make_cuda_neighbour_ops(const CudaRuntime& runtime, const CudaNeighbourOptions& options) {
  return std::make_unique<CudaNeighbourOps>(runtime, options);
}

}  // namespace plsc
