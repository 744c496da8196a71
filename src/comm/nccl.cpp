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
#include "comm/reduce.h"

namespace plsc {
namespace {

using namespace nccl;

constexpr double kNewsSeconds = 3;       // for the monitor to say who is gone, once NCCL has noticed that somebody is
constexpr double kFarewellSeconds = 10;  // for the other ranks to come to the orderly end

ncclDataType_t nccl_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return ncclFloat32;
    case Dtype::f64:
      return ncclFloat64;
    case Dtype::i64:
      return ncclInt64;
    case Dtype::i32:
      return ncclInt32;
    case Dtype::u8:
      return ncclUint8;
    case Dtype::bf16:
      return ncclBfloat16;
    case Dtype::f16:
      return ncclFloat16;
  }
  return ncclUint8;
}

ncclRedOp_t nccl_op(ReduceOp op) { return op == ReduceOp::sum ? ncclSum : op == ReduceOp::max ? ncclMax : ncclMin; }

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

/// The communicator, its stream, and what may go wrong with them.
class NcclWorld final : public NcclCollective {
 public:
  NcclWorld(const NcclOptions& options, Collective& host);
  ~NcclWorld() override;
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override;
  Pending start_all_reduce_bf16(Tensor& t) override;
  Pending start_all_gather(const Tensor& from, Tensor& to) override;
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override;
  Pending start_broadcast(Tensor& t, int root) override;
  Pending start_barrier() override;
  void wait(Pending pending, const std::string& what) override;
  int64_t bytes_sent() const override { return static_cast<int64_t>(sent_); }
  void host_wait(const std::function<bool()>& done) override;

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
      if (comm_ != nullptr) cause_ = std::current_exception();
      give_up();
      throw;
    }
  }
  void give_up() noexcept {
    if (comm_ != nullptr) static_cast<void>(ncclCommAbort(comm_));
    comm_ = nullptr;
  }
  void connect(Collective& host);
  /// Orders the communication stream behind the compute stream, queues `call` on it, and notes its end.
  template <class Call>
  Flight* launch(const char* what, const Call& call);
  /// Each rank's p-th part of `count` elements goes to rank p, which receives them by rank.
  ncclResult_t exchange(const uint16_t* from, uint16_t* to, int64_t count);
  /// Room for the 16-bit copies of so many elements a rank and part. Work on the stream may still use the room before.
  void reserve(int64_t count);
  /// What a rank sends of bytes that all of them must see, at least.
  void count_sent(double bytes) { sent_ += bytes * (size_ - 1) / size_; }
  /// Waits until NCCL has done what the call began. `call` names it in messages.
  void settle(ncclResult_t result, const char* call, const WaitPolicy& policy);
  ncclResult_t state() const;
  /// Throws what is wrong with the other ranks or with NCCL.
  void look_around();
  [[noreturn]] void fail_nccl(ncclResult_t result, const char* call);
  WaitPolicy own_wait() const {
    WaitPolicy policy = policy_;
    policy.common = false;
    return policy;
  }
  void check_shares(const Tensor& whole, const Tensor& share) const;

  WaitPolicy policy_;
  cudaStream_t compute_, stream_ = nullptr;
  int rank_, size_;
  ncclComm_t comm_ = nullptr;  // null after an error
  std::exception_ptr cause_;   // that error
  Event ready_;
  Flights flights_;
  float* barrier_value_ = nullptr;
  NcclBf16Ops bf16_;
  std::vector<uint16_t*> rooms_;  // the last one counts
  int64_t room_ = 0;              // elements a rank and part
  double sent_ = 0;
  const int exceptions_ = std::uncaught_exceptions();
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
      rank_(host.rank()),
      size_(host.size()),
      bf16_(options.bf16) {
  check_cuda(cudaSetDevice(options.device), "cudaSetDevice");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&barrier_value_), sizeof *barrier_value_), "cudaMalloc");
  check_cuda(cudaMemsetAsync(barrier_value_, 0, sizeof *barrier_value_, stream_), "cudaMemsetAsync");
  guarded([&] { connect(host); });
}

