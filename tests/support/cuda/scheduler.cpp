#include "scheduler.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "graph.h"
#include "memory.h"
#include "runtime.h"

namespace plsc::standin {
namespace {

constexpr auto kPause = std::chrono::microseconds(50);
constexpr int kPausesUntilReport = 60000;  // half a minute and more

}  // namespace

Work simple_work(std::string name, std::function<void()> run) {
  return {std::move(name), [run = std::move(run)]() -> Attempt {
            return [run] {
              run();
              return Step::done;
            };
          }};
}

Scheduler& Scheduler::instance() {
  static auto* scheduler = new Scheduler;
  return *scheduler;
}

Scheduler::Scheduler() : options(options_from_environment()), last_call_(Clock::now()), process_(getpid()) {
  take_options();
  std::atexit([] {
    if (getpid() == instance().process_) say_goodbye();  // not in a child that never used CUDA
  });
}

std::vector<Capture*> Scheduler::captures() const {
  std::vector<Capture*> found;
  for (const auto& s : streams_) {
    if (s->capture && s->capture->origin == s.get()) found.push_back(s->capture.get());
  }
  return found;
}

Scheduler::Lock Scheduler::enter() {
  if (getpid() != process_) misuse("CUDA was used before fork(): the child cannot use it");
  Lock lock(mutex_, std::defer_lock);
  // Queued work holds the mutex, so a call from inside it would wait for itself.
  if (!mutex_.try_lock()) {
    if (runs_work_ == std::this_thread::get_id()) misuse("a CUDA call from inside queued work or a host function");
    mutex_.lock();
  }
  lock = Lock(mutex_, std::adopt_lock);
  resume();
  return lock;
}

/// A host call has the lock: work that runs by itself waits, and what it threw is told.
void Scheduler::resume() {
  last_call_ = Clock::now();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Scheduler::take_options() {
  random_.seed(options.seed);
  mutex_.protect(options.protect);
}

void DeviceMutex::unlock() {
  open_device_memory(!protect_);
  mutex_.unlock();
}

cudaStream_t Scheduler::add_stream(int device, unsigned flags, int priority) {
  auto stream = std::make_unique<CUstream_st>();
  stream->device = device;
  stream->flags = flags;
  stream->priority = priority;
  stream->number = ++streams_made_;
  stream->turn = random_();
  streams_.push_back(std::move(stream));
  return streams_.back().get();
}

CUstream_st& Scheduler::legacy_stream(int device) {
  for (CUstream_st* stream : legacy_) {
    if (stream->device == device) return *stream;
  }
  legacy_.push_back(add_stream(device, cudaStreamNonBlocking, 0));
  return *legacy_.back();
}

void Scheduler::destroy_stream(cudaStream_t handle) {
  CUstream_st& doomed = stream(handle, "cudaStreamDestroy");
  if (doomed.capture) misuse("cudaStreamDestroy of stream {}, which is being captured", doomed.number);
  doomed.destroyed = true;  // what it was given still runs; run_head() takes it away
  if (doomed.items.empty()) std::erase_if(streams_, [&](const auto& s) { return s.get() == handle; });
}

CUstream_st& Scheduler::stream(cudaStream_t handle, const char* call) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    misuse("{} on the default stream: work belongs on streams of one's own", call);
  }
  for (const auto& s : streams_) {
    if (s.get() == handle && !s->destroyed) return *s;
  }
  misuse("{} on a stream that does not exist (any more)", call);
}

std::vector<cudaStream_t> Scheduler::all_streams() const {
  std::vector<cudaStream_t> found;
  for (const auto& s : streams_) found.push_back(s.get());
  return found;
}

std::vector<cudaStream_t> Scheduler::streams_of(int device) const {
  std::vector<cudaStream_t> found = all_streams();
  std::erase_if(found, [&](cudaStream_t s) { return s->device != device; });
  return found;
}

cudaEvent_t Scheduler::add_event(int device, unsigned flags) {
  auto* made = new CUevent_st;
  made->device = device;
  made->flags = flags;
  events_.insert(made);
  return made;
}

void Scheduler::destroy_event(cudaEvent_t handle) {
  event(handle, "cudaEventDestroy");
  events_.erase(handle);
  delete handle;
}

CUevent_st& Scheduler::event(cudaEvent_t handle, const char* call) {
  if (!events_.contains(handle)) misuse("{} on an event that does not exist (any more)", call);
  return *handle;
}

void Scheduler::push(CUstream_st& stream, Item item) {
  stream.items.push_back(std::move(item));
  if (!thread_.joinable() && !stop_ && options.idle_ms >= 0) thread_ = std::thread([this] { background(); });
  if (asleep_) changed_.notify_all();
}

void Scheduler::submit(CUstream_st& stream, Work work) {
  if (stream.capture) {
    add_node(stream, std::move(work));
    return;
  }
  // The order that blocking streams and the legacy stream have between them.
  if ((stream.flags & cudaStreamNonBlocking) == 0) {
    CUstream_st& legacy = legacy_stream(stream.device);
    if (!legacy.items.empty()) await(stream, mark(legacy));
  }
  Attempt attempt = work.make();
  push(stream, {std::move(work.name), std::move(attempt), nullptr});
}

MarkPtr Scheduler::mark(CUstream_st& stream) {
  auto mark = std::make_shared<Mark>();
  mark->stream = &stream;
  if (stream.items.empty()) {
    mark->reached = true;
    mark->time = Clock::now();
    return mark;
  }
  push(stream, {"a record of an event",
                [mark] {
                  mark->reached = true;
                  mark->time = Clock::now();
                  return Step::done;
                },
                nullptr});
  return mark;
}

