#include "backend/cuda/head_sample_cuda.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cuda/check.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

/// One for the step under way, one for the next.
constexpr int kSlots = 2;
/// Of a slot, at least: the number of positives differs from step to step.
constexpr int64_t kLeastWords = 4096;

constexpr int64_t kTotal = 0, kPositives = 1;  // where they lie in a slot

kernels::cuda::SampleClasses sample_of(const SampleRows& args) {
  kernels::cuda::SampleClasses sample;
  sample.seed = args.seed;
  sample.step = args.step;
  sample.limit = math::sample_limit(args.threshold);
  sample.first_class = args.first_class;
  sample.classes = args.classes;
  sample.positive_count = args.positives.elements();
  return sample;
}

}  // namespace

CountedRows::CountedRows(HeadSampler& sampler, const SampleRows& args) : sampler_(sampler), sample_(sample_of(args)) {
  slot_ = sampler.take(kPositives + sample_.positive_count + kernels::cuda::sample_blocks(sample_));
  int64_t* words = slot_->device.data<int64_t>();
  sample_.positives = words + kPositives;
  places_ = words + kPositives + sample_.positive_count;
  sampler.count(*slot_, sample_, args.positives);
}

CountedRows::~CountedRows() {
  if (slot_) sampler_.give_back(std::move(slot_));
}

Tensor CountedRows::get() {
  if (rows_.defined()) return rows_;
  CudaDevice& device = sampler_.device_;
  rows_ = device.tensor({count()}, Dtype::i64);
  write(rows_.data<int64_t>(), device.compute_stream());
  return rows_;
}

int64_t CountedRows::count() {
  PLSC_CHECK(slot_, "the number of rows that have been written");
  sampler_.device_.waiter().wait(slot_->counted);
  return slot_->host.data<int64_t>()[kTotal];
}

void CountedRows::write(int64_t* rows, cudaStream_t stream) {
  PLSC_CHECK(slot_, "rows were written twice");
  slot_->counted.order(stream);
  kernels::cuda::write_samples(sample_, places_, rows, stream);
  slot_->written.record(stream);
  sampler_.give_back(std::move(slot_));
}

HeadSampler::HeadSampler(CudaDevice& device) : device_(device) {
  for (int i = 0; i < kSlots; ++i) give_back(std::make_unique<Slot>());
}

HeadSampler::~HeadSampler() {
  // Not by the hook, as at the end of the device.
  cudaStreamSynchronize(counts_.get());
}

std::unique_ptr<SampledRows> HeadSampler::start(const SampleRows& args) {
  device_.check_not_recording("a copy from host memory");
  return std::make_unique<CountedRows>(*this, args);
}

/// A slot whose host memory is free, with room for `words`.
std::unique_ptr<HeadSampler::Slot> HeadSampler::take(int64_t words) {
  if (free_.empty()) give_back(std::make_unique<Slot>());
  // Only a sampling that nobody asked for can still be under way.
  device_.waiter().wait(free_.front()->counted);
  reserve(*free_.front(), words);
  auto slot = std::move(free_.front());
  free_.pop_front();
  return slot;
}

/// What a slot had before goes back to the arena: this stream is done with it. The compute stream, which may still read
/// it, keeps the arena's order; where the row buffers' stream read it, the compute stream has been ordered behind that
/// by their take, which comes before the slot is taken again.
void HeadSampler::reserve(Slot& slot, int64_t words) {
  if (slot.host.defined() && slot.host.elements() >= words) return;
  const MemoryScope scope(device_, MemoryUse::head);
  const auto room = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(2 * words, kLeastWords))));
  slot.host = slot.device = {};
  slot.device = device_.tensor({room}, Dtype::i64);
  slot.host = Tensor(pinned_, {room}, Dtype::i64);
  slot.written.record(device_.compute_stream());  // whoever had this memory before worked on it until here
}

/// Gives it all to the stream of this.
void HeadSampler::count(Slot& slot, const kernels::cuda::SampleClasses& sample, const Tensor& positives) {
  const cudaStream_t stream = counts_.get();
  int64_t *host = slot.host.data<int64_t>(), *there = slot.device.data<int64_t>();
  int64_t *total = there + kTotal, *places = there + kPositives + sample.positive_count;
  slot.written.order(stream);
  if (const size_t bytes = positives.bytes(); bytes > 0) {
    std::memcpy(host + kPositives, positives.raw(), bytes);
    check(cudaMemcpyAsync(there + kPositives, host + kPositives, bytes, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
  }
  kernels::cuda::count_samples(sample, places, stream);
  kernels::cuda::scan_counts(places, kernels::cuda::sample_blocks(sample), total, stream);
  check(cudaMemcpyAsync(host + kTotal, total, sizeof(int64_t), cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
  slot.counted.record(stream);
}

}  // namespace plsc
