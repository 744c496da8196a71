// NCCL on a stream of its own, ordered against the device's by events. The communicator does not block: a call that
// NCCL has not finished is polled, like everything else here, so that no thread hangs in the library.
#include "comm/nccl.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <thread>

#include "base/clock.h"
#include "comm/nccl_flights.h"
#include "comm/nccl_types.h"
#include "comm/reduce.h"

namespace plsc {
namespace {

using namespace nccl;

constexpr double kNewsSeconds = 3;       // for the monitor to say who is gone, once NCCL has noticed that somebody is
constexpr double kFarewellSeconds = 10;  // for the other ranks to come to the orderly end

/// A question that `wait_for` asks until the answer is yes.
template <class Ask>
class Question final : public Request {
 public:
  explicit Question(Ask ask) : ask_(std::move(ask)) {}
  bool poll() override { return ask_(); }

 private:
  Ask ask_;
};

class NcclWorld;

class NcclRequest final : public Request {
 public:
  struct Tensors {
    Tensor from, to;
  };
  /// `flight`: null where there was nothing to do.
  NcclRequest(NcclWorld& world, Flight* flight, Tensors tensors, bool barrier = false)
      : world_(world), flight_(flight), tensors_(std::move(tensors)), barrier_(barrier) {}
  ~NcclRequest() override;
  bool poll() override;
  /// Puts what the device is given from now on behind the result.
  void join(const std::string& what);

