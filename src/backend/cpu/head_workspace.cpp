// Tiles are sized for the second-level cache: what one tile's products and its update touch stays in it in between.
// At 512 columns and 128 samples tiles of 256 rows gave 84 % of the rate of the products alone, 512 rows 80 %.
#include "backend/cpu/head_workspace.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/math/normalize.h"

namespace plsc {
namespace {

/// Loops over samples need no remainder when their number is a multiple of the widest vector.
constexpr int64_t kSampleMultiple = 16;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

/// Rows of which weights, momentum and gradient, and separately the dot products, fit a cache of 2 MiB together.
int64_t tile_rows_for(int64_t samples, int64_t columns) {
  constexpr int64_t kWeights = 128 << 10, kDots = 256 << 10;  // elements
  return std::clamp<int64_t>(std::min(kWeights / columns, kDots / samples), TilePlan::kRowMultiple, 1024);
}

}  // namespace

TilePlan TilePlan::make(int64_t rows, int64_t samples, int64_t columns, int threads) {
  TilePlan plan;
  plan.rows = rows;
  if (rows == 0) return plan;
  // As many tiles as a multiple of the threads, so that no thread waits for another's last tile.
  const int64_t wanted = round_up(divide_up(rows, tile_rows_for(samples, columns)), threads);
  plan.tile = round_up(divide_up(rows, wanted), kRowMultiple);
  plan.tiles = divide_up(rows, plan.tile);
  return plan;
}

NextTile::NextTile(RowSource& rows, const TilePlan& plan, int64_t t, int64_t end) : rows_(rows) {
  if (t < end) tile_ = rows.open(plan.begin(t), plan.count(t), RowAccess::read);
}
NextTile::~NextTile() {
  if (tile_.count > 0) rows_.close(tile_, RowAccess::read);
}

void NextTile::ask(int64_t first, int64_t count) const {
  if (tile_.in_order()) return;
  for (int64_t i = first; i < std::min(first + count, tile_.count); ++i) {
    const int64_t row = tile_.stored_row(i);
    ask_for_weights(tile_, row, rows_.columns());
    if (tile_.lag.last_update == nullptr) continue;
    // Whether the row lags is not known without it, and most do that are sampled.
    __builtin_prefetch(tile_.lag.last_update + row);
    ask_for_momentum(tile_, row, rows_.columns());
  }
}

TileScratch::TileScratch(Device& device_, int64_t tile, int64_t padded_samples, int64_t columns_, Dtype compute_)
    : device(device_),
      columns(columns_),
      compute(compute_),
      products(device, padded_samples, columns_, compute_),
      gathered(device.tensor({tile, columns_}, compute_)),
      inverse(device.tensor({tile})),
      dots(device.tensor({tile, padded_samples})),
      row_gradient(device.tensor({tile, columns_})),
      dx(device.tensor({padded_samples, columns_})),
      max_cosine(device.tensor({padded_samples})),
      max_logit(device.tensor({padded_samples})),
      shift(device.tensor({padded_samples})),
      sum(static_cast<size_t>(padded_samples)),
      row(columns_) {
  if (compute == Dtype::bf16) {
    gradient16 = device.tensor({tile, padded_samples}, Dtype::bf16);
  }
}

void TileScratch::take_gradient(Dtype dtype) {
  if (dx.dtype() != dtype) dx = device.tensor(dx.shape(), dtype);
}

void TileScratch::start_gradient(Dtype dtype) {
  take_gradient(dtype);
  std::memset(dx.raw(), 0, dx.bytes());
}

bool TileScratch::stored_as_wanted(const PreparedTile& tile) const {
  const RowTile& source = tile.source;
  return source.in_order() && source.lag.last_update == nullptr && tile.padded == tile.count &&
         source.weight_type == compute;
}

const float* TileScratch::row_in_fp32(const PreparedTile& tile, int64_t i) {
  return current_row(tile.source, tile.source.stored_row(i), columns, row);
}

void TileScratch::gather(const PreparedTile& tile) {
  const RowTile& source = tile.source;
  if (compute == Dtype::bf16) {
    auto* to = reinterpret_cast<kernels::Bf16*>(gathered.data<bf16_t>());
    for (int64_t i = 0; i < tile.count; ++i, to += columns) {
      const int64_t stored = source.stored_row(i);
      MissedSteps missed;
      find_missed_steps(source, stored, missed);
      const float squares = with_row(source, stored, columns, [&](const auto* w, const auto* v) {
        return kernels::row_operand(missed.matrix, w, v, columns, to);
      });
      inverse.data<float>()[i] = math::inverse_norm(std::sqrt(squares));
    }
    std::fill_n(to, (tile.padded - tile.count) * columns, kernels::Bf16{0});
    return;
  }
  float* to = gathered.data<float>();
  for (int64_t i = 0; i < tile.count; ++i, to += columns) read_row(source, source.stored_row(i), columns, row, to);
  std::fill_n(to, (tile.padded - tile.count) * columns, 0.0F);
  if (unit_rows) kernels::row_inverse_norms(gathered.data<float>(), tile.count, columns, inverse.data<float>());
}

PreparedTile TileScratch::prepare(RowSource& rows, int64_t begin, int64_t count, RowAccess access) {
  PreparedTile tile;
  tile.source = rows.open(begin, count, access);
  tile.count = count;
  tile.padded = round_up(count, TilePlan::kRowMultiple);
  if (!stored_as_wanted(tile)) {
    gather(tile);
    tile.operand = gathered.raw();
  } else {
    tile.operand = tile.source.weight;
    const auto measure = [&](const auto* w) {
      if (unit_rows) kernels::row_inverse_norms(w, count, columns, inverse.data<float>());
    };
    compute == Dtype::f32 ? measure(static_cast<const float*>(tile.operand))
                          : measure(static_cast<const kernels::Bf16*>(tile.operand));
  }
  if (!unit_rows) std::fill_n(inverse.data<float>(), count, 1.0F);
  return tile;
}

void HeadWorkspace::prepare(const RowSource& rows, const HeadPass& pass) {
  const int64_t samples = pass.x.dim(0);
  allocate(rows, samples, pass.compute);
  samples_ = samples;
  PLSC_CHECK(!pass.fixed_order || pass.compute == Dtype::f32, "an order of sums in {}", dtype_name(pass.compute));
  for (const auto& scratch : scratch_) {
    scratch->unit_rows = pass.unit_rows;
    scratch->products.set_rows_at_once(pass.fixed_order ? TilePlan::kRowMultiple : 0);
  }
}

void HeadWorkspace::allocate(const RowSource& rows, int64_t samples, Dtype compute) {
  const int64_t padded = round_up(std::max<int64_t>(samples, 1), kSampleMultiple);
  plan_ = TilePlan::make(rows.count(), padded, rows.columns(), threads_);
  const bool same = !scratch_.empty() && padded == padded_ && compute == compute_ && rows.columns() == columns_ &&
                    plan_.tile <= scratch_tile_;
  if (same) return;
  scratch_.clear();
  padded_ = padded;
  columns_ = rows.columns();
  compute_ = compute;
  scratch_tile_ = plan_.tile;
  x32_ = device_.tensor({padded_, columns_});
  x16_ = compute == Dtype::bf16 ? device_.tensor({padded_, columns_}, Dtype::bf16) : Tensor();
  for (int p = 0; p < threads_; ++p) {
    scratch_.push_back(std::make_unique<TileScratch>(device_, scratch_tile_, padded_, columns_, compute_));
  }
}

void HeadWorkspace::set_samples(const Tensor& x) {
  float* to = x32_.data<float>();
  std::memcpy(to, x.data<float>(), x.bytes());
  std::fill(to + x.elements(), to + padded_ * columns_, 0.0F);
  if (x16_.defined()) {
    kernels::cast(to, reinterpret_cast<uint16_t*>(x16_.data<bf16_t>()), padded_ * columns_);
  }
}

TargetIndex::TargetIndex(const Tensor& position) {
  const auto places = position.span<int64_t>();
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i] >= 0) targets_.emplace_back(places[i], static_cast<int64_t>(i));
  }
  std::sort(targets_.begin(), targets_.end());
}

}  // namespace plsc
