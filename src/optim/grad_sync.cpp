#include "optim/grad_sync.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "base/error.h"

namespace plsc {
namespace {

// Pieces start on cache lines.
constexpr int64_t kAlign = 16;
int64_t padded(int64_t elements) { return (elements + kAlign - 1) / kAlign * kAlign; }

/// A piece of the flat buffer for each tensor, in the order in which backward completes them.
struct Layout {
  std::vector<int64_t> offsets;
  std::vector<int64_t> bucket_offsets;  // begin of each bucket, and the end of the last
  int64_t elements = 0;
};

Layout lay_out(const std::vector<int64_t>& sizes, int64_t bucket_elements) {
  Layout layout;
  layout.bucket_offsets.push_back(0);
  for (const int64_t size : sizes) {
    if (layout.elements - layout.bucket_offsets.back() >= bucket_elements)
      layout.bucket_offsets.push_back(layout.elements);
    layout.offsets.push_back(layout.elements);
    layout.elements += padded(size);
  }
  layout.bucket_offsets.push_back(layout.elements);
  return layout;
}

}  // namespace

GradSync::GradSync(Context& context, const std::vector<Param*>& params, const std::vector<Tensor*>& summed,
                   const GradSyncOptions& options)
    : options_(options) {
  PLSC_CHECK(!options.bf16 || !context.sums_in_double, "exact sums in bf16");
  Placed whole, compressed;
  for (auto p = params.rbegin(); p != params.rend(); ++p) {
    if ((*p)->trainable()) ((*p)->part.defined() ? compressed : whole).emplace_back(*p, p - params.rbegin());
  }
  if (!whole.empty()) place_gradients(context, whole);
  if (!compressed.empty()) place_compressed(context, compressed);
  sort_buckets();
  if (!summed.empty()) place_statistics(context, summed);
}

void GradSync::place_gradients(Context& context, const Placed& trainable) {
  const Dtype dtype = context.sums_in_double ? Dtype::f64 : Dtype::f32;
  std::vector<int64_t> sizes;
  for (const auto& [p, place] : trainable) sizes.push_back(p->value.elements());
  const Layout layout =
      lay_out(sizes, std::max<int64_t>(1, options_.bucket_bytes / static_cast<int64_t>(dtype_size(dtype))));
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  flat_ = context.device().zeros({layout.elements}, dtype);
  for (size_t b = 0; b + 1 < layout.bucket_offsets.size(); ++b) {
    const int64_t begin = layout.bucket_offsets[b];
    Bucket bucket;
    bucket.elements = flat_.slice(begin, {layout.bucket_offsets[b + 1] - begin});
    buckets_.push_back(std::move(bucket));
  }
  size_t bucket = 0;
  for (size_t i = 0; i < trainable.size(); ++i) {
    while (layout.offsets[i] >= layout.bucket_offsets[bucket + 1]) ++bucket;
    Param& p = *trainable[i].first;
    p.grad = flat_.slice(layout.offsets[i], p.value.shape());
    p.grad_stale = true;
    bucket_of_[&p] = bucket;
    ++buckets_[bucket].params;
    buckets_[bucket].last = trainable[i].second;
  }
}

void GradSync::place_compressed(Context& context, const Placed& trainable) {
  std::vector<Param*> params;
  for (const auto& [p, place] : trainable) params.push_back(p);
  compressor_.emplace(context, params,
                      CompressorOptions{options_.bucket_bytes, options_.share, options_.weight_decay, options_.trust});
  const size_t first = buckets_.size();
  buckets_.resize(first + static_cast<size_t>(compressor_->buckets()));
  for (const auto& [p, place] : trainable) {
    const size_t number = compressor_->bucket_of(*p);
    Bucket& bucket = buckets_[first + number];
    bucket.compressed = number;
    bucket.last = place;
    ++bucket.params;
    bucket_of_[p] = first + number;
  }
  const MemoryScope scope(context.device(), MemoryUse::optimizer);
  if (options_.local_clip > 0) squares_ = context.device().zeros({2}, Dtype::f64);
}

void GradSync::sort_buckets() {
  std::vector<size_t> order(buckets_.size()), place(buckets_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t b) { return buckets_[b].last; });
  std::vector<Bucket> sorted;
  for (const size_t b : order) {
    place[b] = sorted.size();
    sorted.push_back(std::move(buckets_[b]));
  }
  buckets_ = std::move(sorted);
  for (auto& [param, bucket] : bucket_of_) bucket = place[bucket];
}

