// Capture and replay. A captured stream carries the nodes that its next node follows; an event carries them to other
// streams, which so join the capture. A launch runs the nodes in any order that these edges allow.
#include "graph.h"

#include <algorithm>

struct CUgraph_st {
  std::vector<plsc::standin::Node> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<plsc::standin::Node>> nodes;
  plsc::standin::MarkPtr last_launch;  // launches of one graph follow each other
};

namespace plsc::standin {
namespace {

/// The handles that exist.
std::set<cudaGraph_t>& graphs() {
  static auto* live = new std::set<cudaGraph_t>;
  return *live;
}
std::set<cudaGraphExec_t>& executables() {
  static auto* live = new std::set<cudaGraphExec_t>;
  return *live;
}

template <class Handle>
void must_exist(const std::set<Handle>& live, Handle handle, const char* call) {
  if (!live.contains(handle)) misuse("{} of a graph that does not exist (any more)", call);
}

/// One launch: which nodes are complete. An attempt runs one node that may run.
class Launch {
 public:
  explicit Launch(std::shared_ptr<const std::vector<Node>> nodes) : nodes_(std::move(nodes)), done_(nodes_->size()) {
    for (const Node& node : *nodes_) attempts_.push_back(node.work.make());
  }

  Step attempt(Scheduler& scheduler) {
    std::vector<size_t> ready;
    for (size_t i = 0; i < done_.size(); ++i) {
      const std::set<size_t>& after = (*nodes_)[i].after;
      if (!done_[i] && std::all_of(after.begin(), after.end(), [&](size_t a) { return done_[a]; })) ready.push_back(i);
    }
    if (ready.empty()) return Step::done;  // edges only go forwards, so all are complete
    const size_t first = scheduler.below(ready.size());
    for (size_t k = 0; k < ready.size(); ++k) {
      const size_t i = ready[(first + k) % ready.size()];
      const Step step = attempts_[i]();
      if (step == Step::blocked) continue;
      if (step == Step::done) {
        done_[i] = true;
        ++completed_;
      }
      return completed_ == done_.size() ? Step::done : Step::progress;
    }
    return Step::blocked;
  }

 private:
  std::shared_ptr<const std::vector<Node>> nodes_;
  std::vector<Attempt> attempts_;
  std::vector<bool> done_;
  size_t completed_ = 0;
};

}  // namespace

void add_node(CUstream_st& stream, Work work) {
  std::vector<Node>& nodes = stream.capture->nodes;
  nodes.push_back({std::move(work), stream.capture_tail});
  stream.capture_tail = {nodes.size() - 1};
}

void await_captured(CUstream_st& stream, const CUevent_st& event) {
  if (!event.capture) {
    misuse("a captured stream waits for an event that was recorded outside of the capture: the graph would not wait");
  }
  if (event.capture->origin == nullptr) misuse("a wait for an event of a capture that has ended");
  if (stream.capture && stream.capture != event.capture) misuse("a wait would join two captures");
  if (!stream.capture && !stream.items.empty() && (stream.flags & cudaStreamNonBlocking) == 0) {
    misuse("a blocking stream with work joins a capture");
  }
  stream.capture = event.capture;
  stream.capture_tail.insert(event.capture_tail.begin(), event.capture_tail.end());
}

void refuse_in_capture(Scheduler& scheduler, const char* call) {
  for (const Capture* capture : scheduler.captures()) {
    const bool concerns =
        capture->mode == cudaStreamCaptureModeGlobal ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id());
    if (concerns) misuse("{} while a stream is being captured", call);
  }
}

void refuse_on_captured(const CUstream_st& stream, const char* call) {
  if (stream.capture) misuse("{} on stream {}, which is being captured", call, stream.number);
}

}  // namespace plsc::standin

using namespace plsc::standin;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaStreamBeginCapture");
  if (stream.capture) misuse("cudaStreamBeginCapture on stream {}, which is being captured", stream.number);
  stream.capture = std::make_shared<Capture>();
  stream.capture->origin = handle;
  stream.capture->mode = mode;
  stream.capture->thread = std::this_thread::get_id();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaStreamEndCapture");
  if (!stream.capture || stream.capture->origin != handle) misuse("cudaStreamEndCapture where no capture began");
  const auto capture = stream.capture;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    misuse("cudaStreamEndCapture by another thread than the capture's");
  }
  // Every node must come before the end of the stream where the capture began.
  std::set<size_t> known, next = stream.capture_tail;
  while (!next.empty()) {
    const size_t node = *next.rbegin();
    next.erase(node);
    known.insert(node);
    next.insert(capture->nodes[node].after.begin(), capture->nodes[node].after.end());
  }
  for (const cudaStream_t s : scheduler.all_streams()) {
    if (s->capture != capture) continue;
    s->capture = nullptr;
    s->capture_tail.clear();
  }
  capture->origin = nullptr;
  *graph = nullptr;
  if (known.size() != capture->nodes.size()) return told(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  graphs().insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  const bool captured = scheduler.stream(handle, "cudaStreamIsCapturing").capture != nullptr;
  *status = captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

// Nodes have no handles of their own: only their number can be asked for.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const auto lock = Scheduler::instance().enter();
  must_exist(graphs(), graph, "cudaGraphGetNodes");
  if (nodes != nullptr) misuse("cudaGraphGetNodes: the stand-in knows only how many there are");
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  const auto lock = Scheduler::instance().enter();
  must_exist(graphs(), graph, "cudaGraphInstantiate");
  if (flags != 0) misuse("cudaGraphInstantiate with flags {}, which the stand-in does not know", flags);
  *executable = new CUgraphExec_st{std::make_shared<const std::vector<Node>>(graph->nodes), nullptr};
  executables().insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, "cudaGraphLaunch");
  must_exist(executables(), executable, "cudaGraphLaunch");
  if (stream.capture) misuse("cudaGraphLaunch inside a capture, which the stand-in does not know");
  ++scheduler.counters.graph_launches;
  if (executable->last_launch) scheduler.await(stream, executable->last_launch);
  auto launch = std::make_shared<Launch>(executable->nodes);
  scheduler.submit(stream, {"cudaGraphLaunch", [launch, &scheduler]() -> Attempt {
                              return [launch, &scheduler] { return launch->attempt(scheduler); };
                            }});
  executable->last_launch = scheduler.mark(stream);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const auto lock = Scheduler::instance().enter();
  must_exist(executables(), executable, "cudaGraphExecDestroy");
  executables().erase(executable);
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const auto lock = Scheduler::instance().enter();
  must_exist(graphs(), graph, "cudaGraphDestroy");
  graphs().erase(graph);
  delete graph;
  return cudaSuccess;
}