 private:
  NcclWorld& world_;
  Flight* flight_;
  Tensors tensors_;  // held while NCCL uses their memory
  bool barrier_;
  bool joined_ = false;
};

/// A communicator, and this rank's place in it.
struct Link {
  int rank = 0, size = 1;
  ncclComm_t comm = nullptr;  // null after an error
  double sent = 0;            // Collective::bytes_sent
  /// Of bytes that all of its ranks must see.
  void count_sent(double bytes) { sent += bytes * (size - 1) / size; }
};

/// The communicators, of all ranks and of groups of them, their stream, and what may go wrong with them. All share the
/// stream: whatever NCCL runs, it runs in the order in which every rank has asked for it.
class NcclWorld final : public NcclCollective {
 public:
  NcclWorld(const NcclOptions& options, Collective& host);
  ~NcclWorld() override;
  int rank() const override { return all_.rank; }
  int size() const override { return all_.size; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override { return all_reduce(all_, t, op); }
  Pending start_all_reduce_bf16(Tensor& t) override { return all_reduce_bf16(all_, t); }
  Pending start_all_gather(const Tensor& from, Tensor& to) override { return all_gather(all_, from, to); }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override { return reduce_scatter(all_, from, to); }
  Pending start_broadcast(Tensor& t, int root) override { return broadcast(all_, t, root); }
  Pending start_barrier() override { return barrier(all_); }
  std::unique_ptr<Collective> split(int ranks, Collective& host) override;
  void wait(Pending pending, const std::string& what) override;
  int64_t bytes_sent() const override { return static_cast<int64_t>(all_.sent); }
  void host_wait(const std::function<bool()>& done) override;

  // What a collective is on one of the communicators.
  Pending all_reduce(Link& link, Tensor& t, ReduceOp op);
  Pending all_reduce_bf16(Link& link, Tensor& t);
  Pending all_gather(Link& link, const Tensor& from, Tensor& to);
  Pending reduce_scatter(Link& link, const Tensor& from, Tensor& to);
  Pending broadcast(Link& link, Tensor& t, int root);
  Pending barrier(const Link& link);

  // For its requests.
  bool poll(const Flight& flight) {
    return guarded([&] {
      look_around();
      return passed(flight.done.get());
    });
  }
  void join(const Flight& flight) {
    check_cuda(cudaStreamWaitEvent(compute_, flight.done.get(), 0), "cudaStreamWaitEvent");
  }
  /// Without an error: where one is on its way already.
  void join_quietly(const Flight& flight) noexcept {
    static_cast<void>(cudaStreamWaitEvent(compute_, flight.done.get(), 0));
  }
  void release(Flight& flight) { flights_.release(flight); }

 private:
  /// Runs `work`; where it throws, gives the communicator up first: a kernel of NCCL that waits for another rank would
  /// keep the device, and so the end of this process, waiting.
  template <class Work>
  auto guarded(const Work& work) -> decltype(work()) {
    try {
      return work();
    } catch (...) {
      if (all_.comm != nullptr) cause_ = std::current_exception();
      give_up();
      throw;
    }
  }
  void give_up() noexcept {
    for (const auto& group : groups_) give_up(*group);
    give_up(all_);
  }
  static void give_up(Link& link) noexcept {
    if (link.comm != nullptr) static_cast<void>(ncclCommAbort(link.comm));
    link.comm = nullptr;
  }
  /// Starts the communicator of the `link.size` consecutive ranks of `host` that this one is among.
  void connect(Link& link, Collective& host);
  /// Ends a communicator in order, on all its ranks; leaves it as it is where that does not come about.
  void finalize(Link& link) const;
  /// Orders the communication stream behind the compute stream, queues `call` on it, and notes its end.
  template <class Call>
  Flight* launch(const Link& link, const char* what, const Call& call);
  /// Each rank's p-th part of `count` elements goes to rank p, which receives them by rank.
  ncclResult_t exchange(const Link& link, const uint16_t* from, uint16_t* to, int64_t count);
  /// Room for 16-bit copies of so many elements, twice. Work on the stream may still use the room before.
  uint16_t* reserve(int64_t count);
  /// Waits until NCCL has done what the call began. `call` names it in messages.
  void settle(const Link& link, ncclResult_t result, const char* call, const WaitPolicy& policy);
  static ncclResult_t state(const Link& link);
  /// Throws what is wrong with the other ranks or with NCCL.
  void look_around();
  [[noreturn]] void fail_nccl(ncclResult_t result, const char* call);
  WaitPolicy own_wait() const {
    WaitPolicy policy = policy_;
    policy.common = false;
    return policy;
  }

  WaitPolicy policy_;
  cudaStream_t compute_, stream_ = nullptr;
  Link all_;
  std::vector<std::unique_ptr<Link>> groups_;
  std::exception_ptr cause_;  // the error after which there are no communicators
  Event ready_;
  Flights flights_;
  float* barrier_value_ = nullptr;
  NcclBf16Ops bf16_;
  std::vector<uint16_t*> rooms_;  // the last one counts
  int64_t room_ = 0;              // elements, twice
  const int exceptions_ = std::uncaught_exceptions();
};

/// A group of the ranks; everything but its communicator is the world's.
class NcclGroup final : public Collective {
 public:
  NcclGroup(NcclWorld& world, Link& link) : world_(world), link_(link) {}
  int rank() const override { return link_.rank; }
  int size() const override { return link_.size; }
  Pending start_all_reduce(Tensor& t, ReduceOp op) override { return world_.all_reduce(link_, t, op); }
  Pending start_all_reduce_bf16(Tensor& t) override { return world_.all_reduce_bf16(link_, t); }
  Pending start_all_gather(const Tensor& from, Tensor& to) override { return world_.all_gather(link_, from, to); }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    return world_.reduce_scatter(link_, from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override { return world_.broadcast(link_, t, root); }
  Pending start_barrier() override { return world_.barrier(link_); }
  std::unique_ptr<Collective> split(int, Collective&) override {
    PLSC_CHECK(false, "a group of ranks is not split any further");
    return nullptr;
  }
  void wait(Pending pending, const std::string& what) override { world_.wait(std::move(pending), what); }
  int64_t bytes_sent() const override { return static_cast<int64_t>(link_.sent); }

 private:
  NcclWorld& world_;
  Link& link_;
};

void check_device(const Tensor& t) {
  PLSC_CHECK(t.defined() || t.elements() == 0, "an undefined tensor");
  PLSC_CHECK(t.elements() == 0 || !t.on_host(), "host memory in a collective between GPUs");
}

void check_sums(const Tensor& t) {
  // As with MPI: a sum over many ranks is not for 16 bits.
  PLSC_CHECK(can_reduce(t.dtype()), "a reduction of {}: convert to f32 first", dtype_name(t.dtype()));
}

NcclRequest::~NcclRequest() {
  if (flight_ == nullptr) return;
  // Its memory goes back to the device, which may hand it out again: behind NCCL's use of it.
  if (!joined_) world_.join_quietly(*flight_);
  world_.release(*flight_);
}

bool NcclRequest::poll() { return flight_ == nullptr || world_.poll(*flight_); }

void NcclRequest::join(const std::string& what) {
  joined_ = true;
  if (flight_ == nullptr) return;
  flight_->what = what;
  world_.join(*flight_);
  if (barrier_) world_.host_wait([this] { return passed(flight_->done.get()); });
}

NcclWorld::NcclWorld(const NcclOptions& options, Collective& host)
    : policy_(options.policy),
      compute_(static_cast<cudaStream_t>(options.compute_stream)),
      all_{host.rank(), host.size()},
      bf16_(options.bf16) {
  check_cuda(cudaSetDevice(options.device), "cudaSetDevice");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&barrier_value_), sizeof *barrier_value_), "cudaMalloc");
  check_cuda(cudaMemsetAsync(barrier_value_, 0, sizeof *barrier_value_, stream_), "cudaMemsetAsync");
  guarded([&] { connect(all_, host); });
}

std::unique_ptr<Collective> NcclWorld::split(int ranks, Collective& host) {
  PLSC_CHECK(ranks > 0 && all_.size % ranks == 0, "{} ranks in groups of {}", all_.size, ranks);
  Link& link = *groups_.emplace_back(std::make_unique<Link>(Link{all_.rank % ranks, ranks}));
  guarded([&] {
    look_around();
    connect(link, host);
  });
  return std::make_unique<NcclGroup>(*this, link);
}

void NcclWorld::connect(Link& link, Collective& host) {
  // The first of each group makes its group's rendezvous, and all are told all of them.
  ncclUniqueId id{};
  std::string error;
  if (link.rank == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) error = fmt::format("NCCL: ncclGetUniqueId: {}", ncclGetErrorString(result));
  }
  agree_or_fail(host, error);
  const std::vector<std::string> ids =
      gather_texts(host, link.rank == 0 ? std::string(id.internal, sizeof id.internal) : "");
  std::memcpy(id.internal, ids[static_cast<size_t>(host.rank() - link.rank)].data(), sizeof id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t result = ncclCommInitRankConfig(&link.comm, link.size, id, link.rank, &config);
  settle(link, result, "NCCL's start", policy_);
}

void NcclWorld::finalize(Link& link) const {
  const Stopwatch waited;
  ncclResult_t result = ncclCommFinalize(link.comm);
  while (result == ncclInProgress && waited.seconds() < kFarewellSeconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    result = state(link);
  }
  if (result != ncclSuccess) return;
  static_cast<void>(ncclCommDestroy(link.comm));
  link.comm = nullptr;  // whatever it answered: it is not to be touched again
}

NcclWorld::~NcclWorld() {
  // In order only where nothing is under way on any rank's account: a rank that leaves with an error leaves alone.
  const bool orderly = all_.comm != nullptr && std::uncaught_exceptions() == exceptions_;
  if (orderly && cudaStreamQuery(stream_) == cudaSuccess) {
    for (const auto& group : groups_) finalize(*group);
    finalize(all_);
  }
  give_up();
  static_cast<void>(cudaFree(barrier_value_));
  for (uint16_t* room : rooms_) static_cast<void>(cudaFree(room));
  static_cast<void>(cudaStreamDestroy(stream_));
}

ncclResult_t NcclWorld::state(const Link& link) {
  ncclResult_t asynchronous = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(link.comm, &asynchronous);
  return result == ncclSuccess ? asynchronous : result;
}

void NcclWorld::settle(const Link& link, ncclResult_t result, const char* call, const WaitPolicy& policy) {
  Question question([&] {
    if (result == ncclInProgress) result = state(link);
    return result != ncclInProgress;
  });
  wait_for(question, call, policy);
  if (result != ncclSuccess) fail_nccl(result, call);
}

void NcclWorld::look_around() {
  // Whoever asks for results after an error learns of that one, not of what came of it.
  if (all_.comm == nullptr) std::rethrow_exception(cause_);
  if (policy_.watch) policy_.watch->check_peers();
  const auto check = [this](const Link& link) {
    // A group whose start is only being asked for has no communicator yet.
    const ncclResult_t now = link.comm != nullptr ? state(link) : ncclSuccess;
    if (now != ncclSuccess && now != ncclInProgress) fail_nccl(now, "a collective");
  };
  check(all_);
  for (const auto& group : groups_) check(*group);
}

void NcclWorld::fail_nccl(ncclResult_t result, const char* call) {
  const char* last = all_.comm != nullptr ? ncclGetLastError(all_.comm) : nullptr;
  const std::string more = last != nullptr && *last != 0 ? fmt::format(": {}", last) : "";
  const std::string text = fmt::format("NCCL: {}: {}{}", call, ncclGetErrorString(result), more);
  const std::string hint = "NCCL_DEBUG=WARN in the environment makes NCCL say more";
  if (result != ncclRemoteError) fail_hint(hint, "{}", text);
  // Another rank is at fault; the monitor knows which, or will in a moment.
  for (const Stopwatch waited; policy_.watch != nullptr && waited.seconds() < kNewsSeconds;) {
    policy_.watch->check_peers();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw SharedError(text, all_.rank == 0 ? Voice::speak : Voice::wait, hint);
}

template <class Call>
Flight* NcclWorld::launch(const Link& link, const char* what, const Call& call) {
  return guarded([&] {
    look_around();
    check_cuda(cudaEventRecord(ready_.get(), compute_), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(stream_, ready_.get(), 0), "cudaStreamWaitEvent");
    // What has not been queued yet cannot be behind an event: NCCL is waited for, not the device.
    settle(link, call(), what, own_wait());
    static_cast<void>(flights_.oldest());
    Flight& flight = flights_.begin(what);
    check_cuda(cudaEventRecord(flight.done.get(), stream_), "cudaEventRecord");
    return &flight;
  });
}

void check_shares(const Link& link, const Tensor& whole, const Tensor& share) {
  check_device(whole);
  check_device(share);
  PLSC_CHECK(whole.dtype() == share.dtype() && whole.elements() == link.size * share.elements(),
             "{} {} is not {} shares of {} {}", dtype_name(whole.dtype()), whole.shape().text(), link.size,
             dtype_name(share.dtype()), share.shape().text());
}

Pending NcclWorld::all_reduce(Link& link, Tensor& t, ReduceOp op) {
  check_device(t);
  check_sums(t);
  link.count_sent(2.0 * static_cast<double>(t.bytes()));
  Flight* flight = t.elements() == 0 ? nullptr : launch(link, "an all-reduce", [&] {
    return ncclAllReduce(t.raw(), t.raw(), static_cast<size_t>(t.elements()), nccl_type(t.dtype()), nccl_op(op),
                         link.comm, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

uint16_t* NcclWorld::reserve(int64_t count) {
  if (count > room_) {
    void* room = nullptr;
    check_cuda(cudaMalloc(&room, static_cast<size_t>(2 * count) * sizeof(uint16_t)), "cudaMalloc");
    rooms_.push_back(static_cast<uint16_t*>(room));
    room_ = count;
  }
  return rooms_.back();
}

ncclResult_t NcclWorld::exchange(const Link& link, const uint16_t* from, uint16_t* to, int64_t count) {
  const auto n = static_cast<size_t>(count);
  // What a call inside a group answers comes again with the group's end.
  static_cast<void>(ncclGroupStart());
  for (int p = 0; p < link.size; ++p) {
    static_cast<void>(ncclSend(from + p * count, n, ncclBfloat16, p, link.comm, stream_));
    static_cast<void>(ncclRecv(to + p * count, n, ncclBfloat16, p, link.comm, stream_));
  }
  return ncclGroupEnd();
}

// Collectives are on one stream, one behind the other: they can share the room for their copies.
Pending NcclWorld::all_reduce_bf16(Link& link, Tensor& t) {
  check_device(t);
  PLSC_CHECK(t.dtype() == Dtype::f32, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
  const int64_t n = t.elements(), share = (n + link.size - 1) / link.size;
  link.count_sent(static_cast<double>(t.bytes()));  // half of them, there and back
  Flight* flight = n == 0 || link.size == 1 ? nullptr : launch(link, "an all-reduce in bf16", [&] {
    uint16_t *sent = reserve(share * link.size), *received = sent + share * link.size;
    bf16_.narrow(t.data<float>(), n, sent, share * link.size, stream_);
    settle(link, exchange(link, sent, received, share), "an exchange in bf16", own_wait());
    uint16_t* own = sent + link.rank * share;
    bf16_.sum(received, link.size, share, own, stream_);
    settle(link, ncclAllGather(own, sent, static_cast<size_t>(share), ncclBfloat16, link.comm, stream_),
           "an all-gather in bf16", own_wait());
    bf16_.widen(sent, t.data<float>(), n, stream_);
    return ncclSuccess;
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

Pending NcclWorld::all_gather(Link& link, const Tensor& from, Tensor& to) {
  check_shares(link, to, from);
  link.count_sent(static_cast<double>(to.bytes()));
  Flight* flight = from.elements() == 0 ? nullptr : launch(link, "an all-gather", [&] {
    return ncclAllGather(from.raw(), to.raw(), from.bytes(), ncclUint8, link.comm, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{from, to});
}

Pending NcclWorld::reduce_scatter(Link& link, const Tensor& from, Tensor& to) {
  check_shares(link, from, to);
  check_sums(from);
  link.count_sent(static_cast<double>(from.bytes()));
  Flight* flight = to.elements() == 0 ? nullptr : launch(link, "a reduce-scatter", [&] {
    return ncclReduceScatter(from.raw(), to.raw(), static_cast<size_t>(to.elements()), nccl_type(to.dtype()), ncclSum,
                             link.comm, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{from, to});
}

Pending NcclWorld::broadcast(Link& link, Tensor& t, int root) {
  check_device(t);
  PLSC_CHECK(root >= 0 && root < link.size, "root {} of {} ranks", root, link.size);
  link.count_sent(static_cast<double>(t.bytes()));
  Flight* flight = t.elements() == 0 ? nullptr : launch(link, "a broadcast", [&] {
    return ncclBroadcast(t.raw(), t.raw(), t.bytes(), ncclUint8, root, link.comm, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

Pending NcclWorld::barrier(const Link& link) {
  Flight* flight = launch(link, "a barrier", [&] {
    return ncclAllReduce(barrier_value_, barrier_value_, 1, ncclFloat32, ncclSum, link.comm, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{}, true);
}

void NcclWorld::wait(Pending pending, const std::string& what) {
  auto* request = dynamic_cast<NcclRequest*>(pending.get());
  PLSC_CHECK(request != nullptr, "a wait for nothing of NCCL's: {}", what);
  if (policy_.watch) {
    // Over at once for the host; said all the same, because every rank comes by here, some later than others.
    policy_.watch->begin_wait(what);
    policy_.watch->end_wait();
  }
  guarded([&] {
    look_around();
    request->join(what);
  });
}

void NcclWorld::host_wait(const std::function<bool()>& done) {
  guarded([&] {
    for (bool over = false; !over;) {
      const Flight* oldest = flights_.oldest();
      const std::string what = oldest != nullptr ? oldest->what : "the device";
      WaitPolicy policy = own_wait();
      // With no collective under way the device is at its own work, which may take what it takes.
      if (oldest == nullptr) policy.timeout = std::numeric_limits<double>::infinity();
      Question question([&] {
        look_around();
        over = done();
        return over || flights_.oldest() != oldest;  // the next collective has the whole time again
      });
      wait_for(question, what, policy);
    }
  });
}

/// "2.28.9" from 22809.
std::string version_text(int code) { return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100); }

}  // namespace

std::string nccl_version() {
  int code = 0;
  if (ncclGetVersion(&code) != ncclSuccess) return "unknown";
  return version_text(code);
}

std::string nccl_built_version() { return version_text(NCCL_VERSION_CODE); }

std::unique_ptr<NcclCollective> make_nccl_collective(const NcclOptions& options, Collective& host) {
  return std::make_unique<NcclWorld>(options, host);
}

}  // namespace plsc
