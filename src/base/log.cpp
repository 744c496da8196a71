// The log over spdlog: a console sink that shares the screen with the progress line, and a sink that appends whole
// lines to the run's train.log, which all ranks write.
#include "base/log.h"

#include <fcntl.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/clock.h"
#include "base/error.h"

namespace plsc {
namespace {

constexpr double kProgressSeconds = 5;  // between plain progress lines

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      break;
  }
  return spdlog::level::err;
}

/// A log that cannot be written must not end a training run: the loss of a line is accepted.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

/// The first `columns` characters of UTF-8 text: a longer line would wrap and could not be rewritten in place.
std::string_view cut(std::string_view text, int columns) {
  int seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts_character = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts_character && seen++ == columns) return text.substr(0, i);
  }
  return text;
}

/// "warning: " before warnings and errors; nothing before the rest, which is most of what people read.
class LevelPrefix final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& msg, const std::tm&, spdlog::memory_buf_t& out) override {
    std::string_view prefix;
    if (msg.level == spdlog::level::warn) prefix = "warning: ";
    if (msg.level == spdlog::level::err) prefix = "error: ";
    out.append(prefix.data(), prefix.data() + prefix.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<LevelPrefix>(); }
};

class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit ConsoleSink(Console console) : console_(console) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<LevelPrefix>('*').set_pattern("%H:%M:%S %*%v");
    set_formatter(std::move(formatter));
  }
  ~ConsoleSink() override {
    if (!live_.empty()) write_all(console_.fd, "\n");
  }

  void progress(std::string_view text, bool last) {
    const std::lock_guard lock(mutex_);
    if (console_.columns > 0) {
      live_ = cut(text, console_.columns - 1);
      write_all(console_.fd, "\r\033[K" + live_ + (last ? "\n" : ""));
      if (last) live_.clear();
      return;
    }
    const bool due = shown_.empty() || since_shown_.seconds() >= kProgressSeconds;
    if (text == shown_ || (!due && !last)) return;
    shown_ = text;
    since_shown_.restart();
    write_all(console_.fd, shown_ + "\n");
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    const std::string text(line.data(), line.size());
    write_all(console_.fd, live_.empty() ? text : "\r\033[K" + text + live_);
  }
  void flush_() override {}

 private:
  Console console_;
  std::string live_;   // the progress line that stands on the terminal now
  std::string shown_;  // the last plain progress line
  Stopwatch since_shown_;
};

class AppendSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  AppendSink(const std::string& path, int rank)
      : fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail("cannot open the log {}: {}", path, std::strerror(errno));
    const std::string who = rank >= 0 ? fmt::format("rank {} ", rank) : "";
    set_formatter(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%d %H:%M:%S.%e " + who + "%l: %v"));
  }
  ~AppendSink() override { ::close(fd_); }

 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    // One write a line, on a descriptor that appends: lines of several processes do not mix.
    write_all(fd_, {line.data(), line.size()});
  }
  void flush_() override {}

 private:
  int fd_;
};

}  // namespace

Console Console::standard() {
  Console console;
  if (::isatty(console.fd) != 0) {
    winsize size{};
    const bool known = ::ioctl(console.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    console.columns = known ? size.ws_col : 80;
  } else if (const char* columns = std::getenv("PLSC_TERMINAL")) {
    console.columns = std::atoi(columns);
  }
  return console;
}

struct Log::Impl {
  int rank = -1;
  std::shared_ptr<ConsoleSink> console;  // null on the ranks that stay silent
  spdlog::logger logger{"plsc"};
};

Log::Log(int rank, LogLevel console_level, Console console) : impl_(std::make_unique<Impl>()) {
  impl_->rank = rank;
  impl_->logger.set_level(spdlog::level::debug);
  if (rank > 0) return;
  impl_->console = std::make_shared<ConsoleSink>(console);
  impl_->console->set_level(spdlog_level(console_level));
  impl_->logger.sinks().push_back(impl_->console);
}

Log::~Log() = default;
Log::Log(Log&&) noexcept = default;
Log& Log::operator=(Log&&) noexcept = default;

void Log::open_file(const std::string& path) {
  auto sink = std::make_shared<AppendSink>(path, impl_->rank);
  sink->set_level(impl_->rank > 0 ? spdlog::level::warn : spdlog::level::debug);
  auto& sinks = impl_->logger.sinks();
  sinks.resize(impl_->console ? 1 : 0);
  sinks.push_back(std::move(sink));
}

void Log::write(LogLevel level, std::string_view text) {
  // As one argument: braces in the text are not a format.
  impl_->logger.log(spdlog_level(level), "{}", text);
}

void Log::progress(std::string_view text, bool last) {
  if (impl_->console) impl_->console->progress(text, last);
}

}  // namespace plsc
