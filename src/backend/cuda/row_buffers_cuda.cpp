#include "backend/cuda/row_buffers_cuda.h"

#include <algorithm>
#include <bit>

#include "backend/cuda/head_sample_cuda.h"
#include "backend/cuda/head_tiles_cuda.h"

namespace plsc {
namespace {

namespace gpu = kernels::cuda;

int64_t row_bytes(const Tensor& rows) { return rows.dim(1) * static_cast<int64_t>(dtype_size(rows.dtype())); }

}  // namespace

CudaRowBuffers::CudaRowBuffers(CudaDevice& device, const RowTables& tables) : device_(device), tables_(tables) {
  PLSC_CHECK(tables.momentum.defined() && tables.momentum.shape() == tables.weight.shape());
  for (Buffer& buffer : buffers_) {
    for (Event* event : {&buffer.fetched, &buffer.taken, &buffer.written}) event->record(compute());
  }
}

CudaRowBuffers::~CudaRowBuffers() {
  // Not by the hook, as at the end of the device.
  for (const Stream* stream : {&fetches_, &writes_}) cudaStreamSynchronize(stream->get());
}

gpu::RowMemory CudaRowBuffers::memory_of(const FetchedRows& rows) {
  return {rows.weight.raw(), rows.momentum.raw(),
          rows.second_moment.defined() ? rows.second_moment.data<float>() : nullptr,
          rows.last_update.defined() ? rows.last_update.data<int64_t>() : nullptr};
}

gpu::RowList CudaRowBuffers::list_of(const Buffer& buffer) {
  if (!buffer.has_latest) return {};
  return {buffer.rows.index.data<int64_t>(), buffer.count};
}

gpu::RowCopy CudaRowBuffers::copy_of(const Buffer& buffer) const {
  gpu::RowCopy copy;
  copy.list = {buffer.rows.index.data<int64_t>(), buffer.count};
  copy.weight_bytes = row_bytes(tables_.weight);
  copy.momentum_bytes = row_bytes(tables_.momentum);
  copy.table = memory_of({{}, tables_.weight, tables_.momentum, tables_.second_moment, tables_.last_update});
  copy.buffer = memory_of(buffer.rows);
  return copy;
}

/// Memory is the compute stream's: whoever has what is released here comes behind these streams, and these behind
/// whoever had what is taken here.
void CudaRowBuffers::join() {
  for (const Stream* stream : {&fetches_, &writes_}) {
    given_.record(stream->get());
    given_.order(compute());
  }
  used_otherwise_ = true;
}

void CudaRowBuffers::make_room(Buffer& buffer, int64_t rows) {
  if (buffer.room >= rows && buffer.room > 0) return;
  const MemoryScope scope(device_, MemoryUse::head);
  join();
  // Numbers that creep up must not make room in every step.
  const int64_t room = std::max(row_buffer_room(rows), buffer.room + buffer.room / 8);
  buffer.rows = {};
  buffer.room = 0;
  buffer.rows = FetchedRows::make(device_, tables_, room);
  buffer.room = room;
}

void CudaRowBuffers::make_room_for(const Tensor& values, Tensor& there) {
  if (!values.defined() || (there.defined() && there.elements() >= values.elements())) return;
  const MemoryScope scope(device_, MemoryUse::head);
  join();
  there = {};
  const auto room = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(values.elements())));
  there = device_.tensor({room}, values.dtype());
}

void CudaRowBuffers::catch_up(const RowTurn& turn, const gpu::RowList& except) {
  const auto upload = [&](const Tensor& values, const Tensor& there) {
    if (values.defined() && values.bytes() > 0)
      device_.upload(values.raw(), there.raw(), values.bytes(), fetches_.get());
  };
  upload(turn.steps, steps_);
  upload(turn.coasting, coasting_);
  gpu::HeadRows rows = head_rows_of(turn.rows, tables_.weight.dim(1));
  rows.steps = reinterpret_cast<const math::CatchUpMatrix<float>*>(steps_.data<float>());
  rows.coasting =
      turn.coasting.defined() ? reinterpret_cast<const math::CoastingStep*>(coasting_.data<double>()) : nullptr;
  gpu::catch_up_rows(rows, turn.few, except, fetches_.get());
}

void CudaRowBuffers::fetch(SampledRows& rows, const RowTurn* turn) {
  PLSC_CHECK(state_ == State::idle, "rows were fetched before those of the step before were written back");
  auto& counted = static_cast<CountedRows&>(rows);
  Buffer &to = buffers_[turn_], &before = buffers_[1 - turn_];
  const cudaStream_t stream = fetches_.get();
  to.count = counted.count();
  make_room(to, to.count);
  if (turn != nullptr) {
    make_room_for(turn->steps, steps_);
    make_room_for(turn->coasting, coasting_);
  }
  if (used_otherwise_) {
    given_.record(compute());
    given_.order(stream);
    used_otherwise_ = false;
  }
  to.written.order(stream);
  before.taken.order(stream);
  counted.write(to.rows.index.data<int64_t>(), stream);
  const gpu::RowList except = list_of(before);
  if (turn != nullptr) catch_up(*turn, except);
  gpu::fetch_rows(copy_of(to), except, stream);
  to.fetched.record(stream);
  state_ = State::fetched;
}

FetchedRows CudaRowBuffers::take() {
  PLSC_CHECK(state_ == State::fetched, "no rows were fetched");
  Buffer &to = buffers_[turn_], &before = buffers_[1 - turn_];
  to.fetched.order(compute());
  gpu::take_over_rows(copy_of(to), list_of(before), memory_of(before.rows), compute());
  to.taken.record(compute());
  to.has_latest = true;
  before.has_latest = false;
  state_ = State::in_use;
  return to.rows.first(to.count);
}

void CudaRowBuffers::write_back() {
  PLSC_CHECK(state_ == State::in_use, "no rows were taken");
  Buffer& buffer = buffers_[turn_];
  const cudaStream_t stream = writes_.get();
  buffer.changed.record(compute());
  buffer.changed.order(stream);
  gpu::write_back_rows(copy_of(buffer), stream);
  buffer.written.record(stream);
  turn_ = 1 - turn_;
  state_ = State::idle;
}

void CudaRowBuffers::settle() {
  PLSC_CHECK(state_ != State::in_use, "rows of a step are still in use");
  for (const Buffer& buffer : buffers_) buffer.written.order(compute());
  buffers_[turn_].fetched.order(compute());
  used_otherwise_ = true;
  if (state_ == State::fetched) return;  // the rows of both steps are still to be taken over
  for (Buffer& buffer : buffers_) buffer.has_latest = false;
}

}  // namespace plsc
