// See row_copy.h. Few blocks: a link to the host is busy with a few hundred rows on their way, and the device has other
// work meanwhile.
#include "kernels/cuda/row_copy.h"

#include "kernels/cuda/device.h"
#include "kernels/cuda/head_access.h"
#include "kernels/cuda/ordered.h"

namespace plsc::kernels::cuda {
namespace {

constexpr int64_t kMostBlocks = 64;

/// A warp copies `bytes` bytes in pieces of T.
template <class T>
__device__ void copy_bytes(const void* from, void* to, int64_t bytes) {
  const int64_t pieces = bytes / static_cast<int64_t>(sizeof(T));
  const T* source = static_cast<const T*>(from);
  T* target = static_cast<T*>(to);
  for (int64_t i = lane_id(); i < pieces; i += kWarp) target[i] = source[i];
}

__device__ void* at(void* rows, int64_t row, int64_t bytes) { return static_cast<char*>(rows) + row * bytes; }

struct Move {
  const RowMemory& from;
  int64_t source;
  const RowMemory& to;
  int64_t target;
};
template <class T>
__device__ void move_row(const RowCopy& copy, const Move& m) {
  copy_bytes<T>(at(m.from.weight, m.source, copy.weight_bytes), at(m.to.weight, m.target, copy.weight_bytes),
                copy.weight_bytes);
  copy_bytes<T>(at(m.from.momentum, m.source, copy.momentum_bytes), at(m.to.momentum, m.target, copy.momentum_bytes),
                copy.momentum_bytes);
  if (m.to.second_moment != nullptr && lane_id() == 0) m.to.second_moment[m.target] = m.from.second_moment[m.source];
  if (m.to.last_update != nullptr && lane_id() == 0) m.to.last_update[m.target] = m.from.last_update[m.source];
}

template <class T>
__global__ void fetch_kernel(RowCopy copy, RowList except) {
  for (int64_t i = first_row(); i < copy.list.count; i += row_step()) {
    const int64_t row = copy.list.rows[i];
    if (place_of(except.rows, except.count, row) < 0) move_row<T>(copy, {copy.table, row, copy.buffer, i});
  }
}

template <class T>
__global__ void take_over_kernel(RowCopy copy, RowList except, RowMemory other) {
  for (int64_t i = first_row(); i < copy.list.count; i += row_step()) {
    const int64_t place = place_of(except.rows, except.count, copy.list.rows[i]);
    if (place >= 0) move_row<T>(copy, {other, place, copy.buffer, i});
  }
}

template <class T>
__global__ void write_back_kernel(RowCopy copy) {
  for (int64_t i = first_row(); i < copy.list.count; i += row_step()) {
    move_row<T>(copy, {copy.buffer, i, copy.table, copy.list.rows[i]});
  }
}

/// f.operator()<T>() with the widest pieces that rows of these sizes can be moved in.
template <class F>
void with_pieces(const RowCopy& copy, F&& f) {
  constexpr int64_t kWide = sizeof(uint4);
  copy.weight_bytes % kWide == 0 && copy.momentum_bytes % kWide == 0 ? f.template operator()<uint4>()
                                                                     : f.template operator()<uint16_t>();
}

Grid grid_of(int64_t rows, int64_t most) { return {.blocks = std::min(row_blocks(rows), most), .threads = kThreads}; }

}  // namespace

void fetch_rows(const RowCopy& copy, const RowList& except, cudaStream_t stream) {
  with_pieces(copy,
              [&]<class T>() { launch(fetch_kernel<T>, grid_of(copy.list.count, kMostBlocks), stream, copy, except); });
}

void take_over_rows(const RowCopy& copy, const RowList& except, const RowMemory& other, cudaStream_t stream) {
  if (except.count == 0) return;
  with_pieces(copy, [&]<class T>() {
    launch(take_over_kernel<T>, grid_of(copy.list.count, kManyBlocks), stream, copy, except, other);
  });
}

void write_back_rows(const RowCopy& copy, cudaStream_t stream) {
  with_pieces(copy,
              [&]<class T>() { launch(write_back_kernel<T>, grid_of(copy.list.count, kMostBlocks), stream, copy); });
}

}  // namespace plsc::kernels::cuda
