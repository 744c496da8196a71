#include "nccl_collective.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "memory.h"

namespace plsc::standin {
namespace {

template <class T>
T combine(T a, T b, ncclRedOp_t op) {
  if (op == ncclSum) return static_cast<T>(a + b);
  return op == ncclMax ? std::max(a, b) : std::min(a, b);
}

/// out[i] = all ranks' i-th elements, combined in the order of ranks. 16-bit types are combined in fp32 and rounded
/// once.
template <class T, class ToWide, class FromWide>
void reduce_as(Board& board, int ranks, size_t n, ncclRedOp_t op, void* out, const ToWide& widen,
               const FromWide& narrow) {
  const auto element = [&](int rank, size_t i) {
    T value;
    std::memcpy(&value, board.seat(rank).slot + i * sizeof(T), sizeof(T));
    return widen(value);
  };
  for (size_t i = 0; i < n; ++i) {
    auto sum = element(0, i);
    for (int r = 1; r < ranks; ++r) sum = combine(sum, element(r, i), op);
    const T value = narrow(sum);
    std::memcpy(static_cast<std::byte*>(out) + i * sizeof(T), &value, sizeof(T));
  }
}

template <class T>
void reduce_plain(Board& board, int ranks, size_t n, ncclRedOp_t op, void* out) {
  const auto same = [](T value) { return value; };
  reduce_as<T>(board, ranks, n, op, out, same, same);
}

void reduce(Board& board, int ranks, size_t n, ncclDataType_t type, ncclRedOp_t op, void* out) {
  switch (type) {
    case ncclInt8:
      return reduce_plain<int8_t>(board, ranks, n, op, out);
    case ncclUint8:
      return reduce_plain<uint8_t>(board, ranks, n, op, out);
    case ncclInt32:
      return reduce_plain<int32_t>(board, ranks, n, op, out);
    case ncclUint32:
      return reduce_plain<uint32_t>(board, ranks, n, op, out);
    case ncclInt64:
      return reduce_plain<int64_t>(board, ranks, n, op, out);
    case ncclUint64:
      return reduce_plain<uint64_t>(board, ranks, n, op, out);
    case ncclFloat32:
      return reduce_plain<float>(board, ranks, n, op, out);
    case ncclFloat64:
      return reduce_plain<double>(board, ranks, n, op, out);
    case ncclFloat16:
      return reduce_as<__half>(
          board, ranks, n, op, out, [](__half h) { return __half2float(h); },
          [](float f) { return __float2half_rn(f); });
    default:
      return reduce_as<__nv_bfloat16>(
          board, ranks, n, op, out, [](__nv_bfloat16 h) { return __bfloat162float(h); },
          [](float f) { return __float2bfloat16_rn(f); });
  }
}

std::string describe(const OpHeader& op) {
  return fmt::format("{} of {} elements, type {}, reduction {}, root {}", collective_name(op.kind), op.count, op.type,
                     op.reduction, op.root);
}

/// The fault that this call has, by the options.
std::optional<NcclFault::Kind> fault_of(const Scheduler& scheduler, int rank) {
  static auto* calls = new std::map<int, int64_t>;  // of each rank that this process plays
  const int64_t call = ++(*calls)[rank];
  const auto& fault = scheduler.options.nccl_fault;
  if (fault && fault->rank == rank && fault->call == call) return fault->kind;
  return std::nullopt;
}

/// A collective on its way. In every phase each rank publishes a part of its data and takes what it needs of all.
class Run {
 public:
  Run(CommunicatorPtr communicator, const CollectiveCall& call, std::optional<NcclFault::Kind> fault)
      : comm_(std::move(communicator)),
        call_(call),
        fault_(fault),
        number_(comm_->issued++),
        size_(type_size(call.type)) {
    header_ = {number_, call.count, call.kind, call.type, call.reduction, call.root};
  }

  Step attempt(Scheduler& scheduler) {
    if (comm_->aborted) return end_aborted();
    if (comm_->completed != number_ || comm_->board->has_failed(number_)) return Step::blocked;
    if (fault_ == NcclFault::Kind::error) comm_->board->fail(comm_->rank, number_);
    if (fault_) return Step::blocked;
    if (!published_) return publish();
    if (!comm_->board->all_published(comm_->phase + 1)) return Step::blocked;
    if (offset_ == 0 && target_ == 0) check_agreement();
    consume();
    published_ = false;
    comm_->board->seat(comm_->rank).consumed.store(++comm_->phase, std::memory_order_release);
    offset_ += part();
    if (offset_ < call_.count) return Step::progress;
    offset_ = 0;
    if (++target_ < targets()) return Step::progress;
    ++comm_->completed;
    ++scheduler.counters.collectives;
    return Step::done;
  }

 private:
  /// Reduce-scatter is one reduction after the other for each rank's share, an exchange one gather.
  int targets() const { return by_target() && call_.count > 0 ? comm_->ranks : 1; }
  bool by_target() const { return call_.kind == Collective::reduce_scatter || call_.kind == Collective::exchange; }
  size_t part() const { return std::min(call_.count - offset_, kSlotBytes / size_); }

  Step publish() {
    if (!comm_->board->all_consumed(comm_->phase)) return Step::blocked;
    Seat& seat = comm_->board->seat(comm_->rank);
    const size_t shares = by_target() ? static_cast<size_t>(target_) * call_.count : 0;
    const bool has_data = call_.kind != Collective::broadcast || call_.root == comm_->rank;
    if (has_data && part() > 0) {
      std::memcpy(seat.slot, static_cast<const std::byte*>(call_.send) + (shares + offset_) * size_, part() * size_);
    }
    seat.op = header_;
    seat.published.store(comm_->phase + 1, std::memory_order_release);
    published_ = true;
    return Step::progress;
  }

