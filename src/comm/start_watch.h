// A time limit for what blocks inside MPI while a run starts.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

namespace plsc {

/// While it lives, the process may take `seconds`; then it says that the ranks do not reach each other and ends with
/// status 1. MPI's first calls block until every rank has answered, which is for ever where the hosts of two ranks are
/// not joined by the network that MPI chose, or where a rank has died. `rank`: as the starter numbers it; rank 0 tells.
class StartWatch {
 public:
  StartWatch(double seconds, int rank);
  ~StartWatch();
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace plsc
