// Two slots: while the compute stream works on one, the other is filled. A slot's next tile waits for the event behind
// the last use of it, and each use waits for the event behind the slot's product; there is no other order between the
// streams within a pass, and none is needed: no row is in two tiles.
#include "backend/cuda/head_tiles_cuda.h"

namespace plsc {
namespace {

/// Plans of products on the stream ahead: a pass over all rows needs two, one over sampled rows a new one whenever its
/// last tile has another multiple of HeadTilePlan::kRowMultiple rows.
constexpr size_t kPlans = 256;

int64_t second_level_cache() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
  return bytes;
}

}  // namespace

HeadWork::HeadWork(const CudaRuntime& runtime, int64_t tile_rows)
    : runtime_(runtime),
      tile_rows_(tile_rows),
      cache_bytes_(second_level_cache()),
      gemms_(runtime, kPlans, ahead_.get()) {}

HeadTilePlan HeadWork::plan(const RowSource& rows, int64_t samples, Dtype compute) const {
  return HeadTilePlan::make(rows.count(), HeadTilePlan::bytes_per_row(samples, rows.columns(), compute), cache_bytes_,
                            tile_rows_);
}

HeadTileLoop::HeadTileLoop(HeadWork& work, RowSource& rows, const Tensor& x, const Options& options)
    : work_(work),
      rows_(rows),
      x_(x),
      options_(options),
      plan_(work.plan(rows, x.dim(0), options.compute)),
      stride_(HeadTilePlan::stride(x.dim(0))),
      operand_x_(x) {
  PLSC_CHECK(x.dtype() == Dtype::f32 && x.dim(1) == rows.columns());
  Device& device = work.runtime().device;
  if (options.compute == Dtype::bf16) {
    operand_x_ = device.tensor(x.shape(), Dtype::bf16);
    kernels::cuda::HeadRows from;
    from.count = samples();
    from.columns = columns();
    from.weight = x.raw();
    kernels::cuda::PreparedRows to;
    to.operand = operand_x_.raw();
    to.type = kernels::cuda::HeadType::bf16;
    to.padded = samples();
    kernels::cuda::prepare_rows(from, to, work.runtime().stream);
  }
  const int64_t dots = options.samples_by_rows ? samples() : stride_;
  for (int64_t s = 0; s < std::min<int64_t>(plan_.tiles, 2); ++s) {
    Slot& slot = slots_[static_cast<size_t>(s)];
    slot.operand = device.tensor({plan_.tile, columns()}, options.compute);
    slot.inverse_norms = device.tensor({plan_.tile});
    slot.dots = device.tensor({plan_.tile, dots});
  }
}

GemmSpec HeadTileLoop::dots_spec(const HeadTile& tile) const {
  GemmSpec spec;
  spec.k = columns();
  spec.transpose_b = true;
  spec.in = options_.compute;
  spec.m = options_.samples_by_rows ? samples() : tile.padded;
  spec.n = options_.samples_by_rows ? tile.padded : samples();
  spec.ldc = options_.samples_by_rows ? tile.padded : stride_;
  return spec;
}

void HeadTileLoop::begin(int64_t t) {
  const auto place = static_cast<size_t>(t % 2);
  const cudaStream_t ahead = work_.ahead_.get();
  if (t >= 2) work_.used_[place].order(ahead);
  Slot& slot = slots_[place];
  HeadTile& tile = slot.tile;
  tile.index = t;
  tile.source = rows_.open(plan_.begin(t), plan_.count(t), options_.access);
  tile.rows = head_rows_of(tile.source, columns());
  tile.padded = plan_.padded(t);
  tile.inverse_norms = slot.inverse_norms.data<float>();
  tile.dots = slot.dots.data<float>();

  const RowTile& source = tile.source;
  const bool in_place = source.in_order() && source.lag.last_update == nullptr &&
                        source.weight_type == options_.compute && tile.padded == source.count && !source.far;
  tile.operand = in_place ? source.weight : slot.operand.raw();
  kernels::cuda::PreparedRows prepared;
  prepared.operand = in_place ? nullptr : slot.operand.raw();
  prepared.type = head_type(options_.compute);
  prepared.padded = tile.padded;
  prepared.inverse_norms = slot.inverse_norms.data<float>();
  prepared.unit_rows = options_.unit_rows;
  kernels::cuda::prepare_rows(tile.rows, prepared, ahead);

  GemmOperands operands{tile.operand, operand_x_.raw(), tile.dots};
  if (options_.samples_by_rows) std::swap(operands.a, operands.b);
  work_.gemms_.run(dots_spec(tile), operands);
  work_.ready_[place].record(ahead);
}

void HeadTileLoop::run(const std::function<void(const HeadTile&)>& use) {
  if (plan_.tiles == 0) return;
  const cudaStream_t compute = work_.runtime().stream;
  work_.start_.record(compute);
  work_.start_.order(work_.ahead_.get());
  begin(0);
  for (int64_t t = 0; t < plan_.tiles; ++t) {
    if (t + 1 < plan_.tiles) begin(t + 1);
    const auto place = static_cast<size_t>(t % 2);
    const HeadTile& tile = slots_[place].tile;
    work_.ready_[place].order(compute);
    use(tile);
    work_.used_[place].record(compute);
    rows_.close(tile.source, options_.access);
  }
}

kernels::cuda::HeadRows head_rows_of(const RowTile& tile, int64_t columns) {
  kernels::cuda::HeadRows rows;
  rows.count = tile.count;
  rows.columns = columns;
  rows.weight = tile.weight;
  rows.type = head_type(tile.weight_type);
  rows.momentum = tile.momentum;
  rows.momentum_type = head_type(tile.momentum_type);
  rows.index = tile.index;
  rows.begin = tile.first;
  rows.stride = tile.stride;
  rows.last_update = tile.lag.last_update;
  rows.steps = tile.lag.steps;
  rows.coasting = tile.lag.coasting;
  rows.first = tile.lag.first;
  rows.next = tile.lag.next;
  rows.second_moment = tile.second_moment;
  rows.padding = tile.padding;
  rows.seed = tile.rounding.seed;
  rows.update = tile.rounding.update;
  rows.first_class = tile.rounding.first_class;
  rows.classes = tile.rounding.classes;
  return rows;
}

}  // namespace plsc
