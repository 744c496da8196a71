// One collective over MPI messages: a small state machine that polls drive. Of src/comm/mpi*.cpp alone: it has the
// vendor's types.
#pragma once
#include <mpi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"

namespace plsc::mpi {

inline constexpr int64_t kMaxMessage = int64_t{1} << 30;  // bytes: MPI counts are 32-bit

inline void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  fail("{} failed: {}", call, std::string_view(text.data(), static_cast<size_t>(length)));
}

/// What one collective call knows: who talks, under which tag, and where what it sends is counted.
struct Call {
  MPI_Comm comm;
  int rank, size, tag;
  std::atomic<int64_t>* sent;  // bytes; the progress thread sends as well
};

/// The messages of one stage: large ones go in pieces.
class Messages {
 public:
  explicit Messages(const Call& call) : call_(call) {}

  void send(const void* data, int64_t bytes, int peer, int tag) {
    *call_.sent += bytes;
    for (int64_t at = 0; at < bytes; at += kMaxMessage) {
      check(MPI_Isend(static_cast<const std::byte*>(data) + at, piece(bytes, at), MPI_BYTE, peer, tag, call_.comm,
                      slot()),
            "MPI_Isend");
    }
  }
  void receive(void* data, int64_t bytes, int peer, int tag) {
    for (int64_t at = 0; at < bytes; at += kMaxMessage) {
      check(MPI_Irecv(static_cast<std::byte*>(data) + at, piece(bytes, at), MPI_BYTE, peer, tag, call_.comm, slot()),
            "MPI_Irecv");
    }
  }
  void broadcast(void* data, int64_t bytes, int root) {
    // Along a tree of the library's: each rank but one is sent it once, by whom is not known.
    *call_.sent += bytes * (call_.size - 1) / call_.size;
    for (int64_t at = 0; at < bytes; at += kMaxMessage) {
      check(MPI_Ibcast(static_cast<std::byte*>(data) + at, piece(bytes, at), MPI_BYTE, root, call_.comm, slot()),
            "MPI_Ibcast");
    }
  }
  void barrier() { check(MPI_Ibarrier(call_.comm, slot()), "MPI_Ibarrier"); }

  /// True once all are complete; then it is empty.
  bool test() {
    if (requests_.empty()) return true;
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    if (done != 0) requests_.clear();
    return done != 0;
  }

 private:
  static int piece(int64_t bytes, int64_t at) { return static_cast<int>(std::min(kMaxMessage, bytes - at)); }
  MPI_Request* slot() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

  Call call_;
  std::vector<MPI_Request> requests_;
};

/// One collective under way. Tensors are held, so that their memory outlives the messages.
class Work {
 public:
  explicit Work(const Call& call) : call_(call), messages_(call) {}
  virtual ~Work() = default;
  /// By one thread at a time.
  bool poll() {
    while (!done_ && messages_.test()) {
      if (advance()) continue;
      ended_ = steady_seconds();
      done_ = true;
    }
    return done_;
  }
  /// By any.
  bool done() const { return done_; }
  /// By steady_seconds, where it is done.
  double ended() const { return ended_; }

 protected:
  /// Starts the next stage; false when there is none.
  virtual bool advance() { return false; }

  Call call_;
  Messages messages_;

 private:
  std::atomic<bool> done_ = false;
  double ended_ = 0;
};

}  // namespace plsc::mpi