void GradSync::place_statistics(Context& context, const std::vector<Tensor*>& summed) {
  std::vector<int64_t> sizes;
  for (const Tensor* t : summed) sizes.push_back(t->elements());
  const Layout layout = lay_out(sizes, std::numeric_limits<int64_t>::max());
  Bucket bucket;
  bucket.elements = context.device().zeros({layout.elements}, Dtype::f64);
  for (size_t i = 0; i < summed.size(); ++i) {
    Tensor& t = *summed[i];
    PLSC_CHECK(t.dtype() == Dtype::f64, "statistics of {}", dtype_name(t.dtype()));
    Tensor piece = bucket.elements.slice(layout.offsets[i], t.shape());
    context.device().copy(t, piece);
    t = piece;
  }
  buckets_.push_back(std::move(bucket));
}

void GradSync::begin(int64_t micro_batches) {
  for (Bucket& b : buckets_) {
    PLSC_CHECK(!b.started, "a step began before the last one's gradients were waited for");
    b.open = b.params * micro_batches;
  }
  announced_ = true;
}

void GradSync::notify(Context& context, const Param& param) {
  if (!announced_) return;
  const auto found = bucket_of_.find(&param);
  if (found == bucket_of_.end()) return;
  Bucket& bucket = buckets_[found->second];
  PLSC_CHECK(bucket.open > 0, "more gradients of {} than were announced", param.name);
  --bucket.open;
  if (squares_.defined()) return;  // the norm is to be known first
  // In order, so that all ranks start the same sequence whatever order their layers finish in.
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (buckets_[b].params == 0 || buckets_[b].open > 0) break;
    if (!buckets_[b].started) start(context, b);
    // Without a thread of its own a collective moves only while somebody polls.
    if (buckets_[b].pending) buckets_[b].pending->poll();
    if (buckets_[b].compressed) compressor_->poll(*buckets_[b].compressed);
  }
}

void GradSync::run(Context& context) {
  if (squares_.defined()) clip(context);
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (!buckets_[b].started) start(context, b);
  }
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (buckets_[b].compressed) compressor_->finish(context, *buckets_[b].compressed);
    if (buckets_[b].pending) context.comm.wait(std::move(buckets_[b].pending), "gradient bucket " + std::to_string(b));
    buckets_[b].pending = nullptr;
    buckets_[b].started = false;
  }
  announced_ = false;
}

void GradSync::clip(Context& context) {
  const std::vector<Tensor> flats =
      flat_.defined() ? std::vector<Tensor>{compressor_->flat(), flat_} : std::vector<Tensor>{compressor_->flat()};
  for (size_t i = 0; i < flats.size(); ++i) {
    Tensor sum = squares_.slice(static_cast<int64_t>(i), {1});
    context.backend.optim->squares(flats[i], sum);
  }
  for (Tensor flat : flats) context.backend.compress->clip(flat, squares_, options_.local_clip);
}

void GradSync::settle(Context& context) {
  if (!compressor_) return;
  if (flat_.defined()) context.backend.optim->check_finite(flat_);
  compressor_->settle(context);
}

bool GradSync::set_share(Context& context, double share) {
  if (!compressor_ || compressor_->share() == share) return false;
  compressor_->set_share(context, share);
  return true;
}

void GradSync::start(Context& context, size_t bucket) {
  Bucket& b = buckets_[bucket];
  b.started = true;
  if (b.compressed) return compressor_->start(context, *b.compressed);
  if (context.comm.size() == 1) return;
  // Statistics are in fp64, whatever the gradients are sent as.
  const bool narrow = options_.bf16 && b.elements.dtype() == Dtype::f32;
  b.pending = narrow ? context.comm.start_all_reduce_bf16(b.elements)
                     : context.comm.start_all_reduce(b.elements, ReduceOp::sum);
}

}  // namespace plsc
