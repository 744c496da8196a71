// Each level counts the bits of magnitudes in a block's shared memory and adds that to all blocks' bins: sums of whole
// numbers, whose order does not matter. What is taken is then counted by pieces, and each piece written behind those
// before it, so that the order is that of the indices.
#include "kernels/cuda/topk.h"

#include <cstring>

#include "kernels/cuda/selection.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int kBinsEach = math::kTopkBins / kThreads;

__device__ inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
__device__ inline float of_bits(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
__device__ inline uint32_t magnitude(float x) { return bits_of(x) & 0x7FFFFFFFU; }

__global__ void accumulate_into_kernel(UnsentPieces part, math::UnsentTerms terms, float* room,
                                       const math::StepState* state) {
  const math::SgdRule rule = math::unsent_rule(*state, terms);
  for (int64_t i = global_thread(); i < part.n; i += grid_threads()) {
    float u = part.velocity[i];
    room[i] = math::accumulated(rule, part.grad[i], part.value[i], u, part.unsent[i]);
  }
}

__global__ void accumulate_kernel(UnsentPieces part, math::UnsentTerms terms, const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::SgdRule rule = math::unsent_rule(*state, terms);
  for (int64_t i = global_thread(); i < part.n; i += grid_threads()) {
    float u = part.velocity[i];
    part.unsent[i] = math::accumulated(rule, part.grad[i], part.value[i], u, part.unsent[i]);
    part.velocity[i] = u;
  }
}

__global__ void forget_kernel(UnsentPieces part, const int32_t* indices, int64_t k, int32_t first,
                              const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  for (int64_t i = global_thread(); i < k; i += grid_threads()) {
    if (indices[i] == math::kNothingSent) continue;
    part.velocity[indices[i] - first] = 0;
    part.unsent[indices[i] - first] = 0;
  }
}

__global__ void begin_kernel(TopkSearch search, int64_t k, int32_t* indices, int32_t* bits) {
  if (global_thread() == 0) {
    math::TopkCut cut;
    cut.left = k;
    *search.cut = cut;
  }
  for (int64_t i = global_thread(); i < math::kTopkBins; i += grid_threads()) search.bins[i] = 0;
  for (int64_t i = global_thread(); i < k; i += grid_threads()) {
    indices[i] = math::kNothingSent;
    bits[i] = 0;
  }
}

__global__ void count_bins_kernel(const float* x, int64_t n, int level, TopkSearch search) {
  __shared__ unsigned bins[math::kTopkBins];
  for (int i = static_cast<int>(threadIdx.x); i < math::kTopkBins; i += kThreads) bins[i] = 0;
  __syncthreads();
  const math::TopkCut cut = *search.cut;
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    const int bin = math::topk_bin(cut, level, magnitude(x[i]));
    if (bin >= 0) atomicAdd(&bins[bin], 1U);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < math::kTopkBins; i += kThreads) {
    if (bins[i] != 0) atomicAdd(&search.bins[i], bins[i]);
  }
}

/// One block: the cut with this level's bits, and zeros for the next level. Thread t has bins from kBinsEach t on.
__global__ void narrow_kernel(int level, TopkSearch search) {
  __shared__ int64_t sums[kThreads];
  const int mine = static_cast<int>(threadIdx.x) * kBinsEach;
  int64_t sum = 0;
  for (int i = 0; i < kBinsEach; ++i) sum += search.bins[mine + i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    math::TopkCut cut = *search.cut;
    int t = kThreads - 1;
    while (t >= 0 && cut.all == 0 && sums[t] < cut.left) cut.left -= sums[t--];
    if (t < 0) {
      cut.all = 1;
    } else if (cut.all == 0) {
      int bin = (t + 1) * kBinsEach - 1;
      while (search.bins[bin] < cut.left) cut.left -= search.bins[bin--];
      cut.bits |= static_cast<uint32_t>(bin) << math::topk_shift(level);
    }
    *search.cut = cut;
  }
  __syncthreads();  // the first thread has read them
  for (int i = 0; i < kBinsEach; ++i) search.bins[mine + i] = 0;
}

__global__ void count_taken_kernel(const float* x, int64_t n, TopkSearch search) {
  const math::TopkCut cut = *search.cut;
  for (int64_t p = blockIdx.x; p < topk_pieces(n); p += gridDim.x) {
    const int64_t end = (p + 1) * kTopkPiece < n ? (p + 1) * kTopkPiece : n;
    int64_t above = 0, at = 0;
    for (int64_t i = p * kTopkPiece + threadIdx.x; i < end; i += blockDim.x) {
      above += math::above_cut(cut, magnitude(x[i])) ? 1 : 0;
      at += math::at_cut(cut, magnitude(x[i])) ? 1 : 0;
    }
    above = block_sum(above);
    at = block_sum(at);
    if (threadIdx.x == 0) {
      search.above[p] = above;
      search.at[p] = at;
    }
  }
}

/// One block for each of the two.
__global__ void scan_kernel(TopkSearch search, int64_t pieces) {
  scan_counts(blockIdx.x == 0 ? search.above : search.at, pieces);
}

