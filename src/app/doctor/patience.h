// Probes that may hang (a file system that does not answer, a driver): each runs on a thread of its own, and is waited
// for only so long.
#pragma once
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"

namespace plsc::doctor {

/// What became of a probe: a value, or an error, or it is late.
template <class T>
struct Attempt {
  std::optional<T> value;
  std::string error;
  bool late = false;
};

class Patience {
 public:
  /// `stage`: seconds for all probes between two meetings of the ranks, so that no rank waits long for another.
  explicit Patience(double stage) : stage_(stage) {}

  void begin_stage() { watch_.restart(); }
  double left() const { return std::max(0.0, stage_ - watch_.seconds()); }

  /// Runs `work` for at most `seconds`, and at most what is left of the stage (but for a second at least). It must own
  /// what it uses: it goes on when it is late, until the process ends.
  template <class T>
  Attempt<T> attempt(double seconds, std::function<T()> work) {
    struct Shared {
      std::mutex mutex;
      std::condition_variable done;
      std::optional<Attempt<T>> result;
    };
    const auto shared = std::make_shared<Shared>();
    std::thread([shared, work = std::move(work)] {
      Attempt<T> result;
      try {
        result.value = work();
      } catch (const std::exception& error) {
        result.error = error.what();
      }
      const std::lock_guard lock(shared->mutex);
      shared->result = std::move(result);
      shared->done.notify_all();
    }).detach();
    std::unique_lock lock(shared->mutex);
    const std::chrono::duration<double> most(std::max(1.0, std::min(seconds, left())));
    if (shared->done.wait_for(lock, most, [&] { return shared->result.has_value(); }))
      return std::move(*shared->result);
    ++abandoned_;
    Attempt<T> late;
    late.late = true;
    return late;
  }

  /// Probes that are still running. They may use anything: the process must then end without tidying up.
  int abandoned() const { return abandoned_; }

 private:
  double stage_;
  Stopwatch watch_;
  int abandoned_ = 0;
};

}  // namespace plsc::doctor
