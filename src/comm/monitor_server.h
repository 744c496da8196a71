// The monitor's server: one small thread on rank 0 that holds the table and tells the others who is gone.
// It never calls MPI, so it works while every rank hangs.
#pragma once
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/monitor_protocol.h"
#include "comm/rank_table.h"

namespace plsc {

class MonitorServer {
 public:
  struct Options {
    int ranks = 1;
    bool loopback_only = true;  // all ranks share this host
    uint64_t token = 0;         // of the run: connections that do not know it are dropped
    std::string loss_file;  // a line for a rank that died is appended here, for the launcher to tell; empty: nowhere
  };
  explicit MonitorServer(const Options& options);
  /// Says goodbye to all that are still connected.
  ~MonitorServer();
  MonitorServer(const MonitorServer&) = delete;
  MonitorServer& operator=(const MonitorServer&) = delete;

  uint16_t port() const { return port_; }

 private:
  struct Client {
    MonitorSocket socket;
    int rank = -1;  // until it says hello
    bool open = true;
  };
  void serve();
  void accept_clients();
  void handle(Client& client, const MonitorMessage& message);
  /// `reported`: the rank itself has told the user.
  void announce_loss(int rank, const std::string& how, bool reported);
  void drop_closed();

  Options options_;
  uint16_t port_ = 0;  // before listener_, whose initialiser sets it
  int listener_ = -1;
  RankTable table_;
  Stopwatch clock_;
  std::vector<Client> clients_;
  bool loss_announced_ = false, speaker_named_ = false;
  std::atomic<bool> stop_{false};
  std::thread thread_;  // last: it uses all of the above
};

/// Appends `line` to the file that the launcher reads after the run; empty path: nothing.
void append_loss(const std::string& path, const std::string& line);

}  // namespace plsc