  void check_agreement() const {
    for (int r = 0; r < comm_->ranks; ++r) {
      const OpHeader& other = comm_->board->seat(r).op;
      if (other == header_) continue;
      misuse("collective {} of a communicator: rank {} calls {}; rank {} calls {}", number_, comm_->rank,
             describe(header_), r, describe(other));
    }
  }

  void consume() {
    if (part() == 0) return;
    Board& board = *comm_->board;
    std::byte* to = static_cast<std::byte*>(call_.receive) + offset_ * size_;
    switch (call_.kind) {
      case Collective::all_reduce:
        return reduce(board, comm_->ranks, part(), call_.type, call_.reduction, to);
      case Collective::reduce_scatter:
        if (target_ == comm_->rank) reduce(board, comm_->ranks, part(), call_.type, call_.reduction, to);
        return;
      case Collective::broadcast:
        std::memcpy(to, board.seat(call_.root).slot, part() * size_);
        return;
      case Collective::exchange:
        if (target_ != comm_->rank) return;
        [[fallthrough]];
      case Collective::all_gather:
        for (int r = 0; r < comm_->ranks; ++r) {
          std::memcpy(to + static_cast<size_t>(r) * call_.count * size_, board.seat(r).slot, part() * size_);
        }
    }
  }

  /// The stream goes on; the result is nothing that could be used.
  Step end_aborted() {
    const bool gathers = call_.kind == Collective::all_gather || call_.kind == Collective::exchange;
    const size_t shares = gathers ? static_cast<size_t>(comm_->ranks) : 1;
    std::memset(call_.receive, 0xFF, shares * call_.count * size_);
    return Step::done;
  }

  CommunicatorPtr comm_;
  CollectiveCall call_;
  std::optional<NcclFault::Kind> fault_;
  uint64_t number_;
  size_t size_;
  OpHeader header_;
  int target_ = 0;
  size_t offset_ = 0;  // elements
  bool published_ = false;
};

}  // namespace

size_t type_size(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      misuse("the stand-in's NCCL does not know data type {}", static_cast<int>(type));
  }
}

const char* collective_name(Collective kind) {
  switch (kind) {
    case Collective::all_reduce:
      return "ncclAllReduce";
    case Collective::all_gather:
      return "ncclAllGather";
    case Collective::reduce_scatter:
      return "ncclReduceScatter";
    case Collective::broadcast:
      return "ncclBroadcast";
    case Collective::exchange:
      return "ncclSend and ncclRecv";
  }
  return "?";
}

void check_call(const Communicator& communicator, const CollectiveCall& call) {
  const char* name = collective_name(call.kind);
  const size_t bytes = call.count * type_size(call.type), ranks = static_cast<size_t>(communicator.ranks);
  const bool exchanges = call.kind == Collective::exchange;
  const size_t sent = call.kind == Collective::reduce_scatter || exchanges ? ranks * bytes : bytes;
  const size_t received = call.kind == Collective::all_gather || exchanges ? ranks * bytes : bytes;
  if (call.reduction != ncclSum && call.reduction != ncclMax && call.reduction != ncclMin) {
    misuse("{}: the stand-in does not know reduction {}", name, static_cast<int>(call.reduction));
  }
  if (call.root < 0 || call.root >= communicator.ranks) misuse("{} from root {}", name, call.root);
  const bool sends = call.kind != Collective::broadcast || call.root == communicator.rank;
  if (sends && !is_device_memory(call.send, sent))
    misuse("{}: the send buffer is not {} bytes on the device", name, sent);
  if (!is_device_memory(call.receive, received)) {
    misuse("{}: the receive buffer is not {} bytes on the device", name, received);
  }
  for (const void* p : {sends ? call.send : nullptr, static_cast<const void*>(call.receive)}) {
    if (reinterpret_cast<uintptr_t>(p) % type_size(call.type) != 0) misuse("{}: a buffer is not aligned", name);
  }
  // In place, the smaller buffer is the rank's own share of the larger one.
  const auto* send = static_cast<const std::byte*>(call.send);
  const auto* receive = static_cast<const std::byte*>(call.receive);
  const size_t share = static_cast<size_t>(communicator.rank) * bytes;
  const bool in_place = call.kind == Collective::all_gather       ? send == receive + share
                        : call.kind == Collective::reduce_scatter ? receive == send + share
                        : exchanges                               ? false
                                                                  : send == receive;
  if (sends && !in_place && send < receive + received && receive < send + sent) {
    misuse("{}: the buffers overlap, but not as an operation in place has them", name);
  }
}

void issue(Scheduler& scheduler, const CommunicatorPtr& communicator, const CollectiveCall& call) {
  CUstream_st& stream = scheduler.stream(call.stream, collective_name(call.kind));
  if (stream.device != communicator->device) {
    misuse("{}: the stream is of device {}, the communicator of device {}", collective_name(call.kind), stream.device,
           communicator->device);
  }
  scheduler.submit(stream, {collective_name(call.kind), [&scheduler, communicator, call]() -> Attempt {
                              if (communicator->gone)
                                misuse("a graph with a collective of a communicator that is gone");
                              auto run =
                                  std::make_shared<Run>(communicator, call, fault_of(scheduler, communicator->rank));
                              return [run, &scheduler] { return run->attempt(scheduler); };
                            }});
}

}  // namespace plsc::standin
