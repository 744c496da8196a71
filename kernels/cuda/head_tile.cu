// A thread takes four neighbouring samples and a few rows; see head_tile.h.
#include "kernels/cuda/head_tile.h"

#include <cmath>
#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/head_access.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kSamples = 4;  // of a thread
constexpr int kRows = 8;     // of a thread in one block
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// How a block covers the tile: `lanes` threads side by side along the samples, as many rows of such threads as it
/// holds. Few samples: more rows at once.
struct Cover {
  int lanes = 1;
  int64_t block_rows = 0;
};
Cover cover_of(const TileShape& shape) {
  Cover cover;
  while (cover.lanes < kWarp && cover.lanes * kSamples < shape.stride) cover.lanes *= 2;
  cover.block_rows = int64_t{kThreads / cover.lanes} * kRows;
  return cover;
}
int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t blocks_of_samples(const TileShape& shape, const Cover& cover) {
  return divide_up(shape.stride, int64_t{cover.lanes} * kSamples);
}

/// A thread's place: its first sample and its first row; the next rows are `step` apart.
struct Place {
  int64_t sample, row, step;
};
__device__ Place place_of(const Cover& cover) {
  const int thread = static_cast<int>(threadIdx.x);
  return {(int64_t{blockIdx.y} * cover.lanes + thread % cover.lanes) * kSamples,
          int64_t{blockIdx.x} * cover.block_rows + thread / cover.lanes, int64_t{kThreads / cover.lanes}};
}

/// The rows of the samples' own targets within the tile; -1 for those elsewhere.
struct Targets {
  int64_t row[kSamples];
};
__device__ Targets targets_of(const TileShape& shape, const TileLogits& logits, int64_t sample) {
  Targets t;
  PLSC_UNROLL
  for (int k = 0; k < kSamples; ++k) {
    const int64_t position = sample + k < shape.samples ? logits.position[sample + k] : -1;
    t.row[k] = position >= logits.begin ? position - logits.begin : -1;
  }
  return t;
}

/// One sample's sums so far.
struct Sum {
  double sum = 0;
  float shift = kMinusInfinity, max_cosine = kMinusInfinity;
};
/// `more` is added to `to`: with a running shift both are brought to the larger one.
template <bool kFixed>
__device__ void add(Sum& to, const Sum& more) {
  to.max_cosine = more.max_cosine > to.max_cosine ? more.max_cosine : to.max_cosine;
  if constexpr (kFixed) {
    to.sum += more.sum;
  } else {
    const float shift = more.shift > to.shift ? more.shift : to.shift;
    if (to.sum != 0 && to.shift != shift) to.sum *= std::exp(double{to.shift} - double{shift});
    if (more.sum != 0)
      to.sum += more.shift == shift ? more.sum : more.sum * std::exp(double{more.shift} - double{shift});
    to.shift = shift;
  }
}
__device__ Sum read(const TileSums& sums, int64_t at, bool with_shift) {
  return {sums.sum[at], with_shift ? sums.shift[at] : 0.0F, sums.max_cosine[at]};
}
__device__ void write(const TileSums& sums, int64_t at, const Sum& s, bool with_shift) {
  sums.sum[at] = s.sum;
  sums.max_cosine[at] = s.max_cosine;
  if (with_shift) sums.shift[at] = s.shift;
}

/// The cosines of a thread's rows and samples.
struct Cosines {
  float of[kRows][kSamples];
};
__device__ Cosines cosines_of(const TileShape& shape, const TileLogits& logits, const Place& at) {
  Cosines c;
  PLSC_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = at.row + r * at.step;
    const bool real = row < shape.rows && at.sample < shape.stride;
    const float inverse = real ? logits.inverse_norms[row] : 0.0F;
    float four[kSamples] = {};
    if (real) load(logits.dots + row * shape.stride + at.sample, four);
    PLSC_UNROLL
    for (int k = 0; k < kSamples; ++k) c.of[r][k] = four[k] * inverse;
  }
  return c;
}

/// A thread's rows of one sample. Where the shift runs, their largest logit is found first.
template <bool kFixed>
__device__ Sum sum_of(const TileShape& shape, const TileLogits& logits, const Place& at, const Cosines& cosines, int k,
                      int64_t target, float fixed_shift) {
  Sum s;
  float sum = 0;
  if constexpr (kFixed) s.shift = fixed_shift;
  PLSC_UNROLL
  for (int pass = kFixed ? 1 : 0; pass < 2; ++pass) {
    PLSC_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = at.row + r * at.step;
      if (row >= shape.rows || row == target) continue;
      const float cosine = cosines.of[r][k];
      const float z = math::negative_logit(cosine, logits.rule);
      if (pass == 0) {
        s.shift = z > s.shift ? z : s.shift;
      } else {
        sum += math::exp_float(z - s.shift);
        s.max_cosine = cosine > s.max_cosine ? cosine : s.max_cosine;
      }
    }
  }
  s.sum = double{sum};
  return s;
}

