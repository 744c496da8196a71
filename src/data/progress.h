// Progress of a long piece of work on the data: a live line with a rate and the time that is left.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/log.h"

namespace plsc {

/// Thread-safe. Shows nothing before `quiet_seconds`, so that short work stays silent.
class Progress {
 public:
  enum class Unit { items, bytes };
  /// `log` null: counts only. `what`: "scanning train.rec".
  Progress(Log* log, std::string what, int64_t total, Unit unit = Unit::items, double quiet_seconds = 2);
  /// Clears up the line where one was shown.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(int64_t n = 1);
  void set(int64_t done);

 private:
  void show(bool last);
  std::string text(int64_t done, double seconds) const;

  Log* log_;
  std::string what_;
  int64_t total_;
  Unit unit_;
  Stopwatch clock_;
  std::atomic<int64_t> done_{0};
  std::atomic<double> next_;
  std::mutex mutex_;
  bool shown_ = false;
};

}  // namespace plsc
