// Copies and fills. A copy from pinned memory reads it when the copy runs, so that a buffer that is used again too
// early shows; from pageable memory it is read at once, as CUDA documents.
#include <cstring>
#include <memory>
#include <vector>

#include "graph.h"
#include "memory.h"
#include "scheduler.h"

namespace plsc::standin {
namespace {

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  cudaMemcpyKind kind;
};

enum class Place { device, pinned, pageable };

/// Where [p, p + bytes) lies; misuse where it begins in a block and goes beyond.
Place place_of(const void* p, size_t bytes, const char* call) {
  const auto block = find_block(p);
  if (!block) return Place::pageable;
  const size_t left = static_cast<size_t>(block->data + block->bytes - static_cast<const std::byte*>(p));
  if (left == 0) return Place::pageable;
  if (bytes > left) misuse("{} of {} bytes, where the block of memory has {} left", call, bytes, left);
  return block->kind == MemoryKind::device ? Place::device : Place::pinned;
}

/// The direction that the pointers say; misuse where the caller said another one.
cudaMemcpyKind checked_kind(const Copy& copy, Place from, Place to, const char* call) {
  const bool reads_device = from == Place::device, writes_device = to == Place::device;
  const cudaMemcpyKind found = reads_device ? (writes_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                                            : (writes_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  if (copy.kind == cudaMemcpyDefault || copy.kind == found) return found;
  const auto name = [](bool device) { return device ? "device" : "host"; };
  misuse("{}: kind {} does not fit pointers from {} to {} memory", call, static_cast<int>(copy.kind),
         name(reads_device), name(writes_device));
}

void count(Scheduler& scheduler, cudaMemcpyKind kind, size_t bytes) {
  if (kind == cudaMemcpyHostToDevice) scheduler.counters.bytes_to_device += static_cast<int64_t>(bytes);
  if (kind == cudaMemcpyDeviceToHost) scheduler.counters.bytes_to_host += static_cast<int64_t>(bytes);
}

/// Queues the copy. Whether the host has to wait for it is returned.
bool queue_copy(Scheduler& scheduler, CUstream_st& stream, const Copy& copy, const char* call) {
  const Place from = place_of(copy.from, copy.bytes, call), to = place_of(copy.to, copy.bytes, call);
  const cudaMemcpyKind kind = checked_kind(copy, from, to, call);
  const auto* first = static_cast<const std::byte*>(copy.from);
  const auto* target = static_cast<const std::byte*>(copy.to);
  if (first < target + copy.bytes && target < first + copy.bytes) misuse("{}: the two ranges overlap", call);
  if (stream.capture && (from == Place::pageable || to == Place::pageable)) {
    misuse("{} of pageable memory inside a capture: the graph would read it at every launch", call);
  }
  std::shared_ptr<std::vector<std::byte>> staged;
  if (from == Place::pageable) staged = std::make_shared<std::vector<std::byte>>(first, first + copy.bytes);
  scheduler.submit(stream, simple_work(call, [&scheduler, copy, kind, staged] {
                     count(scheduler, kind, copy.bytes);
                     std::memcpy(copy.to, staged ? staged->data() : copy.from, copy.bytes);
                   }));
  return to == Place::pageable;
}

void queue_fill(Scheduler& scheduler, CUstream_st& stream, void* p, int value, size_t bytes, const char* call) {
  if (!is_device_memory(p, bytes)) misuse("{} of {} bytes that are not device memory", call, bytes);
  scheduler.submit(stream, simple_work(call, [p, value, bytes] { std::memset(p, value, bytes); }));
}

/// The legacy stream, behind everything that the device's blocking streams hold.
CUstream_st& joined_legacy_stream(Scheduler& scheduler) {
  CUstream_st& legacy = scheduler.legacy_stream(current_device());
  for (cudaStream_t s : scheduler.streams_of(current_device())) {
    if ((s->flags & cudaStreamNonBlocking) == 0) scheduler.await(legacy, scheduler.mark(*s));
  }
  return legacy;
}

}  // namespace
}  // namespace plsc::standin

using namespace plsc::standin;

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaMemcpyAsync");
  if (bytes == 0) return cudaSuccess;
  if (queue_copy(scheduler, stream, {to, from, bytes, kind}, "cudaMemcpyAsync")) {
    ++scheduler.counters.synchronisations;
    const MarkPtr end = scheduler.mark(stream);
    scheduler.run_until(lock, *end);
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  refuse_in_capture(scheduler, "cudaMemcpy");
  ++scheduler.counters.synchronisations;
  if (bytes == 0) return cudaSuccess;
  CUstream_st& legacy = joined_legacy_stream(scheduler);
  queue_copy(scheduler, legacy, {to, from, bytes, kind}, "cudaMemcpy");
  const MarkPtr end = scheduler.mark(legacy);
  scheduler.run_until(lock, *end);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  queue_fill(scheduler, scheduler.stream(handle, "cudaMemsetAsync"), p, value, bytes, "cudaMemsetAsync");
  return cudaSuccess;
}

cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  refuse_in_capture(scheduler, "cudaMemset");
  queue_fill(scheduler, joined_legacy_stream(scheduler), p, value, bytes, "cudaMemset");
  return cudaSuccess;
}
