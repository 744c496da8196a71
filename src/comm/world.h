// All ranks of a run, from this rank's point of view: who there is, how to talk, and how to end together.
// Made in main, before any thread that computes; everything else is given its Collectives.
#pragma once
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/launch_environment.h"
#include "comm/monitor.h"
#include "comm/mpi_collective.h"
#include "comm/mpi_session.h"

namespace plsc {

class World {
 public:
  struct Options {
    double timeout = 600;  // seconds until a collective fails: comm.timeout
    int threads = 0;  // compute threads of a rank: train.threads; 0: the cores divided by the ranks that share them
    LaunchEnvironment environment = read_launch_environment();
  };
  /// Initialises MPI where this process was started by mpirun or srun; one rank otherwise, without MPI.
  /// Throws Error when the starter promises more ranks than there are.
  explicit World(const Options& options);
  /// Without `finish` before it, ends all ranks: one rank alone cannot leave a run.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return place_.rank; }
  int size() const { return place_.size; }
  int local_rank() const { return place_.local_rank; }
  int local_size() const { return place_.local_size; }
  /// The same number on the ranks of one host.
  int node() const { return place_.node; }
  /// Host names by rank.
  const std::vector<std::string>& hosts() const { return hosts_; }
  /// "Open MPI 4.1.4": of the library that this program is linked to, whether or not it is in use.
  std::string mpi_version() const { return mpi_library_version(); }
  /// Compute threads that this rank should use.
  int threads() const { return threads_; }
  /// True where the compute threads of the ranks of this host outnumber its cores.
  bool oversubscribed() const { return oversubscribed_; }
  /// What went wrong without being fatal (a monitor that cannot be reached): for the log.
  const std::vector<std::string>& warnings() const { return warnings_; }

  Collective& device_collective() { return *device_; }  // Context::comm
  Collective& host_collective() { return *host_; }      // Context::host
  /// How waits for other ranks are done, for collectives that are made elsewhere.
  const WaitPolicy& wait_policy() const { return policy_; }

  /// Tells the monitor where this rank is: `phase` is a word such as "backward".
  void note(int64_t step, const char* phase) {
    if (monitor_) monitor_->note(step, phase);
  }

  /// The orderly end: waits for the other ranks, then finalises MPI. Nothing may be communicated after it.
  void finish();
  /// Whether this rank should print `error`, so that a cause is told once. A rank whose error another rank tells waits
  /// here for that rank to end the run, and speaks after all when that does not happen within seconds.
  bool speaks(const std::exception& error) const;
  /// Tells the other ranks why, then ends all of them with `status`.
  [[noreturn]] void abort(int status, const std::string& why) noexcept;

 private:
  void start_monitor(Collective& boot, double timeout);
  void share_cores(Collective& boot, int threads);

  MpiPlace place_;
  bool mpi_ = false, finished_ = false;
  std::vector<std::string> hosts_, warnings_;
  int threads_ = 1;
  bool oversubscribed_ = false;
  WaitPolicy policy_;
  std::unique_ptr<MonitorServer> server_;  // rank 0
  std::unique_ptr<Monitor> monitor_;       // null with one rank
  std::shared_ptr<MpiProgress> progress_;  // null with one rank
  std::unique_ptr<Collective> device_, host_;
};

/// How many of `masks` (core lists, one a rank of this host) share a core with `masks[own]`, itself included.
int ranks_sharing_cores(const std::vector<std::vector<int>>& masks, size_t own);

}  // namespace plsc
