// See neighbour_search.h.
#include "backend/cpu/neighbour_search.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "backend/cpu/parts.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/neighbours.h"

namespace plsc {
namespace {

constexpr int64_t kQueryTile = NeighbourScratch::kQueryTile, kKeyTile = NeighbourScratch::kKeyTile;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/// rows (count, D) fp32 in the products' type, `type`, with zero rows up to `padded`.
void fill_operand(const float* rows, int64_t count, int64_t padded, int64_t columns, Dtype type, void* to) {
  const size_t width = dtype_size(type);
  if (type == Dtype::bf16) {
    kernels::cast(rows, static_cast<uint16_t*>(to), count * columns);
  } else {
    std::memcpy(to, rows, static_cast<size_t>(count * columns) * width);
  }
  std::memset(static_cast<std::byte*>(to) + static_cast<size_t>(count * columns) * width, 0,
              static_cast<size_t>((padded - count) * columns) * width);
}

}  // namespace

CandidateBuffer::CandidateBuffer(int64_t keep)
    : keep_(static_cast<size_t>(keep)), room_(keep_ + std::max<size_t>(keep_, 512)), floor_(kMinusInfinity) {}

uint64_t CandidateBuffer::key_of(float cosine, int64_t id) {
  constexpr uint32_t kSign = 0x80000000U;
  const auto bits = std::bit_cast<uint32_t>(cosine + 0.0F);  // no -0, which would come behind 0
  const uint32_t descending = (bits & kSign) != 0 ? bits : ~(bits | kSign);
  return uint64_t{descending} << 32 | static_cast<uint64_t>(id);
}

NeighbourCandidate CandidateBuffer::candidate_of(uint64_t key) {
  constexpr uint32_t kSign = 0x80000000U;
  const auto descending = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (descending & kSign) != 0 ? descending : ~descending & ~kSign;
  return {std::bit_cast<float>(bits), static_cast<int64_t>(key & 0xFFFFFFFFU)};
}

void CandidateBuffer::load(const float* cosines, const int64_t* ids) {
  held_.clear();
  held_.reserve(room_);
  floor_ = std::numeric_limits<float>::infinity();
  for (size_t n = 0; n < keep_ && ids[n] >= 0; ++n) {
    held_.push_back(key_of(cosines[n], ids[n]));
    floor_ = std::min(floor_, cosines[n]);
  }
  if (held_.size() < keep_) floor_ = kMinusInfinity;
}

void CandidateBuffer::store(float* cosines, int64_t* ids) {
  if (held_.size() > keep_) cut();
  for (size_t n = 0; n < held_.size(); ++n) {
    const NeighbourCandidate candidate = candidate_of(held_[n]);
    cosines[n] = candidate.cosine;
    ids[n] = candidate.id;
  }
}

void CandidateBuffer::cut() {
  const auto worst = held_.begin() + static_cast<int64_t>(keep_) - 1;
  std::nth_element(held_.begin(), worst, held_.end());
  floor_ = candidate_of(*worst).cosine;
  held_.resize(keep_);
}

NeighbourScratch::Part::Part(Device& device, const NeighbourSearchSpec& spec)
    : products(device, kKeyTile, spec.columns, spec.scores),
      queries(device.tensor({kQueryTile, spec.columns}, spec.scores)),
      scores(device.tensor({kQueryTile, kKeyTile})),
      places(kKeyTile),
      buffers(kQueryTile, CandidateBuffer(spec.candidates)) {}

NeighbourScratch::NeighbourScratch(Device& device, const NeighbourSearchSpec& spec)
    : device_(device), scores_(spec.scores) {
  for (int p = 0; p < device.threads(); ++p) parts_.push_back(std::make_unique<Part>(device, spec));
}

void* NeighbourScratch::take_keys(const NeighbourBlock& block) {
  const int64_t count = block.keys.dim(0), padded = round_up(count, kKeyTile);
  if (scores_ == Dtype::f32 && padded == count) return nullptr;
  if (!keys_.defined() || keys_.dim(0) < padded) {
    keys_ = {};
    keys_ = device_.tensor({padded, block.keys.dim(1)}, scores_);
  }
  return keys_.raw();
}

CpuNeighbourSearch::CpuNeighbourSearch(Device& device, const NeighbourSearchSpec& spec)
    : device_(device),
      spec_(spec),
      lists_{device.tensor({spec.queries, spec.candidates}),
             device.tensor({spec.queries, spec.candidates}, Dtype::i64)},
      scratch_(device, spec) {
  check_search(spec);
  for_parts(lists_.rows.elements(), kElementsPerPart, device.threads(), [&](int64_t begin, int64_t end, int) {
    std::fill(lists_.cosines.data<float>() + begin, lists_.cosines.data<float>() + end, kMinusInfinity);
    std::fill(lists_.rows.data<int64_t>() + begin, lists_.rows.data<int64_t>() + end, int64_t{-1});
  });
}

const std::byte* CpuNeighbourSearch::prepare_keys(const NeighbourBlock& block) {
  const int64_t count = block.keys.dim(0), padded = round_up(count, kKeyTile), columns = spec_.columns;
  auto* to = static_cast<std::byte*>(scratch_.take_keys(block));
  if (to == nullptr) return static_cast<const std::byte*>(block.keys.raw());
  const size_t row_bytes = static_cast<size_t>(columns) * dtype_size(spec_.scores);
  for_parts(padded / kKeyTile, 1, device_.threads(), [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * kKeyTile, last = std::min(end * kKeyTile, count);
    fill_operand(block.keys.data<float>() + first * columns, last - first, end * kKeyTile - first, columns,
                 spec_.scores, to + static_cast<size_t>(first) * row_bytes);
  });
  return to;
}

void CpuNeighbourSearch::score(const NeighbourBlock& block) {
  check_block(spec_, block);
  if (block.queries.dim(0) == 0 || block.keys.dim(0) == 0) return;
  const std::byte* keys = prepare_keys(block);
  const int64_t queries = block.queries.dim(0), tiles = round_up(queries, kQueryTile) / kQueryTile;
  parallel_ranges(tiles, device_.threads(), [&](int64_t begin, int64_t end, int part) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kQueryTile;
      score_tile(scratch_.part(part), block, keys, first, std::min(kQueryTile, queries - first));
    }
  });
}

