#include "app/doctor/watchdog.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace plsc::doctor {

Watchdog::Watchdog(double seconds, std::string who) : seconds_(seconds), who_(std::move(who)) {
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::begin(const std::string& part) {
  {
    const std::lock_guard lock(mutex_);
    part_ = part;
    ++parts_;
  }
  changed_.notify_all();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ended_) {
    const int current = parts_;
    const auto other = [&] { return ended_ || parts_ != current; };
    if (changed_.wait_for(lock, std::chrono::duration<double>(seconds_), other)) continue;
    fmt::print(stderr, "plsc-train: {}: {} has not ended after {:.0f} s: what it asked does not answer\n", who_, part_,
               seconds_);
    std::fflush(stderr);
    ::_exit(1);
  }
}

}  // namespace plsc::doctor