__global__ void write_taken_kernel(const float* x, int64_t n, TopkSearch search, int32_t first, int32_t* indices,
                                   int32_t* bits) {
  const math::TopkCut cut = *search.cut;
  for (int64_t p = blockIdx.x; p < topk_pieces(n); p += gridDim.x) {
    int64_t above = search.above[p], at = search.at[p];
    for (int64_t turn = 0; turn < kTopkPiece; turn += kThreads) {
      const int64_t i = p * kTopkPiece + turn + threadIdx.x;
      const uint32_t size = i < n ? magnitude(x[i]) : 0;
      const bool larger = math::above_cut(cut, size), equal = math::at_cut(cut, size);
      const Place of_larger = place_in_block<1>(larger ? 1 : 0), of_equal = place_in_block<1>(equal ? 1 : 0);
      const int64_t equals = at + of_equal.before;
      if (larger || (equal && equals < cut.left)) {
        const int64_t to = above + of_larger.before + (equals < cut.left ? equals : cut.left);
        indices[to] = first + static_cast<int32_t>(i);
        bits[to] = static_cast<int32_t>(bits_of(x[i]));
      }
      above += of_larger.all;
      at += of_equal.all;
    }
  }
}

__global__ void check_kernel(const int32_t* sent, int64_t parts, int64_t k, math::StepState* state) {
  bool found = false;
  for (int64_t i = global_thread(); i < parts * k; i += grid_threads()) {
    found |= math::bits_not_finite(static_cast<uint32_t>(sent[(2 * (i / k) + 1) * k + i % k]));
  }
  // Several threads may do so at once: all write the same.
  if (found) math::mark_not_finite(*state, math::StepFailure::gradient);
}

__global__ void add_sent_kernel(const int32_t* sent, int64_t k, float* sum, const math::StepState* state) {
  const auto scale = static_cast<float>(state->loss_scale.scale);
  for (int64_t i = global_thread(); i < k; i += grid_threads()) {
    if (sent[i] != math::kNothingSent) sum[sent[i]] += scale * of_bits(sent[k + i]);
  }
}

__global__ void descend_kernel(const float* grad, float* value, int64_t n, math::UpdateGroup group,
                               const math::StepState* state) {
  if (math::updates_blocked(*state)) return;
  const math::SgdRule rule = math::sgd_rule(math::step_rule(*state, group));
  for (int64_t i = global_thread(); i < n; i += grid_threads()) math::descend(rule, grad[i], value[i]);
}

__global__ void clip_local_kernel(float* x, int64_t n, const double* squares, int64_t count, double bound,
                                  const math::StepState* state) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += squares[i];
  const float factor = math::local_clip_factor(sum, state->loss_scale.scale, bound);
  if (factor == 1) return;
  for (int64_t i = global_thread(); i < n; i += grid_threads()) x[i] *= factor;
}

}  // namespace

void accumulate_into(const UnsentPieces& part, const math::UnsentTerms& terms, float* room,
                     const math::StepState* state, cudaStream_t stream) {
  launch(accumulate_into_kernel, {.blocks = blocks_for(part.n, kThreads)}, stream, part, terms, room, state);
}

void take_largest(const float* x, int64_t n, int64_t k, const TopkSearch& search, int32_t first, int32_t* indices,
                  int32_t* bits, cudaStream_t stream) {
  const int64_t most = k > math::kTopkBins ? k : math::kTopkBins;
  launch(begin_kernel, {.blocks = blocks_for(most, kThreads)}, stream, search, k, indices, bits);
  if (n == 0 || k == 0) return;
  // A block empties and adds up all bins: it should have more elements than these.
  const int64_t blocks = blocks_for(n, kThreads, math::kTopkBins / kThreads * 4);
  for (int level = 0; level < math::kTopkLevels; ++level) {
    launch(count_bins_kernel, {.blocks = blocks}, stream, x, n, level, search);
    launch(narrow_kernel, {.blocks = 1}, stream, level, search);
  }
  const int64_t pieces = topk_pieces(n), many = pieces < kManyBlocks ? pieces : kManyBlocks;
  launch(count_taken_kernel, {.blocks = many}, stream, x, n, search);
  launch(scan_kernel, {.blocks = 2}, stream, search, pieces);
  launch(write_taken_kernel, {.blocks = many}, stream, x, n, search, first, indices, bits);
}

void keep_rest(const UnsentPieces& part, const math::UnsentTerms& terms, const int32_t* indices, int64_t k,
               int32_t first, const math::StepState* state, cudaStream_t stream) {
  launch(accumulate_kernel, {.blocks = blocks_for(part.n, kThreads)}, stream, part, terms, state);
  launch(forget_kernel, {.blocks = blocks_for(k, kThreads)}, stream, part, indices, k, first, state);
}

void check_sent(const int32_t* sent, int64_t parts, int64_t k, math::StepState* state, cudaStream_t stream) {
  launch(check_kernel, {.blocks = blocks_for(parts * k, kThreads)}, stream, sent, parts, k, state);
}

void add_sent(const int32_t* sent, int64_t k, float* sum, const math::StepState* state, cudaStream_t stream) {
  launch(add_sent_kernel, {.blocks = blocks_for(k, kThreads)}, stream, sent, k, sum, state);
}

void descend(const float* grad, float* value, int64_t n, const math::UpdateGroup& group, const math::StepState* state,
             cudaStream_t stream) {
  launch(descend_kernel, {.blocks = blocks_for(n, kThreads)}, stream, grad, value, n, group, state);
}

void clip_local(float* x, int64_t n, const double* squares, int64_t count, double bound, const math::StepState* state,
                cudaStream_t stream) {
  launch(clip_local_kernel, {.blocks = blocks_for(n, kThreads)}, stream, x, n, squares, count, bound, state);
}

}  // namespace plsc::kernels::cuda