void CpuNeighbourSearch::score_tile(NeighbourScratch::Part& scratch, const NeighbourBlock& block, const std::byte* keys,
                                    int64_t begin, int64_t count) {
  const int64_t columns = spec_.columns, k = spec_.candidates, total = block.keys.dim(0);
  const int64_t first_query = block.first_query + begin;
  fill_operand(block.queries.data<float>() + begin * columns, count, kQueryTile, columns, spec_.scores,
               scratch.queries.raw());
  float* cosines = lists_.cosines.data<float>() + first_query * k;
  int64_t* ids = lists_.rows.data<int64_t>() + first_query * k;
  for (int64_t i = 0; i < count; ++i) scratch.buffers[static_cast<size_t>(i)].load(cosines + i * k, ids + i * k);

  float* scores = scratch.scores.data<float>();
  const size_t row_bytes = static_cast<size_t>(columns) * dtype_size(spec_.scores);
  for (int64_t first = 0; first < total; first += kKeyTile) {
    scratch.products.dots(kQueryTile, scratch.queries.raw(), keys + static_cast<size_t>(first) * row_bytes, scores);
    const int64_t present = std::min(kKeyTile, total - first);
    for (int64_t i = 0; i < count; ++i) {
      CandidateBuffer& buffer = scratch.buffers[static_cast<size_t>(i)];
      const float* row = scores + i * kKeyTile;
      const int64_t own = spec_.first_class + first_query + i;
      const int64_t found = kernels::scores_above(row, present, buffer.floor(), scratch.places.data());
      for (int64_t n = 0; n < found; ++n) {
        const int32_t place = scratch.places[static_cast<size_t>(n)];
        const int64_t id = block.first_key + first + place;
        if (id != own) buffer.add(row[place], id);
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) scratch.buffers[static_cast<size_t>(i)].store(cosines + i * k, ids + i * k);
}

void CpuNeighbourSearch::measure(const NeighbourBlock& block) {
  check_block(spec_, block);
  const int64_t columns = spec_.columns, k = spec_.candidates, behind = block.first_key + block.keys.dim(0);
  for_parts(block.queries.dim(0), 1, device_.threads(), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* query = block.queries.data<float>() + i * columns;
      const int64_t list = (block.first_query + i) * k;
      for (int64_t n = list; n < list + k; ++n) {
        const int64_t id = lists_.rows.data<int64_t>()[n];
        if (id < block.first_key || id >= behind) continue;
        const float* key = block.keys.data<float>() + (id - block.first_key) * columns;
        lists_.cosines.data<float>()[n] = kernels::fixed_order_dot(query, key, columns);
      }
    }
  });
}

void CpuNeighbourSearch::sort() {
  const auto k = static_cast<size_t>(spec_.candidates);
  for_parts(spec_.queries, 1, device_.threads(), [&](int64_t begin, int64_t end, int) {
    std::vector<NeighbourCandidate> list;
    for (int64_t i = begin; i < end; ++i) {
      float* cosines = lists_.cosines.data<float>() + i * spec_.candidates;
      int64_t* ids = lists_.rows.data<int64_t>() + i * spec_.candidates;
      list.clear();
      for (size_t n = 0; n < k && ids[n] >= 0; ++n) list.push_back({cosines[n], ids[n]});
      std::ranges::sort(list, nearer);
      for (size_t n = 0; n < list.size(); ++n) {
        cosines[n] = list[n].cosine;
        ids[n] = list[n].id;
      }
    }
  });
}

}  // namespace plsc
