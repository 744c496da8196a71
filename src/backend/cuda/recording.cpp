#include "backend/cuda/recording.h"

#include "backend/cuda/check.h"

namespace plsc {
namespace {

class GraphRecording final : public Recording {
 public:
  GraphRecording(cudaGraphExec_t graph, cudaStream_t stream, Arena& arena, int64_t pool)
      : graph_(graph), stream_(stream), arena_(arena), pool_(pool) {}
  /// The memory may be used by others at once: they come later on the stream.
  ~GraphRecording() override {
    cudaGraphExecDestroy(graph_);
    arena_.drop_pool(pool_);
  }
  void replay() override { check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t graph_;
  cudaStream_t stream_;
  Arena& arena_;
  int64_t pool_;
};

/// Makes a graph ready to be launched, and destroys it.
cudaGraphExec_t instantiate(cudaGraph_t graph) {
  cudaGraphExec_t ready = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return ready;
}

}  // namespace

Capture::Capture(cudaStream_t stream, Arena& arena) : stream_(stream), arena_(arena), pool_(arena.begin_pool()) {
  const cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
  if (status != cudaSuccess) arena_.drop_pool(pool_);
  check(status, "cudaStreamBeginCapture");
}

Capture::~Capture() {
  if (!open_) return;
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
  cudaGetLastError();  // whatever broke the capture has been told
  arena_.drop_pool(pool_);
}

std::unique_ptr<Recording> Capture::finish() {
  cudaGraph_t graph = nullptr;
  open_ = false;
  arena_.end_pool();
  try {
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    return std::make_unique<GraphRecording>(instantiate(graph), stream_, arena_, pool_);
  } catch (...) {
    arena_.drop_pool(pool_);
    throw;
  }
}

}  // namespace plsc
