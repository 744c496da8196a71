// What ends the process when a part of the doctor hangs where nothing else could end it: in a driver, on one rank.
#pragma once
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace plsc::doctor {

class Watchdog {
 public:
  /// `seconds`: more than every orderly wait takes. `who` begins what it says: "rank 2 (host n3)".
  Watchdog(double seconds, std::string who);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Another part begins: it has the whole time.
  void begin(const std::string& part);

 private:
  void watch();

  double seconds_;
  std::string who_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::string part_;
  int parts_ = 0;
  bool ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace plsc::doctor
