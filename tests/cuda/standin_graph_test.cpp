// The stand-in's captures and graphs.
#include <set>
#include <string>
#include <thread>

#include "standin_test.h"

using namespace plsc::standin;

namespace {

/// What a capture came to, ready to launch.
class Graph {
 public:
  explicit Graph(cudaStream_t stream) {
    REQUIRE(cudaStreamEndCapture(stream, &graph_) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&executable_, graph_, 0) == cudaSuccess);
  }
  ~Graph() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  size_t nodes() const {
    size_t n = 0;
    REQUIRE(cudaGraphGetNodes(graph_, nullptr, &n) == cudaSuccess);
    return n;
  }
  void launch(cudaStream_t stream) const { REQUIRE(cudaGraphLaunch(executable_, stream) == cudaSuccess); }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

void begin(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
  REQUIRE(cudaStreamBeginCapture(stream, mode) == cudaSuccess);
}

}  // namespace

TEST_CASE("stand-in: captured work runs at every launch, and not before") {
  TestMachine machine;
  Stream stream;
  DeviceArray<int> value(1);
  PinnedArray<int> source(1);
  begin(stream);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  REQUIRE(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  REQUIRE(cudaMemcpyAsync(value.get(), source.get(), 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  enqueue(stream, "double", [p = value.get()] { *p *= 2; });
  const Graph graph(stream);
  CHECK(graph.nodes() == 2);
  REQUIRE(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusNone);

  value.write({5});
  CHECK(value.read()[0] == 5);
  const int64_t launches = counters().graph_launches;
  for (int i : {1, 2, 3}) {
    *source.get() = i;
    graph.launch(stream);
    stream.wait();
    CHECK(value.read()[0] == 2 * i);
  }
  CHECK(counters().graph_launches == launches + 3);
}

TEST_CASE("stand-in: every launch has its own copy of the work's state") {
  TestMachine machine;
  Stream stream;
  int completed = 0;
  begin(stream);
  enqueue_polled(stream, "twice", [&completed, attempts = 0]() mutable {
    if (++attempts < 2) return false;
    completed += attempts;
    return true;
  });
  const Graph graph(stream);
  graph.launch(stream);
  graph.launch(stream);
  stream.wait();
  CHECK(completed == 4);
}

TEST_CASE("stand-in: a graph keeps the edges between its streams and no others") {
  const bool ordered = GENERATE(false, true);
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestMachine machine(seed);
    Stream first, second;
    Event fork, middle, join;
    std::string order;
    begin(first);
    REQUIRE(cudaEventRecord(fork, first) == cudaSuccess);
    REQUIRE(cudaStreamWaitEvent(second, fork, 0) == cudaSuccess);
    enqueue(first, "a", [&order] { order += 'a'; });
    if (ordered) {
      REQUIRE(cudaEventRecord(middle, first) == cudaSuccess);
      REQUIRE(cudaStreamWaitEvent(second, middle, 0) == cudaSuccess);
    }
    enqueue(second, "b", [&order] { order += 'b'; });
    REQUIRE(cudaEventRecord(join, second) == cudaSuccess);
    REQUIRE(cudaStreamWaitEvent(first, join, 0) == cudaSuccess);
    enqueue(first, "c", [&order] { order += 'c'; });
    const Graph graph(first);
    CHECK(graph.nodes() == 3);
    graph.launch(first);
    first.wait();
    orders.insert(order);
  }
  CHECK(orders == (ordered ? std::set<std::string>{"abc"} : std::set<std::string>{"abc", "bac"}));
}

TEST_CASE("stand-in: launches of one graph follow each other, whatever their streams") {
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    TestMachine machine(seed);
    Stream first, second;
    std::string order;
    begin(first);
    enqueue(first, "a", [&order] { order += 'a'; });
    enqueue(first, "b", [&order] { order += 'b'; });
    const Graph graph(first);
    graph.launch(first);
    graph.launch(second);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    orders.insert(order);
  }
  CHECK(orders == std::set<std::string>{"abab"});
}

TEST_CASE("stand-in: a graph outlives neither its handle nor its unjoined streams") {
  TestMachine machine;
  Stream first, second;
  Event fork;
  begin(first);
  REQUIRE(cudaEventRecord(fork, first) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(second, fork, 0) == cudaSuccess);
  enqueue(second, "work", [] {});
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);

  begin(first);
  REQUIRE(cudaStreamEndCapture(first, &graph) == cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK_THROWS_AS(cudaGraphDestroy(graph), Misuse);
  CHECK(cudaGraphLaunch(executable, first) == cudaSuccess);  // needs the graph no more
  REQUIRE(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK_THROWS_AS(cudaGraphLaunch(executable, first), Misuse);
  first.wait();
}

TEST_CASE("stand-in: what a capture forbids") {
  TestMachine machine;
  Stream stream, other;
  Event before, inside;
  DeviceArray<int> device(1);
  int pageable = 0;
  void* p = nullptr;
  REQUIRE(cudaEventRecord(before, other) == cudaSuccess);
  begin(stream);
  CHECK_THROWS_AS(cudaStreamSynchronize(stream), Misuse);
  CHECK_THROWS_AS(cudaStreamQuery(stream), Misuse);
  CHECK_THROWS_AS(cudaDeviceSynchronize(), Misuse);
  CHECK_THROWS_AS(cudaMalloc(&p, 4), Misuse);
  CHECK_THROWS_AS(cudaFree(device.get()), Misuse);
  CHECK_THROWS_AS(cudaMemcpy(&pageable, device.get(), 4, cudaMemcpyDeviceToHost), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(device.get(), &pageable, 4, cudaMemcpyHostToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaStreamWaitEvent(stream, before, 0), Misuse);  // it stands outside
  CHECK_THROWS_AS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), Misuse);
  CHECK_THROWS_AS(cudaStreamDestroy(stream), Misuse);
  REQUIRE(cudaEventRecord(inside, stream) == cudaSuccess);
  CHECK_THROWS_AS(cudaEventSynchronize(inside), Misuse);
  CHECK_THROWS_AS(cudaEventQuery(inside), Misuse);
  { const Graph graph(stream); }
  CHECK_THROWS_AS(cudaStreamWaitEvent(other, inside, 0), Misuse);  // its capture has ended
}

TEST_CASE("stand-in: whom a capture's mode concerns") {
  TestMachine machine;
  Stream stream;
  const auto allocate = [] {
    void* p = nullptr;
    if (cudaMalloc(&p, 4) == cudaSuccess) cudaFree(p);
  };
  const auto allowed_elsewhere = [&] {
    bool allowed = true;
    std::thread([&] {
      try {
        allocate();
      } catch (const Misuse&) {
        allowed = false;
      }
    }).join();
    return allowed;
  };
  begin(stream, cudaStreamCaptureModeRelaxed);
  CHECK_NOTHROW(allocate());
  { const Graph graph(stream); }
  begin(stream, cudaStreamCaptureModeThreadLocal);
  CHECK_THROWS_AS(allocate(), Misuse);
  CHECK(allowed_elsewhere());
  { const Graph graph(stream); }
  begin(stream, cudaStreamCaptureModeGlobal);
  CHECK_FALSE(allowed_elsewhere());
  const Graph graph(stream);
}
