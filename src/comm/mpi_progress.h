// Moves what is under way over MPI while this rank computes. MPI itself moves messages only while somebody calls it:
// the second half of an all-reduce, and every large message, waits for both ends to do so. A thread that looks in now
// and then does it for a training step, whose own thread is in a convolution for many milliseconds; it costs some
// microseconds each time, and rests while nothing is under way.
#pragma once
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/mpi_work.h"

namespace plsc {

/// Shared by the collectives of a process. All calls of MPI between its start and its end are made under its lock, or
/// while nothing is under way: MPI_THREAD_SERIALIZED is enough.
class MpiProgress {
 public:
  MpiProgress();
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;
  MpiProgress& operator=(const MpiProgress&) = delete;

  using Lock = std::unique_lock<std::timed_mutex>;
  /// To call MPI under.
  Lock lock() { return Lock(mutex_); }
  /// The lock is held. Takes the work up: from now on anybody's poll advances it, because ranks may wait for their
  /// requests in different orders: what one rank is not asking for yet, another may be waiting for.
  void add(mpi::Work* work);
  /// The work is done with, or given up: nobody polls it any more.
  void remove(mpi::Work* work);
  /// Advances all that is under way, unless the thread is just doing so; true once `work` is done. Throws what MPI or a
  /// reduction has thrown, here or in the thread: then all is lost, and every later call throws it again.
  bool poll(const mpi::Work* work);
  /// Ends the thread: before MPI is finalised or aborted, which must not meet another call of it. From then on things
  /// move when they are polled. Gives up after a second on a thread that does not come out of MPI.
  void stop() noexcept;

 private:
  void run();
  void poll_all();

  std::timed_mutex mutex_;  // guards what follows, and MPI
  std::condition_variable_any changed_;
  std::vector<mpi::Work*> works_;
  std::exception_ptr error_;
  bool stop_ = false, ended_ = false;
  std::thread thread_;
};

}  // namespace plsc
