// Streams, events and the one place where queued work runs. Host calls only queue. Work runs when the host waits or
// polls, one piece at a time, from a stream whose next piece may run; which one is random under the seed, and so is how
// much more runs than was needed. Where the host makes no CUDA call for some milliseconds (it may wait for another
// rank, which waits for this one's work), a thread of the stand-in runs what is ready. Everything is under one mutex.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "standin.h"

namespace plsc::standin {

using Clock = std::chrono::steady_clock;
struct Capture;

/// What one attempt at a piece of work came to: complete, or further than before, or waiting for somebody else.
enum class Step { done, progress, blocked };
using Attempt = std::function<Step()>;

/// A point in a stream: reached once everything queued before it has run.
struct Mark {
  cudaStream_t stream = nullptr;
  bool reached = false;
  Clock::time_point time;
};
using MarkPtr = std::shared_ptr<Mark>;

/// A piece of work as a host call gives it. `make` yields what runs: called at once, or, in a capture, at every launch
/// of the graph (under the lock in both cases).
struct Work {
  std::string name;
  std::function<Attempt()> make;
};
/// Work that is complete after one attempt.
Work simple_work(std::string name, std::function<void()> run);

struct Item {
  std::string name;
  Attempt attempt;
  MarkPtr awaits;  // not before this is reached
};

}  // namespace plsc::standin

struct CUstream_st {
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  int number = 0;  // for messages
  bool destroyed = false;
  uint64_t turn = 0;  // the ready stream with the highest one runs next
  std::deque<plsc::standin::Item> items;
  std::shared_ptr<plsc::standin::Capture> capture;  // while work goes to a graph
  std::set<size_t> capture_tail;                    // the graph's nodes that the next one follows
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  plsc::standin::MarkPtr mark;                      // of the last record; none before the first
  std::shared_ptr<plsc::standin::Capture> capture;  // recorded inside a capture: after these nodes
  std::set<size_t> capture_tail;
};

namespace plsc::standin {

/// A mutex that is opened with device memory closed again.
class DeviceMutex {
 public:
  void lock() { mutex_.lock(); }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock();
  void protect(bool on) { protect_ = on; }

 private:
  std::mutex mutex_;
  bool protect_ = true;
};

class Scheduler {
 public:
  /// The process's one. Never destroyed, since other static objects may still call CUDA when they are.
  static Scheduler& instance();

  /// A host call holds this for its whole length. Refuses calls from queued work and from a forked child.
  using Lock = std::unique_lock<DeviceMutex>;
  Lock enter();
  Options options;    // under the lock
  Counters counters;  // under the lock

  cudaStream_t add_stream(int device, unsigned flags, int priority);
  void destroy_stream(cudaStream_t stream);
  cudaEvent_t add_event(int device, unsigned flags);
  void destroy_event(cudaEvent_t event);
  /// The handles as objects; misuse where they are null, a default stream or destroyed. `call` is for the message.
  CUstream_st& stream(cudaStream_t handle, const char* call);
  CUevent_st& event(cudaEvent_t handle, const char* call);
  /// The stream of calls that have none (cudaMemcpy, cudaMemset). Streams made without cudaStreamNonBlocking wait for
  /// it and it for them; others do not.
  CUstream_st& legacy_stream(int device);
  std::vector<cudaStream_t> streams_of(int device) const;
  std::vector<cudaStream_t> all_streams() const;

  /// Queues work, or adds it to the graph where the stream is captured.
  void submit(CUstream_st& stream, Work work);
  /// Queues an item as it is (never captured).
  void push(CUstream_st& stream, Item item);
  MarkPtr mark(CUstream_st& stream);
  void await(CUstream_st& stream, MarkPtr mark);

  /// Runs until the mark is reached, then perhaps more. The lock is open while only other ranks can help.
  void run_until(Lock& lock, const Mark& mark);
  /// Runs until everything that the device's streams hold now has run.
  void drain(Lock& lock, int device);
  /// Runs a random amount, perhaps nothing.
  void run_some();
  /// For host calls that wait for other ranks: runs a piece of work, or opens the lock for a moment where nothing can
  /// run. `failures` begins as 0.
  void help(Lock& lock, int& failures);
  /// Random choices for other parts, under the lock: a number in [0, n).
  uint64_t below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  /// After a change of the options.
  void take_options();
  /// Ends the thread. Nothing runs by itself any more.
  void stop();
  /// The captures that are going on.
  std::vector<Capture*> captures() const;

 private:
  Scheduler();
  void background();
  void resume();
  Step run_any();
  Step run_towards(const Mark& mark);
  Step run_head(CUstream_st& stream);
  void pause(Lock& lock, int& failures);
  std::string heads() const;
  bool has_work() const;

  DeviceMutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::unique_ptr<CUstream_st>> streams_;
  std::vector<CUstream_st*> legacy_;
  std::set<cudaEvent_t> events_;
  std::mt19937_64 random_;
  Clock::time_point last_call_;
  std::thread thread_;
  std::atomic<std::thread::id> runs_work_;  // the thread that is inside a piece of work
  std::exception_ptr failure_;              // of work that ran by itself: for the next host call
  bool stop_ = false;
  bool asleep_ = false;  // the thread, because there is nothing to run
  int streams_made_ = 0;
  int process_ = 0;
};

/// At the process's exit: ends the thread, checks and reports.
void say_goodbye();

/// The calling thread's current device, and the last error that it was told.
int current_device();
/// Keeps an error for cudaGetLastError and returns it.
cudaError_t told(cudaError_t status);
/// Which physical device the process's device `device` is, and how many there are (CUDA_VISIBLE_DEVICES).
std::vector<int> visible_devices(const Options& options);

}  // namespace plsc::standin
