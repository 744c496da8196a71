// Streams and events as the host sees them.
#include <chrono>

#include "graph.h"
#include "scheduler.h"

using namespace plsc::standin;

namespace {

constexpr int kGreatestPriority = -5;  // the least is 0; smaller numbers go first

}  // namespace

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = kGreatestPriority;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  if ((flags & ~static_cast<unsigned>(cudaStreamNonBlocking)) != 0) return told(cudaErrorInvalidValue);
  *stream = scheduler.add_stream(current_device(), flags, priority);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  scheduler.destroy_stream(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaStreamQuery");
  refuse_on_captured(stream, "cudaStreamQuery");
  refuse_in_capture(scheduler, "cudaStreamQuery");
  ++scheduler.counters.queries;
  scheduler.run_some();
  return told(stream.items.empty() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaStreamSynchronize");
  refuse_on_captured(stream, "cudaStreamSynchronize");
  refuse_in_capture(scheduler, "cudaStreamSynchronize");
  ++scheduler.counters.synchronisations;
  const MarkPtr end = scheduler.mark(stream);
  scheduler.run_until(lock, *end);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned int flags) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaStreamWaitEvent");
  CUevent_st& event = scheduler.event(event_handle, "cudaStreamWaitEvent");
  if (flags != cudaEventWaitDefault) return told(cudaErrorInvalidValue);
  if (event.capture || stream.capture) {
    await_captured(stream, event);
    return cudaSuccess;
  }
  // CUDA takes this for "nothing to wait for"; nobody means that.
  if (!event.mark) misuse("cudaStreamWaitEvent for an event that was never recorded: it would not wait");
  scheduler.await(stream, event.mark);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  if ((flags & ~static_cast<unsigned>(cudaEventBlockingSync | cudaEventDisableTiming)) != 0) {
    return told(cudaErrorInvalidValue);
  }
  *event = scheduler.add_event(current_device(), flags);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  scheduler.destroy_event(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaEventRecord");
  CUevent_st& event = scheduler.event(event_handle, "cudaEventRecord");
  if (event.device != stream.device) {
    misuse("cudaEventRecord: the event is of device {}, the stream of device {}", event.device, stream.device);
  }
  event.capture = stream.capture;
  event.capture_tail = stream.capture_tail;
  if (!stream.capture) event.mark = scheduler.mark(stream);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUevent_st& event = scheduler.event(handle, "cudaEventQuery");
  if (event.capture) misuse("cudaEventQuery of an event that was recorded inside a capture");
  refuse_in_capture(scheduler, "cudaEventQuery");
  ++scheduler.counters.queries;
  scheduler.run_some();
  return told(!event.mark || event.mark->reached ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  CUevent_st& event = scheduler.event(handle, "cudaEventSynchronize");
  if (event.capture) misuse("cudaEventSynchronize with an event that was recorded inside a capture");
  refuse_in_capture(scheduler, "cudaEventSynchronize");
  ++scheduler.counters.synchronisations;
  const MarkPtr mark = event.mark;
  if (mark) scheduler.run_until(lock, *mark);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start_handle, cudaEvent_t end_handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  const CUevent_st& start = scheduler.event(start_handle, "cudaEventElapsedTime");
  const CUevent_st& end = scheduler.event(end_handle, "cudaEventElapsedTime");
  if (((start.flags | end.flags) & cudaEventDisableTiming) != 0) {
    misuse("cudaEventElapsedTime with an event made with cudaEventDisableTiming");
  }
  if (!start.mark || !end.mark) return told(cudaErrorInvalidResourceHandle);
  if (!start.mark->reached || !end.mark->reached) return told(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end.mark->time - start.mark->time).count();
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaLaunchHostFunc");
  scheduler.submit(stream, simple_work("cudaLaunchHostFunc", [function, data] { function(data); }));
  return cudaSuccess;
}
