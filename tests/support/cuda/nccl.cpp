// NCCL's functions: communicators and their life, groups, errors. Collectives go through shared memory between the
// ranks, which may be processes or threads of one host. As in the real library a communicator that does not block may
// answer ncclInProgress: then the collective is on its stream only after ncclCommGetAsyncError has said ncclSuccess.
#include <nccl.h>

#include <algorithm>
#include <set>

#include "nccl_collective.h"

struct ncclComm {
  plsc::standin::CommunicatorPtr communicator;
};

namespace plsc::standin {
namespace {

std::set<ncclComm_t>& live() {
  static auto* handles = new std::set<ncclComm_t>;
  return *handles;
}

/// A ncclSend or a ncclRecv inside a group.
struct Message {
  CommunicatorPtr communicator;
  void* data = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  int peer = 0;
  cudaStream_t stream = nullptr;
};

struct Group {
  int depth = 0;
  std::vector<std::pair<CommunicatorPtr, CollectiveCall>> calls;
  std::vector<Message> sends, receives;
};
Group& group() {
  thread_local Group open;
  return open;
}

std::string& last_error() {
  thread_local std::string text;
  return text;
}

CommunicatorPtr existing(ncclComm_t handle, const char* call) {
  if (!live().contains(handle)) misuse("{} with a communicator that does not exist (any more)", call);
  return handle->communicator;
}

/// Where a start stands; all ranks find the same.
ncclResult_t start_state(Communicator& c) {
  if (c.ready || c.failure != ncclSuccess) return c.failure;
  if (!c.board->complete()) return ncclInProgress;
  last_error() = c.board->duplicate_device();
  if (last_error().empty()) {
    c.ready = true;
  } else {
    c.failure = ncclInvalidUsage;
  }
  return c.failure;
}

ncclResult_t state_of(Scheduler& scheduler, const CommunicatorPtr& c) {
  const ncclResult_t start = start_state(*c);
  if (start != ncclSuccess) return start;
  if (const int failed = c->board->failed_rank(); failed >= 0) {
    last_error() = fmt::format("rank {} has failed", failed);
    return failed == c->rank ? ncclSystemError : ncclRemoteError;
  }
  if (!c->delayed.empty()) {
    if (c->polls_left > 0) {
      --c->polls_left;
      return ncclInProgress;
    }
    for (const CollectiveCall& call : c->delayed) issue(scheduler, c, call);
    c->delayed.clear();
  }
  if (c->finalizing && c->completed == c->issued) c->board->seat(c->rank).finalized.store(1);
  return c->finalizing && !c->board->all_finalized() ? ncclInProgress : ncclSuccess;
}

/// Runs queued work until the communicator's state is settled.
ncclResult_t settle(Scheduler& scheduler, Scheduler::Lock& lock, const CommunicatorPtr& c) {
  int failures = 0;
  for (;;) {
    const ncclResult_t state = state_of(scheduler, c);
    if (state != ncclInProgress) return state;
    scheduler.help(lock, failures);
  }
}

ncclResult_t start_communicator(ncclComm_t* handle, int ranks, const ncclUniqueId& id, int rank, bool blocking) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  *handle = nullptr;
  if (ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  if (group().depth > 0) misuse("the stand-in does not know communicators that start inside a group");
  const auto devices = visible_devices(scheduler.options);
  if (devices.empty()) return ncclUnhandledCudaError;
  auto c = std::make_shared<Communicator>();
  c->rank = rank;
  c->ranks = ranks;
  c->device = current_device();
  c->blocking = blocking;
  c->board = std::make_unique<Board>(id, ranks, rank, devices.at(static_cast<size_t>(c->device)));
  if (blocking) {
    const ncclResult_t state = settle(scheduler, lock, c);
    if (state != ncclSuccess) return state;
  }
  *handle = new ncclComm{c};
  live().insert(*handle);
  return blocking ? ncclSuccess : ncclInProgress;
}

/// Puts calls on their streams; on communicators that do not block sometimes later.
ncclResult_t give(Scheduler& scheduler, const std::vector<std::pair<CommunicatorPtr, CollectiveCall>>& calls) {
  std::set<Communicator*> late;
  for (const auto& [c, call] : calls) {
    if (!c->blocking && scheduler.below(4) == 0) late.insert(c.get());
  }
  for (const auto& [c, call] : calls) {
    if (!late.contains(c.get())) {
      issue(scheduler, c, call);
      continue;
    }
    c->polls_left = scheduler.below(3);
    c->delayed.push_back(call);
  }
  return late.empty() ? ncclSuccess : ncclInProgress;
}

/// The communicator, where it takes calls now.
CommunicatorPtr open_communicator(ncclComm_t handle, const char* name) {
  const auto c = existing(handle, name);
  if (!c->ready) start_state(*c);
  if (!c->ready) misuse("{} before the communicator's start was complete", name);
  if (!c->delayed.empty()) misuse("{} while the call before it is still ncclInProgress", name);
  if (c->finalizing) misuse("{} after ncclCommFinalize", name);
  return c;
}

ncclResult_t collective(ncclComm_t handle, const CollectiveCall& call) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  const char* name = collective_name(call.kind);
  const auto c = open_communicator(handle, name);
  check_call(*c, call);
  scheduler.stream(call.stream, name);
  if (group().depth == 0) return give(scheduler, {{c, call}});
  for (const auto& [other, before] : group().calls) {
    if (other == c && before.stream != call.stream) misuse("{}: a group with two streams of one communicator", name);
  }
  group().calls.emplace_back(c, call);
  return ncclSuccess;
}

ncclResult_t message(std::vector<Message>& messages, ncclComm_t handle, Message message, const char* name) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  message.communicator = open_communicator(handle, name);
  if (group().depth == 0) misuse("{} outside a group, which the stand-in does not know", name);
  if (message.peer < 0 || message.peer >= message.communicator->ranks) misuse("{}: rank {}", name, message.peer);
  scheduler.stream(message.stream, name);
  messages.push_back(message);
  return ncclSuccess;
}

