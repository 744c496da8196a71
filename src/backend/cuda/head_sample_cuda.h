// The classes of a step, counted on a stream of their own: how many take part in the next step is known while the
// device is still at this one, so that the host, which needs the number for the sizes of that step, does not wait.
//
// Counting needs nothing but the positives, which the host has. So it waits for no work of the compute stream but the
// last use of its own memory. That memory is a slot: the positives and the places of each block's rows on the device,
// and page-locked memory for the positives on their way there and the number on its way back. (The device's ring of
// uploads would do worse: its pieces come free in the order in which they were taken, these behind those of the compute
// stream.) A slot is taken by `start` and comes back once its rows were asked for; what writes the rows reads it on the
// stream that they are for (the compute stream, or that of row_buffers_cuda.h). With two slots in turn the one taken
// was last read at the begin of the step before the one under way.
#pragma once
#include <deque>
#include <memory>

#include "backend/cuda/cuda_device.h"
#include "backend/head_ops.h"
#include "kernels/cuda/head_sample.h"

namespace plsc {

class CountedRows;

/// For the thread of the device, which must outlive it.
class HeadSampler {
 public:
  explicit HeadSampler(CudaDevice& device);
  /// Waits for the device. No sampling may be left.
  ~HeadSampler();
  HeadSampler(const HeadSampler&) = delete;
  HeadSampler& operator=(const HeadSampler&) = delete;

  /// See HeadOps::start_sample. Takes memory where no slot is large enough; such a sampling comes behind what the
  /// compute stream was given. Any number may be under way: beyond two there are more slots. What is returned must end
  /// before this does.
  std::unique_ptr<SampledRows> start(const SampleRows& args);

 private:
  friend class CountedRows;

  /// One i64 on either side is the number of rows, the positives follow; on the device each block's place, too.
  struct Slot {
    Tensor host, device;  // of the same size
    Event counted;        // on the sampler's stream: the number is on the host
    Event written;        // on the stream that the rows are for: it is done with the device's memory
  };
  std::unique_ptr<Slot> take(int64_t words);
  void reserve(Slot& slot, int64_t words);
  void give_back(std::unique_ptr<Slot> slot) { free_.push_back(std::move(slot)); }
  void count(Slot& slot, const kernels::cuda::SampleClasses& sample, const Tensor& positives);

  CudaDevice& device_;
  PinnedPool pinned_;  // before the slots, which hold memory of it
  Stream counts_;
  std::deque<std::unique_ptr<Slot>> free_;  // the one that was used longest ago first
};

/// Rows whose number is on its way to the host.
class CountedRows final : public SampledRows {
 public:
  CountedRows(HeadSampler& sampler, const SampleRows& args);
  ~CountedRows() override;
  CountedRows(const CountedRows&) = delete;
  CountedRows& operator=(const CountedRows&) = delete;

  /// Writes the rows on the compute stream.
  Tensor get() override;
  /// Waits for the number, which no other stream holds up.
  int64_t count();
  /// In place of `get`, once: to `rows`, of as many i64 in device memory, behind what `stream` was given.
  void write(int64_t* rows, cudaStream_t stream);

 private:
  HeadSampler& sampler_;
  kernels::cuda::SampleClasses sample_;
  std::unique_ptr<HeadSampler::Slot> slot_;  // until the rows are written
  const int64_t* places_ = nullptr;          // of each block's rows
  Tensor rows_;
};

}  // namespace plsc