void NcclWorld::connect(Collective& host) {
  ncclUniqueId id{};
  on_rank_0(host, [&] {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) fail_nccl(result, "ncclGetUniqueId");
  });
  const std::string bytes = broadcast_text(host, std::string(id.internal, sizeof id.internal));
  std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  settle(ncclCommInitRankConfig(&comm_, size_, id, rank_, &config), "NCCL's start", policy_);
}

NcclWorld::~NcclWorld() {
  // In order only where nothing is under way on any rank's account: a rank that leaves with an error leaves alone.
  const bool orderly = comm_ != nullptr && std::uncaught_exceptions() == exceptions_;
  if (orderly && cudaStreamQuery(stream_) == cudaSuccess) {
    const Stopwatch waited;
    ncclResult_t result = ncclCommFinalize(comm_);
    while (result == ncclInProgress && waited.seconds() < kFarewellSeconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      result = state();
    }
    if (result == ncclSuccess) {
      static_cast<void>(ncclCommDestroy(comm_));
      comm_ = nullptr;  // whatever it answered: it is not to be touched again
    }
  }
  give_up();
  static_cast<void>(cudaFree(barrier_value_));
  for (uint16_t* room : rooms_) static_cast<void>(cudaFree(room));
  static_cast<void>(cudaStreamDestroy(stream_));
}

ncclResult_t NcclWorld::state() const {
  ncclResult_t asynchronous = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(comm_, &asynchronous);
  return result == ncclSuccess ? asynchronous : result;
}

void NcclWorld::settle(ncclResult_t result, const char* call, const WaitPolicy& policy) {
  Question question([&] {
    if (result == ncclInProgress) result = state();
    return result != ncclInProgress;
  });
  wait_for(question, call, policy);
  if (result != ncclSuccess) fail_nccl(result, call);
}

void NcclWorld::look_around() {
  // Whoever asks for results after an error learns of that one, not of what came of it.
  if (comm_ == nullptr) std::rethrow_exception(cause_);
  if (policy_.watch) policy_.watch->check_peers();
  if (const ncclResult_t now = state(); now != ncclSuccess && now != ncclInProgress) fail_nccl(now, "a collective");
}

