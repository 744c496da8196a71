// The stand-in's devices, memory and copies: what it plays, and what it refuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "standin_test.h"

using namespace plsc::standin;

TEST_CASE("stand-in: devices are as the options say") {
  TestMachine machine;
  int count = -1;
  machine.change([](Options& o) { o.devices = 3; });
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 3);
  std::set<std::string> buses;
  for (int i = 0; i < count; ++i) {
    char bus[32];
    REQUIRE(cudaDeviceGetPCIBusId(bus, sizeof(bus), i) == cudaSuccess);
    buses.insert(bus);
  }
  CHECK(buses.size() == 3);
  CHECK(cudaSetDevice(3) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);

  machine.change([](Options& o) { o.visible = "2,0,7,1"; });  // 7 names no device and ends the list
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 2);
  char first[32];
  REQUIRE(cudaDeviceGetPCIBusId(first, sizeof(first), 0) == cudaSuccess);
  CHECK(std::string(first) == *buses.rbegin());

  machine.change([](Options& o) { o.visible = ""; });
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  machine.change([](Options& o) { o.old_driver = true; });
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  CHECK(std::string(cudaGetErrorName(cudaGetLastError())) == "cudaErrorInsufficientDriver");
}

TEST_CASE("stand-in: a device's properties") {
  TestMachine machine;
  machine.change([](Options& o) { o.capability_major = 7, o.capability_minor = 5; });
  cudaDeviceProp p;
  REQUIRE(cudaGetDeviceProperties(&p, 0) == cudaSuccess);
  CHECK(std::string(p.name) == "stand-in");
  CHECK(p.major == 7);
  CHECK(p.minor == 5);
  int value = 0;
  REQUIRE(cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 0) == cudaSuccess);
  CHECK(value == 50 << 20);
  REQUIRE(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0) == cudaSuccess);
  CHECK(value == 5);
  CHECK_THROWS_AS(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSurface2DWidth, 0), Misuse);
}

TEST_CASE("stand-in: memory is limited and starts as NaN") {
  TestMachine machine;
  machine.change([](Options& o) { o.memory = 1 << 20; });
  size_t free_before = 0, free_now = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free_before, &total) == cudaSuccess);
  CHECK(total == 1 << 20);
  const int64_t calls = counters().device_allocations;
  {
    DeviceArray<float> block(1000);
    REQUIRE(cudaMemGetInfo(&free_now, &total) == cudaSuccess);
    CHECK(free_before - free_now >= 4000);
    CHECK(free_before - free_now < 5000);
    for (float value : block.read()) CHECK(std::isnan(value));
    void* p = nullptr;
    CHECK(cudaMalloc(&p, 1 << 20) == cudaErrorMemoryAllocation);
    CHECK(cudaMalloc(&p, SIZE_MAX - 100) == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
    CHECK(counters().device_allocations == calls + 3);
  }
  REQUIRE(cudaMemGetInfo(&free_now, &total) == cudaSuccess);
  CHECK(free_now == free_before);
}

TEST_CASE("stand-in: large blocks are fresh to the last byte, and again after each other") {
  TestMachine machine;
  const size_t n = GENERATE(as<size_t>(), 1 << 20, (1 << 20) + 4097, (33 << 20) + 5);
  for (int round = 0; round < 2; ++round) {
    const DeviceArray<uint8_t> block(n);
    const auto bytes = block.read();
    CHECK(std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0xFF; }));
    block.write(std::vector<uint8_t>(n, 1));
    CHECK(block.read()[n - 1] == 1);
  }
}

TEST_CASE("stand-in: which addresses are device memory") {
  TestMachine machine;
  DeviceArray<float> block(10);
  float host = 0;
  CHECK(is_device_memory(block.get(), 40));
  CHECK(is_device_memory(block.get() + 9, 4));
  CHECK(is_device_memory(block.get() + 10, 0));
  CHECK_FALSE(is_device_memory(block.get() + 9, 5));
  CHECK_FALSE(is_device_memory(block.get() - 1, 4));
  CHECK_FALSE(is_device_memory(&host, 4));
  PinnedArray<float> pinned(4);
  CHECK_FALSE(is_device_memory(pinned.get(), 4));

  cudaPointerAttributes attributes;
  REQUIRE(cudaPointerGetAttributes(&attributes, block.get() + 3) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeDevice);
  REQUIRE(cudaPointerGetAttributes(&attributes, pinned.get()) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeHost);
  REQUIRE(cudaPointerGetAttributes(&attributes, &host) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
}

TEST_CASE("stand-in: wrong frees") {
  TestMachine machine;
  float host = 0;
  CHECK_THROWS_AS(cudaFree(&host), Misuse);
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, 100) == cudaSuccess);
  CHECK_THROWS_AS(cudaFree(static_cast<char*>(p) + 4), Misuse);
  CHECK_THROWS_AS(cudaFreeHost(p), Misuse);
  CHECK(cudaFree(p) == cudaSuccess);
  CHECK_THROWS_AS(cudaFree(p), Misuse);
  CHECK(cudaFree(nullptr) == cudaSuccess);
}

