// What the ranks of one communicator share: a segment of POSIX shared memory with a seat for each, found by the unique
// id. Its name goes as soon as all are seated, so that nothing stays behind.
#pragma once
#include <nccl.h>

#include <atomic>
#include <string>

#include "standin.h"

namespace plsc::standin {

constexpr int kMostRanks = 16;
constexpr size_t kSlotBytes = 128 << 10;

/// An exchange is what a group of sends and receives, one to and from each rank, is: all ranks' parts change places.
enum class Collective : int32_t { all_reduce, all_gather, reduce_scatter, broadcast, exchange };

/// What all ranks must agree on in a communicator's `number`-th collective.
struct OpHeader {
  uint64_t number = 0, count = 0;
  Collective kind = Collective::all_reduce;
  int32_t type = 0, reduction = 0, root = 0;
  bool operator==(const OpHeader&) const = default;
};

/// One rank's place. Data goes around in phases: everybody publishes a part, everybody takes what it needs of all
/// parts.
struct Seat {
  std::atomic<int> taken;  // by a rank that writes the next two
  std::atomic<int> ready;
  int ranks, device;                // the size that the rank believes in; its physical device
  std::atomic<uint64_t> published;  // phases
  std::atomic<uint64_t> consumed;
  std::atomic<int> finalized;
  OpHeader op;  // of the phase that was published last
  alignas(64) std::byte slot[kSlotBytes];
};

class Board {
 public:
  /// Takes the rank's seat; misuse where it is taken.
  Board(const ncclUniqueId& id, int ranks, int rank, int device);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// Whether every rank is seated.
  bool complete();
  /// Two ranks that play the same device, as a sentence; empty where there are none. Misuse where ranks disagree about
  /// how many they are.
  std::string duplicate_device() const;
  Seat& seat(int rank) { return table_->seats[rank]; }
  /// Whether all ranks' counters have come to `phase`.
  bool all_published(uint64_t phase) const;
  bool all_consumed(uint64_t phase) const;
  bool all_finalized() const;
  /// The rank that has failed, or a negative number.
  int failed_rank() const { return table_->failed.load() - 1; }
  /// From here on the rank has failed: collective `number` and later ones never complete.
  void fail(int rank, uint64_t number) {
    table_->failed_from.store(number);
    table_->failed.store(rank + 1);
  }
  bool has_failed(uint64_t number) const { return failed_rank() >= 0 && number >= table_->failed_from.load(); }

 private:
  struct Table {
    std::atomic<int> failed;  // a rank and 1; the segment begins as zeros
    std::atomic<uint64_t> failed_from;
    Seat seats[kMostRanks];
  };

  template <class Test>
  bool all(const Test& test) const {
    for (int r = 0; r < ranks_; ++r) {
      if (!test(table_->seats[r])) return false;
    }
    return true;
  }

  std::string name_;
  int ranks_;
  bool named_ = true;
  Table* table_ = nullptr;
};

/// A fresh id: a random name.
ncclUniqueId make_unique_id();

}  // namespace plsc::standin
