#include "optim/compressor.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace plsc {
namespace {

// Parts start on cache lines.
constexpr int64_t kAlign = 16;

int local_ranks(const Context& context) { return context.node_group != nullptr ? context.node_group->size() : 1; }

GradientPart part_of(const Context& context, int64_t elements) {
  const int64_t local = local_ranks(context), rank = context.comm.rank();
  PLSC_CHECK(context.comm.size() % local == 0, "{} ranks in nodes of {}", context.comm.size(), local);
  GradientPart part;
  part.size = (elements + kAlign * local - 1) / (kAlign * local) * kAlign;
  part.whole = part.size * local;
  part.begin = rank % local * part.size;
  part.node = rank / local;
  part.nodes = context.comm.size() / local;
  return part;
}

/// Elements of the part that are the tensor's.
int64_t own_elements(const Param& p) { return std::clamp<int64_t>(p.value.elements() - p.part.begin, 0, p.part.size); }

/// The same on every rank.
int64_t places(const Param& p, double share) {
  const int64_t local = p.part.whole / p.part.size, each = (p.value.elements() + local - 1) / local;
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(share * static_cast<double>(each))), 1, each);
}

}  // namespace

void compress_gradients(Context& context, const std::vector<Param*>& params, const CompressConfig& config) {
  if (!config.on()) return;
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  for (Param* p : params) {
    if (!p->trainable() || p->kind != ParamKind::weight || p->value.elements() < config.exclude) continue;
    p->part = part_of(context, p->value.elements());
    p->momentum = context.device().zeros({p->part.size});
    p->unsent = context.device().zeros({p->part.size});
  }
}

double sent_share(const CompressConfig& config, int64_t epoch, int64_t nodes) {
  const int64_t stage = std::min(epoch, config.warmup_epochs) + 1;
  const double falling =
      std::pow(config.ratio, static_cast<double>(stage) / static_cast<double>(config.warmup_epochs + 1));
  return std::min(falling, std::max(config.ratio, 1.0 / static_cast<double>(nodes)));
}

double sent_share(const Context& context, const CompressConfig& config, int64_t epoch) {
  return sent_share(config, epoch, context.comm.size() / local_ranks(context));
}

Compressor::Compressor(Context& context, const std::vector<Param*>& params, const CompressorOptions& options)
    : weight_decay_(options.weight_decay), trust_(options.trust) {
  PLSC_CHECK(!context.sums_in_double, "exact sums of compressed gradients");
  PLSC_CHECK(!params.empty());
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  place(context, params, std::max<int64_t>(1, options.bucket_bytes / static_cast<int64_t>(sizeof(float))));
  make_parts(context);
  set_share(context, options.share);
}

void Compressor::place(Context& context, const std::vector<Param*>& params, int64_t bucket_elements) {
  int64_t elements = 0;
  for (Param* p : params) {
    PLSC_CHECK(p->part.defined(), "{} is not to be compressed", p->name);
    if (buckets_.empty() || buckets_.back().elements >= bucket_elements) {
      buckets_.emplace_back();
      buckets_.back().begin = elements;
    }
    Bucket& bucket = buckets_.back();
    Piece piece;
    piece.param = p;
    piece.offset = elements;
    piece.sent.first = elements - bucket.begin + p->part.begin;
    bucket.pieces.push_back(std::move(piece));
    bucket.elements += p->part.whole;
    bucket_of_[p] = buckets_.size() - 1;
    elements += p->part.whole;
  }
  flat_ = context.device().zeros({elements});
  const int64_t local = local_ranks(context);
  summed_ = local == 1 ? flat_ : context.device().zeros({elements / local});
}

