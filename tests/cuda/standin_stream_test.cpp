// The stand-in's streams and events: what is ordered stays ordered, and what is not takes every order.
#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>

#include "standin_test.h"

using namespace plsc::standin;

TEST_CASE("stand-in: nothing runs before the host waits") {
  TestMachine machine;
  Stream stream;
  int ran = 0;
  const int64_t kernels = counters().kernels;
  enqueue(stream, "work", [&ran] { ++ran; });
  CHECK(ran == 0);
  stream.wait();
  CHECK(ran == 1);
  CHECK(counters().kernels == kernels + 1);
}

TEST_CASE("stand-in: a stream keeps its order") {
  TestMachine machine(GENERATE(1u, 2u, 3u));
  Stream stream;
  std::string order;
  for (char c : std::string("abcdef")) enqueue(stream, "work", [&order, c] { order += c; });
  stream.wait();
  CHECK(order == "abcdef");
}

TEST_CASE("stand-in: two streams without an event take every order, with one only the right one") {
  const bool with_event = GENERATE(false, true);
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestMachine machine(seed);
    Stream first, second;
    Event event;
    std::string order;
    enqueue(first, "a", [&] { order += 'a'; });
    if (with_event) {
      REQUIRE(cudaEventRecord(event, first) == cudaSuccess);
      REQUIRE(cudaStreamWaitEvent(second, event, 0) == cudaSuccess);
    }
    enqueue(second, "b", [&] { order += 'b'; });
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    orders.insert(order);
  }
  CHECK(orders == (with_event ? std::set<std::string>{"ab"} : std::set<std::string>{"ab", "ba"}));
}

TEST_CASE("stand-in: waiting for one stream runs little or much of another") {
  std::set<int> amounts;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestMachine machine(seed);
    Stream waited, other;
    int ran = 0;
    for (int i = 0; i < 4; ++i) enqueue(other, "other", [&ran] { ++ran; });
    enqueue(waited, "waited", [] {});
    waited.wait();
    amounts.insert(ran);
  }
  CHECK(amounts.contains(0));
  CHECK(amounts.contains(4));
}

TEST_CASE("stand-in: a wait is for the record before it, not for later ones") {
  TestMachine machine;
  Stream first, second;
  Event event;
  bool later = false;
  REQUIRE(cudaEventRecord(event, first) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(second, event, 0) == cudaSuccess);
  enqueue_polled(first, "never", [&later] { return later; });
  REQUIRE(cudaEventRecord(event, first) == cudaSuccess);
  bool ran = false;
  enqueue(second, "work", [&ran] { ran = true; });
  second.wait();  // would not end if it waited for the second record
  CHECK(ran);
  CHECK(cudaEventQuery(event) == cudaErrorNotReady);
  CHECK(cudaGetLastError() == cudaErrorNotReady);
  later = true;
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);
}

TEST_CASE("stand-in: polling alone gets work done") {
  TestMachine machine(GENERATE(1u, 2u, 3u, 4u));
  Stream stream;
  bool ran = false;
  enqueue(stream, "work", [&ran] { ran = true; });
  int polls = 0;
  while (cudaStreamQuery(stream) == cudaErrorNotReady && polls < 1000) ++polls;
  cudaGetLastError();
  CHECK(ran);
  CHECK(polls < 1000);
}

TEST_CASE("stand-in: work is polled until it is complete, and others run meanwhile") {
  TestMachine machine;
  Stream first, second;
  bool other = false;
  int attempts = 0;
  enqueue_polled(first, "collective", [&] { return ++attempts > 5 && other; });
  enqueue(second, "other", [&other] { other = true; });
  first.wait();
  CHECK(attempts > 5);
}

TEST_CASE("stand-in: work runs by itself while the host is elsewhere") {
  TestMachine machine;
  machine.change([](Options& o) { o.idle_ms = 1; });
  Stream stream;
  std::atomic<bool> ran = false;
  enqueue(stream, "work", [&ran] { ran = true; });
  const auto start = std::chrono::steady_clock::now();
  while (!ran && std::chrono::steady_clock::now() - start < std::chrono::seconds(60)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(ran);
}

TEST_CASE("stand-in: the misuse of work that ran by itself is the next call's") {
  TestMachine machine;
  machine.change([](Options& o) { o.idle_ms = 1; });
  Stream stream;
  std::atomic<bool> ran = false;
  enqueue(stream, "work", [&ran] {
    ran = true;
    misuse("wrong");
  });
  while (!ran) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_THROWS_WITH(cudaStreamSynchronize(stream), "wrong");
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
}

TEST_CASE("stand-in: freeing memory waits for the device") {
  TestMachine machine;
  Stream stream;
  int ran = 0;
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, 4) == cudaSuccess);
  enqueue(stream, "work", [&ran] { ++ran; });
  CHECK(ran == 0);
  REQUIRE(cudaFree(p) == cudaSuccess);
  CHECK(ran == 1);
}

TEST_CASE("stand-in: a destroyed stream still does what it was given") {
  TestMachine machine;
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  int ran = 0;
  enqueue(stream, "work", [&ran] { ++ran; });
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK_THROWS_AS(cudaStreamSynchronize(stream), Misuse);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(ran == 1);
}

TEST_CASE("stand-in: misuse of streams and events") {
  TestMachine machine;
  machine.change([](Options& o) { o.devices = 2; });
  Stream stream;
  Event event;
  CHECK_THROWS_AS(enqueue(nullptr, "work", [] {}), Misuse);
  CHECK_THROWS_AS(enqueue(cudaStreamPerThread, "work", [] {}), Misuse);
  CHECK_THROWS_AS(cudaEventRecord(event, nullptr), Misuse);
  CHECK_THROWS_AS(cudaStreamWaitEvent(stream, event, 0), Misuse);  // never recorded
  CHECK(cudaEventSynchronize(event) == cudaSuccess);               // as documented
  float time = 0;
  CHECK_THROWS_AS(cudaEventElapsedTime(&time, event, event), Misuse);

  enqueue(stream, "work that calls CUDA", [] { cudaDeviceSynchronize(); });
  CHECK_THROWS_AS(cudaStreamSynchronize(stream), Misuse);

  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  CHECK_THROWS_AS(enqueue(stream, "work", [] {}), Misuse);  // another device's stream
  Stream there;
  CHECK_THROWS_AS(cudaEventRecord(event, there), Misuse);
  REQUIRE(cudaSetDevice(0) == cudaSuccess);
}

TEST_CASE("stand-in: times between events") {
  TestMachine machine;
  Stream stream;
  Event start(cudaEventDefault), end(cudaEventDefault);
  REQUIRE(cudaEventRecord(start, stream) == cudaSuccess);
  enqueue(stream, "work", [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  REQUIRE(cudaEventRecord(end, stream) == cudaSuccess);
  float time = 0;
  CHECK(cudaEventElapsedTime(&time, start, end) == cudaErrorNotReady);
  REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
  REQUIRE(cudaEventElapsedTime(&time, start, end) == cudaSuccess);
  CHECK(time >= 5);
}

TEST_CASE("stand-in: host functions run in their place") {
  TestMachine machine;
  Stream stream;
  std::string order;
  enqueue(stream, "a", [&order] { order += 'a'; });
  REQUIRE(cudaLaunchHostFunc(
              stream, [](void* data) { *static_cast<std::string*>(data) += 'h'; }, &order) == cudaSuccess);
  enqueue(stream, "b", [&order] { order += 'b'; });
  stream.wait();
  CHECK(order == "ahb");
}