/// The group's sends and receives as one call: all that the stand-in knows is one of equal size to and from each rank,
/// in their order, which lie one behind the other.
void join_messages(Group& g) {
  if (g.sends.empty() && g.receives.empty()) return;
  const Message first = g.sends.empty() ? g.receives.front() : g.sends.front();
  const auto ranks = static_cast<size_t>(first.communicator->ranks);
  if (g.sends.size() != ranks || g.receives.size() != ranks)
    misuse("a group with {} sends and {} receives among {} ranks", g.sends.size(), g.receives.size(), ranks);
  for (const auto* messages : {&g.sends, &g.receives}) {
    for (size_t r = 0; r < ranks; ++r) {
      const Message& m = (*messages)[r];
      const auto* expected = static_cast<const std::byte*>(messages->front().data) + r * m.count * type_size(m.type);
      if (m.communicator != first.communicator || m.count != first.count || m.type != first.type ||
          m.stream != first.stream || m.peer != static_cast<int>(r) || m.data != expected)
        misuse("a group whose messages are no exchange of equal parts in the order of ranks");
    }
  }
  CollectiveCall call{Collective::exchange, g.sends.front().data, g.receives.front().data, first.count, first.type};
  call.stream = first.stream;
  check_call(*first.communicator, call);
  g.calls.emplace_back(first.communicator, call);
  g.sends.clear();
  g.receives.clear();
}

void forget(ncclComm_t handle) {
  handle->communicator->gone = true;
  live().erase(handle);
  delete handle;
}

}  // namespace
}  // namespace plsc::standin

using namespace plsc::standin;

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = make_unique_id();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  return start_communicator(comm, ranks, id, rank, true);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const ncclConfig_t initial = NCCL_CONFIG_INITIALIZER;
  if (config != nullptr && config->magic != initial.magic) misuse("a ncclConfig_t without NCCL_CONFIG_INITIALIZER");
  return start_communicator(comm, ranks, id, rank, config == nullptr || config->blocking != 0);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  const auto c = existing(comm, "ncclCommGetAsyncError");
  scheduler.run_some();
  *error = state_of(scheduler, c);
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  const auto c = existing(comm, "ncclCommFinalize");
  if (!c->delayed.empty()) misuse("ncclCommFinalize while the call before it is still ncclInProgress");
  c->finalizing = true;
  return c->blocking ? settle(scheduler, lock, c) : ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  Scheduler& scheduler = Scheduler::instance();
  auto lock = scheduler.enter();
  const auto c = existing(comm, "ncclCommDestroy");
  if (start_state(*c) != ncclSuccess)
    misuse("ncclCommDestroy of a communicator that never started; ncclCommAbort ends it");
  int failures = 0;
  while (!c->delayed.empty() || c->completed != c->issued) {
    state_of(scheduler, c);
    scheduler.help(lock, failures);
  }
  c->board->seat(c->rank).finalized.store(1);
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const auto lock = Scheduler::instance().enter();
  const auto c = existing(comm, "ncclCommAbort");
  c->aborted = true;
  c->delayed.clear();
  forget(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  const auto lock = Scheduler::instance().enter();
  *count = existing(comm, "ncclCommCount")->ranks;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  const auto lock = Scheduler::instance().enter();
  *rank = existing(comm, "ncclCommUserRank")->rank;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  const auto lock = Scheduler::instance().enter();
  *device = existing(comm, "ncclCommCuDevice")->device;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {Collective::all_reduce, send, receive, count, type, op, 0, stream});
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return collective(comm, {Collective::all_gather, send, receive, count, type, ncclSum, 0, stream});
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {Collective::reduce_scatter, send, receive, count, type, op, 0, stream});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective(comm, {Collective::broadcast, send, receive, count, type, ncclSum, root, stream});
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return message(group().sends, comm, {nullptr, const_cast<void*>(data), count, type, peer, stream}, "ncclSend");
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return message(group().receives, comm, {nullptr, data, count, type, peer, stream}, "ncclRecv");
}

ncclResult_t ncclGroupStart() {
  ++group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  if (group().depth == 0) misuse("ncclGroupEnd without ncclGroupStart");
  if (--group().depth > 0) return ncclSuccess;
  join_messages(group());
  const auto calls = std::exchange(group().calls, {});
  return give(scheduler, calls);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) { return last_error().c_str(); }