void Compressor::make_parts(Context& context) {
  const int64_t local = local_ranks(context);
  int64_t most = 0, number = 0;
  if (trust_) squares_ = context.device().zeros({2 * static_cast<int64_t>(bucket_of_.size())}, Dtype::f64);
  for (Bucket& bucket : buckets_) {
    for (Piece& piece : bucket.pieces) {
      Param& p = *piece.param;
      p.grad = flat_.slice(piece.offset, p.value.shape());
      p.grad_stale = true;
      const Shape own{own_elements(p)};
      most = std::max(most, own[0]);
      const int64_t begin = std::min(p.part.begin, p.value.elements());
      piece.part = {summed_.slice(piece.offset / local, own),
                    p.value.slice(begin, own),
                    p.momentum.slice(0, own),
                    p.unsent.slice(0, own),
                    {},
                    p.part.nodes};
      if (trust_) piece.part.squares = squares_.slice(2 * number++, {2});
    }
  }
  room_ = context.device().tensor({most});
}

void Compressor::set_share(Context& context, double share) {
  if (share == share_) return;
  share_ = share;
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  for (Bucket& bucket : buckets_) {
    int64_t k = 0;
    for (const Piece& piece : bucket.pieces) k += places(*piece.param, share);
    bucket.sent = bucket.gathered = {};
    bucket.sent = context.device().tensor({1, 2, k}, Dtype::i32);
    bucket.gathered = context.device().tensor({context.comm.size(), 2, k}, Dtype::i32);
    int64_t at = 0;
    for (Piece& piece : bucket.pieces) {
      const int64_t own = places(*piece.param, share);
      piece.sent.indices = bucket.sent.slice(at, {own});
      piece.sent.bits = bucket.sent.slice(k + at, {own});
      at += own;
    }
  }
}

void Compressor::start(Context& context, size_t bucket) {
  Bucket& b = buckets_[bucket];
  b.chosen = false;
  if (local_ranks(context) == 1) return choose(context, bucket);
  for (Piece& piece : b.pieces) {
    const GradientPart& part = piece.param->part;
    Tensor own = summed_.slice(piece.offset / local_ranks(context), {part.size});
    b.summing.push_back(context.node_group->start_reduce_scatter(flat_.slice(piece.offset, {part.whole}), own));
  }
  // While this one's sums are under way. By the order of the buckets alone, which is the same on all ranks.
  if (bucket > 0 && !buckets_[bucket - 1].chosen) choose(context, bucket - 1);
}

void Compressor::choose(Context& context, size_t bucket) {
  Bucket& b = buckets_[bucket];
  b.chosen = true;
  for (Pending& sum : b.summing) context.node_group->wait(std::move(sum), "gradients of a host");
  b.summing.clear();
  for (Piece& piece : b.pieces) {
    if (trust_ && piece.part.value.elements() > 0) {
      Tensor of_value = piece.part.squares.slice(0, {1}), of_gradient = piece.part.squares.slice(1, {1});
      context.backend.optim->squares(piece.part.value, of_value);
      context.backend.optim->squares(piece.part.grad, of_gradient);
    }
    Tensor room = room_.slice(0, piece.part.value.shape());
    context.backend.compress->select(piece.part, weight_decay_, room, piece.sent);
  }
  b.sending = context.comm.start_all_gather(b.sent, b.gathered);
}

void Compressor::poll(size_t bucket) {
  Bucket& b = buckets_[bucket];
  for (const Pending& sum : b.summing) sum->poll();
  if (b.sending) b.sending->poll();
}

void Compressor::finish(Context& context, size_t bucket) {
  Bucket& b = buckets_[bucket];
  for (size_t other = 0; other < buckets_.size(); ++other)
    if (!buckets_[other].chosen) choose(context, other);
  context.comm.wait(std::move(b.sending), "compressed gradients " + std::to_string(bucket));
  b.sending = nullptr;
}

void Compressor::settle(Context& context) {
  CompressOps& ops = *context.backend.compress;
  for (const Bucket& b : buckets_) ops.check_finite(b.gathered);
  for (Bucket& b : buckets_) {
    for (const Piece& piece : b.pieces) ops.keep_rest(piece.part, weight_decay_, piece.sent);
    Tensor sum = flat_.slice(b.begin, {b.elements});
    ops.scatter(b.gathered, sum);
  }
}

}  // namespace plsc
