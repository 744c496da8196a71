// Two buffers in turn, and two streams beside the compute stream: one brings rows in, one takes them back. With step k
// in buffer 0 on the compute stream:
//
//   fetches: index of step k + 1 | catch-up of the turn | its rows from the tables, but for those of step k
//   compute: ... step k ... its update ] | take: rows of both steps from buffer 0 | ... step k + 1 ...
//   writes:                            [ buffer 0 to the tables
//
// A fetch waits for the write-back of the step before the one under way, whose buffer it fills and whose rows it may
// want, and for the take of the step under way, which reads that buffer; behind settle, or where room had to be made,
// for all that the compute stream was given. What it reads and what is written back beside it are never the same rows.
#pragma once
#include <array>

#include "backend/cuda/cuda_device.h"
#include "backend/head_ops.h"
#include "kernels/cuda/row_copy.h"

namespace plsc {

/// For the thread of the device, which must outlive it.
class CudaRowBuffers final : public RowBuffers {
 public:
  CudaRowBuffers(CudaDevice& device, const RowTables& tables);
  /// Waits for the device.
  ~CudaRowBuffers() override;

  void fetch(SampledRows& rows, const RowTurn* turn) override;
  FetchedRows take() override;
  void write_back() override;
  void settle() override;

 private:
  struct Buffer {
    FetchedRows rows;  // of `room` rows, the first `count` in use
    int64_t room = 0, count = 0;
    Event fetched;            // on the stream of fetches: all is here but what the other buffer has
    Event taken;              // on the compute stream: that, too; the other buffer has been read
    Event changed;            // on the compute stream: the step is done with it
    Event written;            // on the stream of write-backs: so is that
    bool has_latest = false;  // the tables may not have its rows as they are here
  };
  enum class State { idle, fetched, in_use };

  void join();
  void make_room(Buffer& buffer, int64_t rows);
  void make_room_for(const Tensor& values, Tensor& there);
  void catch_up(const RowTurn& turn, const kernels::cuda::RowList& except);
  kernels::cuda::RowCopy copy_of(const Buffer& buffer) const;
  static kernels::cuda::RowMemory memory_of(const FetchedRows& rows);
  static kernels::cuda::RowList list_of(const Buffer& buffer);
  cudaStream_t compute() const { return device_.compute_stream(); }

  CudaDevice& device_;
  RowTables tables_;
  Stream fetches_, writes_;
  std::array<Buffer, 2> buffers_;
  size_t turn_ = 0;  // the buffer of the next take, or of the one that was taken
  State state_ = State::idle;
  bool used_otherwise_ = true;  // the compute stream may have been given work on the tables themselves
  Event given_;                 // what that was; and for the order of single streams
  Tensor steps_, coasting_;     // of the stream of fetches: RowTurn's
};

}  // namespace plsc
