// A rank's side of the monitor: the shared state, and the thread that sends it.
#include "comm/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>

#include "base/host.h"
#include "comm/errors.h"

namespace plsc {
namespace {

constexpr double kReportSeconds = 5;  // for the answer to a query

std::string place(const RankState& state) {
  RankTable table(1);
  table.update(0, state, 0);
  return table.where(0);
}

}  // namespace

Monitor::Monitor(const Options& options)
    : options_(options), socket_(MonitorSocket::connect_any(options.addresses, options.port)) {
  if (!socket_) {
    fail_hint("allow TCP connections between the nodes",
              "the monitor on rank 0 cannot be reached at port {} of any of {} address(es)", options.port,
              options.addresses.size());
  }
  MonitorMessage hello = message(MonitorKind::hello);
  hello.token = options_.token;
  put_text(hello.host, this_host());
  if (!socket_->send(hello)) fail("the monitor on rank 0 closed its connection");
  if (::pipe2(wake_, O_NONBLOCK | O_CLOEXEC) != 0) fail("no pipe for the monitor's thread");
  thread_ = std::thread([this] { run(); });
}

Monitor::~Monitor() {
  goodbye();
  ::close(wake_[0]);
  ::close(wake_[1]);
}

void Monitor::note(int64_t step, const char* phase) {
  const std::lock_guard lock(mutex_);
  state_.step = step;
  put_text(state_.phase, phase);
}

void Monitor::begin_wait(const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++state_.position;
  waiting_ = &what;
}

void Monitor::end_wait() noexcept {
  const std::lock_guard lock(mutex_);
  ++state_.position;
  waiting_ = nullptr;
}

void Monitor::withdraw_wait() noexcept {
  const std::lock_guard lock(mutex_);
  --state_.position;
  waiting_ = nullptr;
}

void Monitor::check_peers() {
  if (!lost_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  throw PeerLost(lost_text_, lost_voice_);
}

MissingReport Monitor::missing() {
  query_.store(true);
  wake();
  const Stopwatch waited;
  while (waited.seconds() < kReportSeconds) {
    {
      const std::lock_guard lock(mutex_);
      if (report_) return *std::exchange(report_, std::nullopt);
    }
    check_peers();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {fmt::format("{} does not answer: its process is stopped or its machine cannot be reached", options_.rank0),
          options_.rank == 1 ? Voice::speak : Voice::wait};
}

MonitorMessage Monitor::message(MonitorKind kind) {
  MonitorMessage m;
  m.kind = kind;
  m.rank = options_.rank;
  m.pid = ::getpid();
  const std::lock_guard lock(mutex_);
  m.state = state_;
  if (waiting_) put_text(m.state.waiting, *waiting_);
  return m;
}

void Monitor::run() {
  Stopwatch since_beat;
  bool open = exchange(true);
  while (open && !stop_.load()) {
    std::array<pollfd, 2> ready{{{socket_->fd(), POLLIN, 0}, {wake_[0], POLLIN, 0}}};
    const double rest = options_.beat - since_beat.seconds();
    ::poll(ready.data(), ready.size(), rest > 0 ? static_cast<int>(rest * 1000) + 1 : 0);
    std::array<char, 64> drained;
    while (::read(wake_[0], drained.data(), drained.size()) > 0) {
    }
    const bool beat = since_beat.seconds() >= options_.beat;
    if (beat) since_beat.restart();
    open = exchange(beat);
  }
  if (open || stop_.load() || server_ended_) return;
  const std::string text = options_.rank0 + " died" + last_seen(place(rank0_state_));
  const bool launched = !options_.loss_file.empty();
  // Nobody but the survivors can tell of rank 0's death; the launcher drops what is said twice.
  if (!lost_.load()) append_loss(options_.loss_file, text);
  lose(text, launched ? Voice::silent : options_.rank == 1 ? Voice::speak : Voice::wait);
}

/// Sends what is due and handles what has come; false at the end of the connection.
bool Monitor::exchange(bool beat) {
  bool open = true;
  if (query_.exchange(false)) {
    open = socket_->send(message(MonitorKind::query));
  } else if (beat) {
    open = socket_->send(message(MonitorKind::beat));
  }
  for (const MonitorMessage& m : socket_->receive(open)) handle(m);
  return open;
}

void Monitor::handle(const MonitorMessage& m) {
  switch (m.kind) {
    case MonitorKind::lost:
      lose(get_text(m.text), m.voice);
      return;
    case MonitorKind::goodbye:
      server_ended_ = true;
      return;
    case MonitorKind::report: {
      const std::lock_guard lock(mutex_);
      report_ = MissingReport{get_text(m.text), m.voice};
      return;
    }
    case MonitorKind::beat: {
      const std::lock_guard lock(mutex_);
      rank0_state_ = m.state;
      return;
    }
    default:
      return;
  }
}

void Monitor::lose(const std::string& text, Voice voice) {
  const std::lock_guard lock(mutex_);
  if (lost_.load()) return;  // the first is the cause
  lost_text_ = text;
  lost_voice_ = voice;
  lost_.store(true);
}

void Monitor::wake() const {
  const char byte = 0;
  // A full pipe is as good: the thread will wake.
  static_cast<void>(::write(wake_[1], &byte, 1) == 1);
}

void Monitor::stop(MonitorKind last_word, const std::string& text) noexcept {
  if (!thread_.joinable()) return;
  stop_.store(true);
  wake();
  thread_.join();
  MonitorMessage last = message(last_word);
  put_text(last.text, text);
  socket_->send(last);
  socket_.reset();
}

void Monitor::failed(const std::string& error) noexcept { stop(MonitorKind::failed, error); }
void Monitor::goodbye() noexcept { stop(MonitorKind::goodbye, ""); }

}  // namespace plsc
