// What the stand-in does to a whole process: memory that is closed to the host, forks, and what is left behind at the
// end.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "standin_ranks.h"
#include "support/catch.h"
#include "support/temp_folder.h"

using namespace plsc::standin;

TEST_CASE("stand-in: a host that touches device memory does not survive it") {
  const bool protect = GENERATE(true, false), write = GENERATE(true, false);
  const auto endings = run_ranks(1, [=](const Rank&) {
    Options mine = options();
    mine.protect = protect;
    set_options(mine);
    void* block = nullptr;
    expect(cudaMalloc(&block, 4) == cudaSuccess, "no memory");
    volatile std::byte* p = static_cast<std::byte*>(block);
    if (write) {
      *p = std::byte{1};
    } else {
      expect(*p == std::byte{0xFF}, "not fresh");
    }
  });
  CHECK(endings[0].good == !protect);
  CHECK(endings[0].message == (protect ? "" : "good"));
}

TEST_CASE("stand-in: CUDA from before a fork is refused after it") {
  const auto endings = run_ranks(1, [](const Rank&) {
    const auto inner = run_ranks(1, [](const Rank&) {});
    expect(inner[0].message.find("before fork()") != std::string::npos, inner[0].message);
  });
  CHECK(endings[0].message == "good");
}

TEST_CASE("stand-in: a process leaves its counters behind") {
  const plsc::test::TempFolder folder;
  const std::string name = folder / "counters";
  run_ranks(1, [&name](const Rank&) {
    setenv("PLSC_STANDIN_COUNTERS", name.c_str(), 1);
    void* p = nullptr;
    expect(cudaMalloc(&p, 4) == cudaSuccess, "no memory");
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    enqueue(stream, "work", [] {});
    cudaStreamSynchronize(stream);
    std::exit(0);
  });
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    ++files;
    CHECK(entry.path().filename().string().starts_with("counters."));
    std::ifstream file(entry.path());
    const auto json = nlohmann::json::parse(file);
    CHECK(json.at("device_allocations") == 1);
    CHECK(json.at("kernels") == 1);
    CHECK(json.at("synchronisations") == 1);
  }
  CHECK(files == 1);
}

TEST_CASE("stand-in: a process says what it did not free, where it is asked to") {
  const bool leaks = GENERATE(true, false), ask = GENERATE(true, false);
  const plsc::test::TempFolder folder;
  const std::string name = folder / "errors";
  run_ranks(1, [&](const Rank&) {
    Options mine = options();
    mine.report_leaks = ask;
    set_options(mine);
    if (std::freopen(name.c_str(), "w", stderr) == nullptr) std::exit(1);
    void* p = nullptr;
    expect(cudaMalloc(&p, 1234) == cudaSuccess, "no memory");
    if (!leaks) cudaFree(p);
    std::exit(0);
  });
  CHECK((plsc::test::slurp(name).find("leaked 1234 bytes of device memory") != std::string::npos) == (leaks && ask));
}
