#include "backend/cuda/recording.h"

#include <utility>

#include "backend/cuda/check.h"

namespace plsc {
namespace {

class GraphRecording final : public Recording {
 public:
  GraphRecording(cudaGraphExec_t graph, cudaStream_t stream, std::shared_ptr<ArenaPool> memory)
      : graph_(graph), stream_(stream), memory_(std::move(memory)) {}
  ~GraphRecording() override { cudaGraphExecDestroy(graph_); }
  void replay() override { check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t graph_;
  cudaStream_t stream_;
  std::shared_ptr<ArenaPool> memory_;
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

Capture::Capture(cudaStream_t stream, std::shared_ptr<ArenaPool> memory) : stream_(stream), memory_(std::move(memory)) {
  PLSC_CHECK(memory_ != nullptr, "a recording without memory");
  memory_->open();
  const cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
  if (status != cudaSuccess) memory_->close();
  check(status, "cudaStreamBeginCapture");
}

Capture::~Capture() {
  if (!open_) return;
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
  cudaGetLastError();  // whatever broke the capture has been told
  memory_->close();
}

std::unique_ptr<Recording> Capture::finish() {
  cudaGraph_t graph = nullptr;
  open_ = false;
  memory_->close();
  check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  size_t nodes = 0;
  check(cudaGraphGetNodes(graph, nullptr, &nodes), "cudaGraphGetNodes");
  if (nodes == 0) {
    cudaGraphDestroy(graph);
    return nullptr;
  }
  return std::make_unique<GraphRecording>(instantiate(graph), stream_, memory_);
}

}  // namespace plsc
