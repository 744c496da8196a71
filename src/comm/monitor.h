// The monitor: every rank says about once a second, outside MPI, how far it is. So a hung rank can be named, and a dead
// one is noticed within a second. Publishing costs a store under a lock that nobody contends for.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/monitor_server.h"
#include "comm/wait.h"

namespace plsc {

class Monitor final : public WaitWatch {
 public:
  struct Options {
    int rank = 0;
    std::vector<std::string> addresses;  // of rank 0's host
    uint16_t port = 0;
    uint64_t token = 0;
    std::string rank0;      // "rank 0 (host a, pid 70)": when its end is what is noticed
    double beat = 1;        // seconds between heartbeats
    std::string loss_file;  // as in MonitorServer::Options
  };
  /// Connects and starts the heartbeat. Throws Error when rank 0's server cannot be reached.
  explicit Monitor(const Options& options);
  /// Ends as if by goodbye().
  ~Monitor() override;
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Where this rank is now: `phase` is a word such as "backward".
  void note(int64_t step, const char* phase);
  bool peer_lost() const { return lost_.load(); }

  void begin_wait(const std::string& what) override;
  void end_wait() noexcept override;
  void withdraw_wait() noexcept override;
  void check_peers() override;
  MissingReport missing() override;

  /// Tells the others that this rank ends because of `error`, which it prints itself.
  void failed(const std::string& error) noexcept;
  /// Ends in order: the others do not take it for a loss.
  void goodbye() noexcept;

 private:
  void run();
  bool exchange(bool beat);
  void handle(const MonitorMessage& message);
  void lose(const std::string& text, Voice voice);
  MonitorMessage message(MonitorKind kind);
  void stop(MonitorKind last_word, const std::string& text) noexcept;
  void wake() const;

  const Options options_;
  std::optional<MonitorSocket> socket_;  // the thread's alone while it runs
  int wake_[2] = {-1, -1};               // a pipe that ends the thread's sleep

  std::mutex mutex_;  // guards what follows
  RankState state_;
  const std::string* waiting_ = nullptr;
  std::optional<MissingReport> report_;
  std::string lost_text_;
  Voice lost_voice_ = Voice::silent;
  RankState rank0_state_;

  std::atomic<bool> lost_{false}, stop_{false}, query_{false};
  bool server_ended_ = false;  // in order
  std::thread thread_;
};

}  // namespace plsc