/// The threads of a block that share a sample leave one sum, added in their order.
template <bool kFixed>
__global__ void sum_kernel(TileShape shape, TileLogits logits, const float* fixed_shift, TileSums parts, Cover cover) {
  __shared__ double sums[kThreads][kSamples];
  __shared__ float shifts[kThreads][kSamples];
  __shared__ float largest[kThreads][kSamples];
  const Place at = place_of(cover);
  const Targets targets = targets_of(shape, logits, at.sample);
  const Cosines cosines = cosines_of(shape, logits, at);
  PLSC_UNROLL
  for (int k = 0; k < kSamples; ++k) {
    const bool shifted = kFixed && at.sample + k < shape.samples;
    const Sum s =
        sum_of<kFixed>(shape, logits, at, cosines, k, targets.row[k], shifted ? fixed_shift[at.sample + k] : 0);
    sums[threadIdx.x][k] = s.sum;
    shifts[threadIdx.x][k] = s.shift;
    largest[threadIdx.x][k] = s.max_cosine;
  }
  __syncthreads();
  // One thread a sample.
  const int lane = static_cast<int>(threadIdx.x) / kSamples, k = static_cast<int>(threadIdx.x) % kSamples;
  const int64_t sample = (int64_t{blockIdx.y} * cover.lanes + lane) * kSamples + k;
  if (lane >= cover.lanes || sample >= shape.samples) return;
  Sum total;
  for (int t = lane; t < kThreads; t += cover.lanes) add<kFixed>(total, {sums[t][k], shifts[t][k], largest[t][k]});
  write(parts, int64_t{blockIdx.x} * shape.stride + sample, total, !kFixed);
}

__global__ void start_kernel(int64_t samples, TileSums total, bool fixed_shift) {
  for (int64_t i = global_thread(); i < samples; i += grid_threads()) write(total, i, Sum{}, !fixed_shift);
}

/// A warp's lanes take neighbouring samples and a block's warps the parts in turn; their sums are added in order.
template <bool kFixed>
__global__ void merge_kernel(TileShape shape, int64_t parts, TileSums from, TileSums total) {
  constexpr int kTurns = kThreads / kWarp;
  __shared__ double sums[kTurns][kWarp];
  __shared__ float shifts[kTurns][kWarp];
  __shared__ float largest[kTurns][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, turn = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t sample = int64_t{blockIdx.x} * kWarp + lane;
  Sum s;
  for (int64_t p = turn; p < parts && sample < shape.samples; p += kTurns) {
    add<kFixed>(s, read(from, p * shape.stride + sample, !kFixed));
  }
  sums[turn][lane] = s.sum;
  shifts[turn][lane] = s.shift;
  largest[turn][lane] = s.max_cosine;
  __syncthreads();
  if (turn != 0 || sample >= shape.samples) return;
  s = read(total, sample, !kFixed);
  for (int t = 0; t < kTurns; ++t) add<kFixed>(s, {sums[t][lane], shifts[t][lane], largest[t][lane]});
  write(total, sample, s, !kFixed);
}

template <class G>
__global__ void gradient_kernel(TileShape shape, TileLogits logits, TileGradient gradient, G* to, Cover cover) {
  const Place at = place_of(cover);
  if (at.sample >= shape.stride) return;
  const Targets targets = targets_of(shape, logits, at.sample);
  float log_sum[kSamples], target_gradient[kSamples];
  for (int k = 0; k < kSamples; ++k) {
    const bool real = at.sample + k < shape.samples;
    log_sum[k] = real ? gradient.log_sum[at.sample + k] : 0;
    target_gradient[k] = real ? gradient.target_gradient[at.sample + k] : 0;
  }
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = at.row + r * at.step;
    if (row >= shape.padded_rows) break;
    float g[kSamples] = {};
    if (row < shape.rows) {
      const float inverse = logits.inverse_norms[row], factor = gradient.factor * inverse;
      float dots[kSamples];
      load(logits.dots + row * shape.stride + at.sample, dots);
      for (int k = 0; k < kSamples; ++k) {
        if (at.sample + k >= shape.samples) continue;
        g[k] = row == targets.row[k] ? target_gradient[k] * inverse
                                     : math::negative_gradient(dots[k] * inverse, logits.rule, log_sum[k], factor);
      }
    }
    store(to + row * shape.stride + at.sample, g);
  }
}

template <class G>
void launch_gradient(const TileShape& shape, const TileLogits& logits, const TileGradient& gradient, G* to,
                     cudaStream_t stream) {
  const Cover cover = cover_of(shape);
  launch(gradient_kernel<G>,
         {.blocks = divide_up(shape.padded_rows, cover.block_rows), .blocks_y = blocks_of_samples(shape, cover)},
         stream, shape, logits, gradient, to, cover);
}

}  // namespace

int64_t tile_parts(const TileShape& shape) { return divide_up(shape.rows, cover_of(shape).block_rows); }

void sum_tile(const TileShape& shape, const TileLogits& logits, const float* fixed_shift, const TileSums& parts,
              cudaStream_t stream) {
  const Cover cover = cover_of(shape);
  launch(fixed_shift != nullptr ? sum_kernel<true> : sum_kernel<false>,
         {.blocks = tile_parts(shape), .blocks_y = blocks_of_samples(shape, cover)}, stream, shape, logits, fixed_shift,
         parts, cover);
}

void start_sums(int64_t samples, const TileSums& total, bool fixed_shift, cudaStream_t stream) {
  launch(start_kernel, {.blocks = blocks_for(samples, kThreads)}, stream, samples, total, fixed_shift);
}

void merge_tile(const TileShape& shape, const TileSums& parts, const TileSums& total, bool fixed_shift,
                cudaStream_t stream) {
  launch(fixed_shift ? merge_kernel<true> : merge_kernel<false>, {.blocks = divide_up(shape.samples, kWarp)}, stream,
         shape, tile_parts(shape), parts, total);
}

void tile_gradient(const TileShape& shape, const TileLogits& logits, const TileGradient& gradient, float* to,
                   cudaStream_t stream) {
  launch_gradient(shape, logits, gradient, to, stream);
}
void tile_gradient_bf16(const TileShape& shape, const TileLogits& logits, const TileGradient& gradient, uint16_t* to,
                        cudaStream_t stream) {
  launch_gradient(shape, logits, gradient, to, stream);
}

}  // namespace plsc::kernels::cuda
