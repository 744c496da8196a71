// Stream capture: work that goes to a graph instead of a queue, and graphs that run it again and again.
#pragma once
#include "scheduler.h"

namespace plsc::standin {

struct Node {
  Work work;
  std::set<size_t> after;  // indices of nodes that come before it
};

/// A capture that is going on, from cudaStreamBeginCapture to cudaStreamEndCapture.
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  std::vector<Node> nodes;
};

/// Adds work to the graph that the stream is captured into.
void add_node(CUstream_st& stream, Work work);

/// Waiting for an event where one of the two is captured: the stream joins the event's capture.
void await_captured(CUstream_st& stream, const CUevent_st& event);

/// Misuse where a capture forbids `call`, which waits or allocates: in any capture of this thread, and in a global one
/// of any thread; relaxed ones allow it.
void refuse_in_capture(Scheduler& scheduler, const char* call);
/// Misuse where the stream itself is captured.
void refuse_on_captured(const CUstream_st& stream, const char* call);

}  // namespace plsc::standin
