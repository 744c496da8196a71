// The log of one rank: a value that is passed in Context, not a global.
#pragma once
#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace plsc {

enum class LogLevel { debug, info, warning, error };

/// Where console output goes: a file descriptor, and the width of the terminal behind it (0: none).
struct Console {
  int fd = 2;
  int columns = 0;
  /// Standard error. The width is the terminal's own, or $PLSC_TERMINAL, which the launcher sets: under mpirun the
  /// ranks themselves see a pipe.
  static Console standard();
};

/// Where log lines go. Rank 0 writes all levels to the console; the other ranks write nothing there.
/// After `open_file` the warnings and errors of every rank also reach the run's train.log (appended whole lines).
class Log {
 public:
  /// `rank` below 0 means one process that is not part of a run (tools, tests).
  explicit Log(int rank = -1, LogLevel console_level = LogLevel::info, Console console = Console::standard());
  ~Log();
  Log(Log&&) noexcept;
  Log& operator=(Log&&) noexcept;

  /// Appends to `path` from now on: every level on rank 0, warnings and errors on the others.
  void open_file(const std::string& path);

  void write(LogLevel level, std::string_view text);
  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) {
    write(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
  }

  /// The live progress line: rewritten in place on a terminal; elsewhere a plain line, at most one every 5 s
  /// (`last` forces it out). Only rank 0 (or no rank) shows it.
  void progress(std::string_view text, bool last = false);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plsc