void NcclWorld::fail_nccl(ncclResult_t result, const char* call) {
  const char* last = comm_ != nullptr ? ncclGetLastError(comm_) : nullptr;
  const std::string more = last != nullptr && *last != 0 ? fmt::format(": {}", last) : "";
  const std::string text = fmt::format("NCCL: {}: {}{}", call, ncclGetErrorString(result), more);
  const std::string hint = "NCCL_DEBUG=WARN in the environment makes NCCL say more";
  if (result != ncclRemoteError) fail_hint(hint, "{}", text);
  // Another rank is at fault; the monitor knows which, or will in a moment.
  for (const Stopwatch waited; policy_.watch != nullptr && waited.seconds() < kNewsSeconds;) {
    policy_.watch->check_peers();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw SharedError(text, rank_ == 0 ? Voice::speak : Voice::wait, hint);
}

template <class Call>
Flight* NcclWorld::launch(const char* what, const Call& call) {
  return guarded([&] {
    look_around();
    check_cuda(cudaEventRecord(ready_.get(), compute_), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(stream_, ready_.get(), 0), "cudaStreamWaitEvent");
    // What has not been queued yet cannot be behind an event: NCCL is waited for, not the device.
    settle(call(), what, own_wait());
    static_cast<void>(flights_.oldest());
    Flight& flight = flights_.begin(what);
    check_cuda(cudaEventRecord(flight.done.get(), stream_), "cudaEventRecord");
    return &flight;
  });
}

void NcclWorld::check_shares(const Tensor& whole, const Tensor& share) const {
  check_device(whole);
  check_device(share);
  PLSC_CHECK(whole.dtype() == share.dtype() && whole.elements() == size_ * share.elements(),
             "{} {} is not {} shares of {} {}", dtype_name(whole.dtype()), whole.shape().text(), size_,
             dtype_name(share.dtype()), share.shape().text());
}

Pending NcclWorld::start_all_reduce(Tensor& t, ReduceOp op) {
  check_device(t);
  check_sums(t);
  count_sent(2.0 * static_cast<double>(t.bytes()));
  Flight* flight = t.elements() == 0 ? nullptr : launch("an all-reduce", [&] {
    return ncclAllReduce(t.raw(), t.raw(), static_cast<size_t>(t.elements()), nccl_type(t.dtype()), nccl_op(op), comm_,
                         stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

void NcclWorld::reserve(int64_t count) {
  if (count <= room_) return;
  void* room = nullptr;
  check_cuda(cudaMalloc(&room, static_cast<size_t>(2 * count * size_) * sizeof(uint16_t)), "cudaMalloc");
  rooms_.push_back(static_cast<uint16_t*>(room));
  room_ = count;
}

ncclResult_t NcclWorld::exchange(const uint16_t* from, uint16_t* to, int64_t count) {
  const auto n = static_cast<size_t>(count);
  // What a call inside a group answers comes again with the group's end.
  static_cast<void>(ncclGroupStart());
  for (int p = 0; p < size_; ++p) {
    static_cast<void>(ncclSend(from + p * count, n, ncclBfloat16, p, comm_, stream_));
    static_cast<void>(ncclRecv(to + p * count, n, ncclBfloat16, p, comm_, stream_));
  }
  return ncclGroupEnd();
}

// Collectives are on one stream, one behind the other: they can share the room for their copies.
Pending NcclWorld::start_all_reduce_bf16(Tensor& t) {
  check_device(t);
  PLSC_CHECK(t.dtype() == Dtype::f32, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
  const int64_t n = t.elements(), share = (n + size_ - 1) / size_;
  count_sent(static_cast<double>(t.bytes()));  // half of them, there and back
  Flight* flight = n == 0 || size_ == 1 ? nullptr : launch("an all-reduce in bf16", [&] {
    reserve(share);
    uint16_t *sent = rooms_.back(), *received = sent + share * size_;
    bf16_.narrow(t.data<float>(), n, sent, share * size_, stream_);
    settle(exchange(sent, received, share), "an exchange in bf16", own_wait());
    uint16_t* own = sent + rank_ * share;
    bf16_.sum(received, size_, share, own, stream_);
    settle(ncclAllGather(own, sent, static_cast<size_t>(share), ncclBfloat16, comm_, stream_), "an all-gather in bf16",
           own_wait());
    bf16_.widen(sent, t.data<float>(), n, stream_);
    return ncclSuccess;
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

Pending NcclWorld::start_all_gather(const Tensor& from, Tensor& to) {
  check_shares(to, from);
  count_sent(static_cast<double>(to.bytes()));
  Flight* flight = from.elements() == 0 ? nullptr : launch("an all-gather", [&] {
    return ncclAllGather(from.raw(), to.raw(), from.bytes(), ncclUint8, comm_, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{from, to});
}

Pending NcclWorld::start_reduce_scatter(const Tensor& from, Tensor& to) {
  check_shares(from, to);
  check_sums(from);
  count_sent(static_cast<double>(from.bytes()));
  Flight* flight = to.elements() == 0 ? nullptr : launch("a reduce-scatter", [&] {
    return ncclReduceScatter(from.raw(), to.raw(), static_cast<size_t>(to.elements()), nccl_type(to.dtype()), ncclSum,
                             comm_, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{from, to});
}

Pending NcclWorld::start_broadcast(Tensor& t, int root) {
  check_device(t);
  PLSC_CHECK(root >= 0 && root < size_, "root {} of {} ranks", root, size_);
  count_sent(static_cast<double>(t.bytes()));
  Flight* flight = t.elements() == 0 ? nullptr : launch("a broadcast", [&] {
    return ncclBroadcast(t.raw(), t.raw(), t.bytes(), ncclUint8, root, comm_, stream_);
  });
  return std::make_unique<NcclRequest>(*this, flight, NcclRequest::Tensors{t, {}});
}

Pending NcclWorld::start_barrier() {
  Flight* flight = launch("a barrier", [&] {
    return ncclAllReduce(barrier_value_, barrier_value_, 1, ncclFloat32, ncclSum, comm_, stream_);
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