void Scheduler::await(CUstream_st& stream, MarkPtr mark) {
  if (mark->reached) return;
  push(stream, {"a wait for an event", [] { return Step::done; }, std::move(mark)});
}

Step Scheduler::run_head(CUstream_st& stream) {
  if (stream.items.empty()) return Step::blocked;
  Item& item = stream.items.front();
  if (item.awaits && !item.awaits->reached) return Step::blocked;
  Step step = Step::done;
  open_device_memory(true);
  runs_work_ = std::this_thread::get_id();
  try {
    step = item.attempt();
    if (options.check_guards && step != Step::blocked) check_guards(item.name);
  } catch (...) {
    runs_work_ = std::thread::id();
    stream.items.pop_front();
    throw;
  }
  runs_work_ = std::thread::id();
  if (step != Step::done) return step;
  stream.items.pop_front();
  if (stream.items.empty() && stream.destroyed) {
    std::erase_if(streams_, [&](const auto& s) { return s.get() == &stream; });
  }
  return step;
}

/// Streams take turns by random ranks that change now and then, so that one stream may run far ahead of all others:
/// that finds more missing waits than a new choice for each piece of work.
Step Scheduler::run_any() {
  if (below(8) == 0) {
    for (const auto& s : streams_) s->turn = random_();
  }
  std::vector<CUstream_st*> order;
  for (const auto& s : streams_) {
    if (!s->items.empty()) order.push_back(s.get());
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->turn > b->turn; });
  for (CUstream_st* s : order) {
    const Step step = run_head(*s);
    if (step != Step::blocked) return step;
  }
  return Step::blocked;
}

/// Only what the mark needs: the head of its stream, or of the stream that the head waits for, and so on. A mark can
/// only wait for older ones, so this ends.
Step Scheduler::run_towards(const Mark& mark) {
  const Mark* goal = &mark;
  while (!goal->stream->items.empty()) {
    const Item& head = goal->stream->items.front();
    if (!head.awaits || head.awaits->reached) return run_head(*goal->stream);
    goal = head.awaits.get();
  }
  return Step::blocked;
}

void Scheduler::run_until(Lock& lock, const Mark& mark) {
  const bool only_needed = below(2) == 0;
  int failures = 0;
  while (!mark.reached) {
    if (!only_needed || failures > 0 || run_towards(mark) == Step::blocked) help(lock, failures);
  }
  run_some();
}

void Scheduler::drain(Lock& lock, int device) {
  std::vector<MarkPtr> ends;
  for (cudaStream_t s : streams_of(device)) ends.push_back(mark(*s));
  for (const MarkPtr& end : ends) run_until(lock, *end);
}

void Scheduler::run_some() {
  const uint64_t most = below(3) == 0 ? 0 : below(16);
  for (uint64_t i = 0; i < most; ++i) {
    if (run_any() == Step::blocked) return;
  }
}

void Scheduler::help(Lock& lock, int& failures) {
  if (run_any() == Step::blocked) {
    pause(lock, failures);
  } else {
    failures = 0;
  }
}

/// Nothing of this process can run: lets others go on for a moment, and says after a long time what is waited for.
void Scheduler::pause(Lock& lock, int& failures) {
  if (++failures == kPausesUntilReport) {
    std::fprintf(stderr, "stand-in: process %d waits long for: %s\n", process_, heads().c_str());
  }
  lock.unlock();
  std::this_thread::sleep_for(std::min<Clock::duration>(kPause * std::min(failures, 20), std::chrono::milliseconds(1)));
  lock.lock();
  resume();
}

std::string Scheduler::heads() const {
  std::string text;
  for (const auto& s : streams_) {
    if (s->items.empty()) continue;
    if (!text.empty()) text += ", ";
    text += fmt::format("{} (stream {} of device {})", s->items.front().name, s->number, s->device);
  }
  return text.empty() ? "other ranks" : text;
}

bool Scheduler::has_work() const {
  return std::any_of(streams_.begin(), streams_.end(), [](const auto& s) { return !s->items.empty(); });
}

void Scheduler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Scheduler::background() {
  Lock lock(mutex_);
  while (!stop_) {
    if (!has_work() || options.idle_ms < 0) {
      asleep_ = true;
      changed_.wait(lock);
      asleep_ = false;
      continue;
    }
    const auto due = last_call_ + std::chrono::milliseconds(options.idle_ms);
    if (Clock::now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    Step step = Step::blocked;
    try {
      step = run_any();
    } catch (...) {
      failure_ = std::current_exception();
    }
    if (step == Step::blocked) {
      changed_.wait_for(lock, std::chrono::milliseconds(1));
    } else {
      lock.unlock();  // a host call goes first
      std::this_thread::yield();
      lock.lock();
    }
  }
}

void enqueue(cudaStream_t handle, std::string name, std::function<void()> work) {
  enqueue_polled(handle, std::move(name), [work = std::move(work)] {
    work();
    return true;
  });
}

void enqueue_polled(cudaStream_t handle, std::string name, std::function<bool()> attempt) {
  Scheduler& scheduler = Scheduler::instance();
  const auto lock = scheduler.enter();
  CUstream_st& stream = scheduler.stream(handle, name.c_str());
  if (stream.device != current_device()) {
    misuse("{}: stream {} belongs to device {}, the current one is {}", name, stream.number, stream.device,
           current_device());
  }
  const auto make = [&scheduler, attempt = std::move(attempt)]() -> Attempt {
    return [&scheduler, attempt] {
      if (!attempt()) return Step::blocked;
      ++scheduler.counters.kernels;
      return Step::done;
    };
  };
  scheduler.submit(stream, {std::move(name), make});
}

}  // namespace plsc::standin
