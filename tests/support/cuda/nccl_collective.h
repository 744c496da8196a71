// One collective of the stand-in's NCCL as work on a stream, and the communicator that it belongs to.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nccl_board.h"
#include "scheduler.h"

namespace plsc::standin {

/// A collective as its caller gave it. `count` is as in NCCL: elements of the smaller buffer.
struct CollectiveCall {
  Collective kind = Collective::all_reduce;
  const void* send = nullptr;
  void* receive = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;
  cudaStream_t stream = nullptr;
};

/// Everything here is under the scheduler's lock.
struct Communicator {
  std::unique_ptr<Board> board;
  int rank = 0, ranks = 0, device = 0;
  bool blocking = true;
  bool ready = false;                  // all ranks are there
  ncclResult_t failure = ncclSuccess;  // of the start
  bool aborted = false;                // what is pending ends without a result
  bool gone = false;                   // destroyed or aborted: its handle is no more
  bool finalizing = false;
  uint64_t issued = 0, completed = 0;   // collectives; they run in the order of their issue, on whatever streams
  uint64_t phase = 0;                   // of the board
  std::vector<CollectiveCall> delayed;  // the call returned ncclInProgress: goes to its stream at a later poll
  uint64_t polls_left = 0;              // until then
};
using CommunicatorPtr = std::shared_ptr<Communicator>;

/// Bytes of an element; misuse for types that the stand-in does not know.
size_t type_size(ncclDataType_t type);
/// Misuse where the call breaks a rule that one rank alone can see.
void check_call(const Communicator& communicator, const CollectiveCall& call);
/// Puts it on its stream.
void issue(Scheduler& scheduler, const CommunicatorPtr& communicator, const CollectiveCall& call);

const char* collective_name(Collective kind);

}  // namespace plsc::standin
