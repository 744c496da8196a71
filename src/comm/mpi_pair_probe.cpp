// A message there and back, until the leader says that it was the last: its first byte tells.
#include <mpi.h>

#include <vector>

#include "base/clock.h"
#include "comm/pair_probe.h"

namespace plsc {
namespace {

constexpr int kTag = 1;
constexpr int kSmall = 8, kLarge = 4 << 20;  // bytes
constexpr double kSmallShare = 0.2;          // of the time
constexpr char kMore = 1, kLast = 0;

void check(int status, const char* call) {
  if (status != MPI_SUCCESS) fail("{} failed between two ranks", call);
}

class OneMessage final : public Request {
 public:
  MPI_Request* slot() { return &request_; }
  bool poll() override {
    int done = 0;
    check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  }

 private:
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiPairProbe final : public PairProbe {
 public:
  explicit MpiPairProbe(const WaitPolicy& policy) : policy_(policy), buffer_(kLarge) {
    policy_.common = false;  // other pairs have other waits
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  // The communicator is left to MPI_Finalize: freeing it is a collective call, which an error must not make.

  PairRate measure(int peer, bool leads, double seconds) override {
    if (!leads) {
      echo(peer, kSmall);
      echo(peer, kLarge);
      return {};
    }
    PairRate rate;
    rate.seconds = lead(peer, kSmall, seconds * kSmallShare) / 2;
    rate.bytes_per_second = 2.0 * kLarge / lead(peer, kLarge, seconds * (1 - kSmallShare));
    return rate;
  }

 private:
  /// Seconds of a message there and back: the mean, without the first, which connects the ranks.
  double lead(int peer, int bytes, double seconds) {
    buffer_[0] = kMore;
    turn(peer, bytes);
    int64_t done = 0;
    const Stopwatch watch;
    for (bool last = false; !last; ++done) {
      last = watch.seconds() >= seconds;
      buffer_[0] = last ? kLast : kMore;
      turn(peer, bytes);
    }
    return watch.seconds() / static_cast<double>(done);
  }
  void turn(int peer, int bytes) {
    send(peer, bytes);
    receive(peer, bytes);
  }
  void echo(int peer, int bytes) {
    do {
      receive(peer, bytes);
      send(peer, bytes);
    } while (buffer_[0] != kLast);
  }
  void send(int peer, int bytes) {
    OneMessage message;
    check(MPI_Isend(buffer_.data(), bytes, MPI_BYTE, peer, kTag, comm_, message.slot()), "MPI_Isend");
    wait_for(message, fmt::format("a message to rank {}", peer), policy_);
  }
  void receive(int peer, int bytes) {
    OneMessage message;
    check(MPI_Irecv(buffer_.data(), bytes, MPI_BYTE, peer, kTag, comm_, message.slot()), "MPI_Irecv");
    wait_for(message, fmt::format("a message of rank {}", peer), policy_);
  }

  WaitPolicy policy_;
  std::vector<char> buffer_;
  MPI_Comm comm_ = MPI_COMM_NULL;
};

}  // namespace

std::unique_ptr<PairProbe> make_pair_probe(const WaitPolicy& policy) { return std::make_unique<MpiPairProbe>(policy); }

}  // namespace plsc