#ifndef PLSC_SANITIZE  // the sanitizer ends the process where these writes happen
TEST_CASE("stand-in: a write beside a block is found") {
  TestMachine machine;
  const int offset = GENERATE(-1, 100, 101, 355);
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, 100) == cudaSuccess);
  Stream stream;
  char* at = static_cast<char*>(p) + offset;
  char kept = 0;
  enqueue(stream, "write", [at, &kept] { kept = std::exchange(*at, '\0'); });
  CHECK_THROWS_AS(cudaFree(p), Misuse);
  enqueue(stream, "write", [at, &kept] { *at = kept; });
  CHECK(cudaFree(p) == cudaSuccess);
}

TEST_CASE("stand-in: the work that wrote beside a block is named") {
  TestMachine machine;
  machine.change([](Options& o) { o.check_guards = true; });
  Stream stream;
  DeviceArray<char> block(64);
  char* behind = block.get() + 64;
  char kept = 0;
  enqueue(stream, "the innocent", [] {});
  enqueue(stream, "the guilty", [behind, &kept] { kept = std::exchange(*behind, '\1'); });
  CHECK_THROWS_WITH(cudaStreamSynchronize(stream), Catch::Matchers::Contains("the guilty"));
  machine.change([](Options& o) { o.check_guards = false; });
  enqueue(stream, "repair", [behind, kept] { *behind = kept; });
  stream.wait();
}

TEST_CASE("stand-in: memory that is used after it was freed is garbage") {
  TestMachine machine;
  Stream stream;
  float seen = 0;
  void* p = nullptr;
  REQUIRE(cudaMalloc(&p, 4) == cudaSuccess);
  const auto* value = static_cast<const float*>(p);
  REQUIRE(cudaMemset(p, 0, 4) == cudaSuccess);
  REQUIRE(cudaFree(p) == cudaSuccess);
  enqueue(stream, "read", [&seen, value] { seen = *value; });
  stream.wait();
  CHECK(std::isnan(seen));
}
#endif

TEST_CASE("stand-in: copies go where they are told and no further") {
  TestMachine machine;
  Stream stream;
  DeviceArray<int> a(4), b(4);
  a.write({1, 2, 3, 4});
  REQUIRE(cudaMemcpyAsync(b.get(), a.get(), 16, cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(a.get(), 0, 8, stream) == cudaSuccess);
  stream.wait();
  CHECK(a.read() == std::vector<int>{0, 0, 3, 4});
  CHECK(b.read() == std::vector<int>{1, 2, 3, 4});

  int host[4] = {};
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get(), host, 16, cudaMemcpyDeviceToHost, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(host, a.get(), 16, cudaMemcpyHostToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get(), host, 16, cudaMemcpyDeviceToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get() + 1, host, 16, cudaMemcpyHostToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get(), b.get() + 2, 12, cudaMemcpyDeviceToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get(), a.get() + 1, 8, cudaMemcpyDeviceToDevice, stream), Misuse);
  CHECK_THROWS_AS(cudaMemsetAsync(host, 0, 16, stream), Misuse);
  CHECK_THROWS_AS(cudaMemcpyAsync(a.get(), host, 16, cudaMemcpyHostToDevice, nullptr), Misuse);
}

TEST_CASE("stand-in: pageable memory is read at once, pinned memory when the copy runs") {
  TestMachine machine;
  Stream stream;
  DeviceArray<int> device(1);
  int pageable = 1;
  REQUIRE(cudaMemcpyAsync(device.get(), &pageable, 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable = 2;
  stream.wait();
  CHECK(device.read()[0] == 1);

  PinnedArray<int> pinned(1);
  *pinned.get() = 1;
  const int64_t before = counters().bytes_to_device;
  REQUIRE(cudaMemcpyAsync(device.get(), pinned.get(), 4, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  *pinned.get() = 2;  // too early
  stream.wait();
  CHECK(device.read()[0] == 2);
  CHECK(counters().bytes_to_device == before + 4);
}

TEST_CASE("stand-in: results arrive late in pinned memory, at once in pageable memory") {
  TestMachine machine;
  Stream stream;
  DeviceArray<int> device(1);
  device.write({7});
  PinnedArray<int> pinned(1);
  *pinned.get() = 0;
  REQUIRE(cudaMemcpyAsync(pinned.get(), device.get(), 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(*pinned.get() == 0);
  stream.wait();
  CHECK(*pinned.get() == 7);

  int pageable = 0;
  const int64_t waits = counters().synchronisations;
  REQUIRE(cudaMemcpyAsync(&pageable, device.get(), 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pageable == 7);
  CHECK(counters().synchronisations == waits + 1);
}

TEST_CASE("stand-in: what runs outside of streams waits for blocking streams alone") {
  bool overtaken = false;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    TestMachine machine(seed);
    Stream blocking(cudaStreamDefault), other;
    DeviceArray<int> a(1), b(1);
    REQUIRE(cudaMemset(a.get(), 0, 4) == cudaSuccess);
    REQUIRE(cudaMemset(b.get(), 0, 4) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    enqueue(blocking, "write a", [p = a.get()] { *p = 1; });
    enqueue(other, "write b", [p = b.get()] { *p = 1; });
    CHECK(a.read()[0] == 1);
    overtaken = overtaken || b.read()[0] == 0;
  }
  CHECK(overtaken);
}
