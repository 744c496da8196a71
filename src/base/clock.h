// Time for people and for rates.
#pragma once
#include <chrono>
#include <string>

namespace plsc {

/// Seconds since construction or the last `restart`, monotonic.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Seconds of the monotonic clock: the same for all processes of a host.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// "4 s", "3:07 min", "2:05:00 h": for ETA and totals.
std::string human_duration(double seconds);
/// "12.3 GiB", "512 B".
std::string human_bytes(double bytes);

}  // namespace plsc
