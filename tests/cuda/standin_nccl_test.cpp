// The stand-in's NCCL between processes: every collective and type, disagreements, injected faults, endings.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <nccl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "standin_ranks.h"
#include "support/catch.h"

using namespace plsc::standin;

namespace {

void nccl(ncclResult_t result) { expect(result == ncclSuccess, ncclGetErrorString(result)); }
void cuda(cudaError_t status) { expect(status == cudaSuccess, cudaGetErrorString(status)); }

/// One rank's device objects; nothing is freed, since the process ends.
struct Player {
  explicit Player(const Rank& r) : rank(r) {
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    nccl(ncclCommInitRank(&comm, r.ranks, r.id, r.rank));
  }
  void wait() const { cuda(cudaStreamSynchronize(stream)); }

  Rank rank;
  cudaStream_t stream = nullptr;
  ncclComm_t comm = nullptr;
};

/// Device memory for n elements of `size` bytes.
std::byte* device_bytes(size_t n, size_t size) {
  void* p = nullptr;
  cuda(cudaMalloc(&p, std::max<size_t>(n * size, 1)));
  return static_cast<std::byte*>(p);
}

/// Small numbers that every type holds exactly, also their sum over ranks.
double number(int rank, size_t i) { return static_cast<double>((i * 7 + static_cast<size_t>(rank) * 5) % 11); }

template <class T>
std::vector<T> numbers(int rank, size_t from, size_t n) {
  std::vector<T> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<T>(static_cast<float>(number(rank, from + i)));
  return values;
}

double expected(ncclRedOp_t op, int ranks, size_t i) {
  double value = number(0, i);
  for (int r = 1; r < ranks; ++r) {
    const double other = number(r, i);
    value = op == ncclSum ? value + other : op == ncclMax ? std::max(value, other) : std::min(value, other);
  }
  return value;
}

template <class T>
std::vector<T> download(const std::byte* p, size_t n) {
  std::vector<T> values(n);
  cuda(cudaMemcpy(values.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}
template <class T>
void upload(std::byte* p, const std::vector<T>& values) {
  cuda(cudaMemcpy(p, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
}

template <class T>
void expect_equal(T found, double wanted, const char* what, size_t i) {
  expect(static_cast<float>(found) == static_cast<float>(wanted),
         fmt::format("{}: element {} is {}, not {}", what, i, static_cast<float>(found), wanted));
}

/// All collectives with `n` elements of one type, in place or not.
template <class T>
void all_collectives(const Player& player, ncclDataType_t type, size_t n, bool in_place) {
  const int rank = player.rank.rank, ranks = player.rank.ranks;
  const size_t all = n * static_cast<size_t>(ranks), mine = n * static_cast<size_t>(rank);
  std::byte* large = device_bytes(all, sizeof(T));
  std::byte* small = in_place ? large + mine * sizeof(T) : device_bytes(n, sizeof(T));

  for (const ncclRedOp_t op : {ncclSum, ncclMax, ncclMin}) {
    std::byte* to = in_place ? small : device_bytes(n, sizeof(T));
    upload(small, numbers<T>(rank, 0, n));
    nccl(ncclAllReduce(small, to, n, type, op, player.comm, player.stream));
    player.wait();
    const auto found = download<T>(to, n);
    for (size_t i = 0; i < n; ++i) expect_equal(found[i], expected(op, ranks, i), "all-reduce", i);

    upload(large, numbers<T>(rank, 0, all));
    nccl(ncclReduceScatter(large, small, n, type, op, player.comm, player.stream));
    player.wait();
    const auto share = download<T>(small, n);
    for (size_t i = 0; i < n; ++i) expect_equal(share[i], expected(op, ranks, mine + i), "reduce-scatter", i);
  }
  upload(small, numbers<T>(rank, 0, n));
  nccl(ncclAllGather(small, large, n, type, player.comm, player.stream));
  player.wait();
  const auto gathered = download<T>(large, all);
  for (size_t i = 0; i < all; ++i) expect_equal(gathered[i], number(static_cast<int>(i / n), i % n), "all-gather", i);

  const int root = ranks - 1;
  upload(small, numbers<T>(rank, 0, n));
  std::byte* to = in_place ? small : device_bytes(n, sizeof(T));
  nccl(ncclBroadcast(rank == root ? small : nullptr, rank == root && in_place ? small : to, n, type, root, player.comm,
                     player.stream));
  player.wait();
  const auto sent = download<T>(to, n);
  for (size_t i = 0; i < n; ++i) expect_equal(sent[i], number(root, i), "broadcast", i);
}

/// Every ending, or the first that is not good.
std::string trouble(const std::vector<Ending>& endings) {
  for (const Ending& ending : endings) {
    if (!ending.good) return ending.message;
  }
  return "";
}

/// Polls a communicator until it is settled.
ncclResult_t settled(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) nccl(ncclCommGetAsyncError(comm, &state));
  return state;
}

}  // namespace

TEST_CASE("stand-in NCCL: all collectives, types and reductions, odd sizes") {
  const int ranks = GENERATE(1, 2, 3, 4);
  const auto endings = run_ranks(ranks, [](const Rank& rank) {
    const Player player(rank);
    for (const bool in_place : {false, true}) {
      for (const size_t n : {1, 3, 70001}) all_collectives<float>(player, ncclFloat32, n, in_place);
      all_collectives<double>(player, ncclFloat64, 20003, in_place);
      all_collectives<int64_t>(player, ncclInt64, 17, in_place);
      all_collectives<int32_t>(player, ncclInt32, 17, in_place);
      all_collectives<uint8_t>(player, ncclUint8, 17, in_place);
      all_collectives<__half>(player, ncclFloat16, 1001, in_place);
      all_collectives<__nv_bfloat16>(player, ncclBfloat16, 70001, in_place);
    }
    all_collectives<float>(player, ncclFloat32, 0, false);
    int count = 0, me = -1;
    nccl(ncclCommCount(player.comm, &count));
    nccl(ncclCommUserRank(player.comm, &me));
    expect(count == rank.ranks && me == rank.rank, "who is who");
    nccl(ncclCommFinalize(player.comm));
    nccl(ncclCommDestroy(player.comm));
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: sums have the order of ranks, on all of them") {
  const auto endings = run_ranks(3, [](const Rank& rank) {
    const Player player(rank);
    const float parts[] = {1e8f, 1.5f, -1e8f};
    std::byte* p = device_bytes(1, 4);
    upload(p, std::vector<float>{parts[rank.rank]});
    nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, player.comm, player.stream));
    player.wait();
    const float wanted = (parts[0] + parts[1]) + parts[2];
    expect(download<float>(p, 1)[0] == wanted, "another order");
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: a group, and collectives of one communicator on two streams") {
  const auto endings = run_ranks(2, [](const Rank& rank) {
    const Player player(rank);
    cudaStream_t second = nullptr;
    cuda(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    std::byte* p = device_bytes(4, 4);
    upload(p, std::vector<int>{1, 10, 100, 1000});
    const auto sum = [&](size_t at, cudaStream_t stream) {
      std::byte* element = p + 4 * at;
      nccl(ncclAllReduce(element, element, 1, ncclInt32, ncclSum, player.comm, stream));
    };
    nccl(ncclGroupStart());
    sum(0, player.stream);
    sum(1, player.stream);
    nccl(ncclGroupEnd());
    sum(2, second);
    sum(3, player.stream);
    cuda(cudaDeviceSynchronize());
    expect(download<int>(p, 4) == std::vector<int>{2, 20, 200, 2000}, "wrong sums");
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: a captured collective runs at every launch") {
  const auto endings = run_ranks(2, [](const Rank& rank) {
    const Player player(rank);
    std::byte* p = device_bytes(1, 4);
    upload(p, std::vector<int>{1});
    cuda(cudaStreamBeginCapture(player.stream, cudaStreamCaptureModeThreadLocal));
    nccl(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, player.comm, player.stream));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cuda(cudaStreamEndCapture(player.stream, &graph));
    cuda(cudaGraphInstantiate(&executable, graph, 0));
    for (int i = 0; i < 5; ++i) cuda(cudaGraphLaunch(executable, player.stream));
    player.wait();
    expect(download<int>(p, 1)[0] == 32, "not five launches");
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: a rank whose host is elsewhere still takes part") {
  const auto endings = run_ranks(2, [](const Rank& rank) {
    const Player player(rank);
    std::byte* p = device_bytes(1, 4);
    upload(p, std::vector<int>{1});
    nccl(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, player.comm, player.stream));
    // Neither rank waits for the device until the other's work must have run.
    while (counters().collectives == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    player.wait();
    expect(download<int>(p, 1)[0] == 2, "wrong sum");
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: a communicator that does not block") {
  const auto endings = run_ranks(3, [](const Rank& rank) {
    cudaStream_t stream = nullptr;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    expect(ncclCommInitRankConfig(&comm, rank.ranks, rank.id, rank.rank, &config) == ncclInProgress, "it blocked");
    nccl(settled(comm));
    std::byte* p = device_bytes(1, 8);
    upload(p, std::vector<int64_t>{1});
    int delayed = 0;
    constexpr int kCalls = 100;
    for (int i = 0; i < kCalls; ++i) {
      const ncclResult_t result = ncclAllReduce(p, p, 1, ncclInt64, i < 20 ? ncclSum : ncclMax, comm, stream);
      expect(result == ncclSuccess || result == ncclInProgress, "failed");
      delayed += result == ncclInProgress;
      nccl(settled(comm));
    }
    cuda(cudaStreamSynchronize(stream));
    expect(download<int64_t>(p, 1)[0] == 3486784401, "not 3 to the power of 20");
    expect(delayed > 0 && delayed < kCalls, "never or always in progress");
    expect(ncclCommFinalize(comm) == ncclInProgress, "finalize blocked");
    nccl(settled(comm));
    nccl(ncclCommDestroy(comm));
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: a call while the one before is in progress is misuse") {
  const auto endings = run_ranks(1, [](const Rank& rank) {
    cudaStream_t stream = nullptr;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    ncclCommInitRankConfig(&comm, rank.ranks, rank.id, rank.rank, &config);
    nccl(settled(comm));
    std::byte* p = device_bytes(1, 4);
    for (int i = 0; i < 100; ++i) ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, comm, stream);
  });
  CHECK_THAT(trouble(endings), Catch::Matchers::Contains("still ncclInProgress"));
}

TEST_CASE("stand-in NCCL: ranks that disagree are both named") {
  const auto [what, call] =
      GENERATE(
          table<const char*, std::function<void(const Player&, std::byte*)>>({{"count",
                                                                               [](const Player& p, std::byte* b) {
                                                                                 nccl(ncclAllReduce(
                                                                                     b, b, p.rank.rank == 1 ? 2 : 1,
                                                                                     ncclFloat32, ncclSum, p.comm,
                                                                                     p.stream));
                                                                               }},
                                                                              {"type",
                                                                               [](const Player& p, std::byte* b) {
                                                                                 nccl(ncclAllReduce(
                                                                                     b, b, 1,
                                                                                     p.rank.rank == 1 ? ncclInt32
                                                                                                      : ncclFloat32,
                                                                                     ncclSum, p.comm, p.stream));
                                                                               }},
                                                                              {"reduction",
                                                                               [](const Player& p, std::byte* b) {
                                                                                 nccl(ncclAllReduce(
                                                                                     b, b, 1, ncclFloat32,
                                                                                     p.rank.rank == 1 ? ncclMax
                                                                                                      : ncclSum,
                                                                                     p.comm, p.stream));
                                                                               }},
                                                                              {"root",
                                                                               [](const Player& p, std::byte* b) {
                                                                                 nccl(ncclBroadcast(
                                                                                     b, b, 1, ncclFloat32, p.rank.rank,
                                                                                     p.comm, p.stream));
                                                                               }},
                                                                              {"operation",
                                                                               [](const Player& p, std::byte* b) {
                                                                                 if (p.rank.rank == 1) {
                                                                                   nccl(ncclBroadcast(
                                                                                       b, b, 1, ncclFloat32, 0, p.comm,
                                                                                       p.stream));
                                                                                 } else {
                                                                                   nccl(ncclAllReduce(
                                                                                       b, b, 1, ncclFloat32, ncclSum,
                                                                                       p.comm, p.stream));
                                                                                 }
                                                                               }}}));
  CAPTURE(what);
  const auto endings = run_ranks(2, [&call = call](const Rank& rank) {
    const Player player(rank);
    call(player, device_bytes(4, 4));
    player.wait();
  });
  CHECK_THAT(endings[0].message,
             Catch::Matchers::Contains("rank 0 calls") && Catch::Matchers::Contains("rank 1 calls"));
  CHECK_FALSE(endings[1].good);
}

TEST_CASE("stand-in NCCL: wrong buffers") {
  const auto endings = run_ranks(1, [](const Rank& rank) {
    const Player player(rank);
    std::byte* p = device_bytes(8, 4);
    float host = 0;
    const auto refused = [&](const char* what, const std::function<void()>& call) {
      try {
        call();
      } catch (const Misuse&) {
        return;
      }
      expect(false, fmt::format("accepted: {}", what));
    };
    const auto reduce = [&](const void* from, void* to, size_t n) {
      nccl(ncclAllReduce(from, to, n, ncclFloat32, ncclSum, player.comm, player.stream));
    };
    refused("host memory", [&] { reduce(p, &host, 1); });
    refused("too long", [&] { reduce(p, p, 9); });
    refused("overlap", [&] { reduce(p, p + 4, 4); });
    refused("not aligned", [&] { reduce(p + 2, p + 2, 1); });
    refused("default stream", [&] { nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, player.comm, nullptr)); });
    refused("gather over itself", [&] { nccl(ncclAllGather(p + 4, p, 2, ncclFloat32, player.comm, player.stream)); });
    refused("an average", [&] { nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclAvg, player.comm, player.stream)); });
    refused("no such root", [&] { nccl(ncclBroadcast(p, p, 1, ncclFloat32, 1, player.comm, player.stream)); });
    reduce(p, p, 8);
    player.wait();
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: two ranks on one device") {
  const bool blocking = GENERATE(true, false);
  const auto endings = run_ranks(2, [blocking](const Rank& rank) {
    cuda(cudaSetDevice(0));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking ? 1 : 0;
    ncclComm_t comm = nullptr;
    ncclResult_t result = ncclCommInitRankConfig(&comm, rank.ranks, rank.id, rank.rank, &config);
    if (!blocking) result = settled(comm);
    expect(result == ncclInvalidUsage, ncclGetErrorString(result));
    expect(std::string(ncclGetLastError(comm)).starts_with("Duplicate GPU detected"), ncclGetLastError(comm));
    if (comm != nullptr) nccl(ncclCommAbort(comm));
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: an injected error reaches every rank, and an abort frees the streams") {
  const auto endings = run_ranks(3, [](const Rank& rank) {
    Options mine = options();
    mine.nccl_fault = NcclFault{NcclFault::Kind::error, 1, 3};
    set_options(mine);
    const Player player(rank);
    std::byte* p = device_bytes(1, 4);
    upload(p, std::vector<float>{1});
    for (int i = 0; i < 2; ++i) nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, player.comm, player.stream));
    player.wait();
    expect(download<float>(p, 1)[0] == 9, "the calls before the fault");
    nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, player.comm, player.stream));
    ncclResult_t state = ncclSuccess;
    while (state == ncclSuccess) nccl(ncclCommGetAsyncError(player.comm, &state));
    expect(state == (rank.rank == 1 ? ncclSystemError : ncclRemoteError), ncclGetErrorString(state));
    expect(cudaStreamQuery(player.stream) == cudaErrorNotReady, "it completed");
    nccl(ncclCommAbort(player.comm));
    player.wait();
    expect(std::isnan(download<float>(p, 1)[0]), "an aborted call left a number");
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: an injected hang lets nobody go on until an abort") {
  const auto endings = run_ranks(2, [](const Rank& rank) {
    Options mine = options();
    mine.nccl_fault = NcclFault{NcclFault::Kind::hang, 1, 1};
    set_options(mine);
    const Player player(rank);
    std::byte* p = device_bytes(1, 4);
    nccl(ncclAllReduce(p, p, 1, ncclFloat32, ncclSum, player.comm, player.stream));
    for (int i = 0; i < 100; ++i) {
      expect(cudaStreamQuery(player.stream) == cudaErrorNotReady, "it completed");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ncclResult_t state = ncclInProgress;
    nccl(ncclCommGetAsyncError(player.comm, &state));
    expect(state == ncclSuccess, "a hang is no error that NCCL sees");
    nccl(ncclCommAbort(player.comm));
    player.wait();
  });
  CHECK(trouble(endings) == "");
}

TEST_CASE("stand-in NCCL: ranks may be threads of one process") {
  const auto endings = run_ranks(1, [](const Rank& process) {
    Options mine = options();
    mine.devices = 3;
    set_options(mine);
    std::vector<int> sums(3);
    std::vector<std::thread> threads;
    for (int r = 0; r < 3; ++r) {
      threads.emplace_back([&, r] {
        cuda(cudaSetDevice(r));
        const Player player(Rank{r, 3, process.id});
        std::byte* p = device_bytes(1, 4);
        upload(p, std::vector<int>{1 << (4 * r)});
        nccl(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, player.comm, player.stream));
        player.wait();
        sums[static_cast<size_t>(r)] = download<int>(p, 1)[0];
      });
    }
    for (std::thread& thread : threads) thread.join();
    expect(sums == std::vector<int>(3, 0x111), "wrong sums");
  });
  CHECK(trouble(endings) == "");
}
