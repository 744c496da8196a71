// Errors. User and environment errors are `Error`: what was found, what was expected, and what to do about it.
// Programmer errors are PLSC_CHECK. Nothing below app/ catches to print, and nothing calls exit.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace plsc {

/// An error that a user can do something about. `what()` is the whole message, the hint on a line of its own.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, const std::string& hint = "")
      : std::runtime_error(hint.empty() ? message : message + "\n  hint: " + hint) {}
};

/// What an Error says, without what to do: for a message that has its own advice.
inline std::string without_hint(const std::string& what) { return what.substr(0, what.find("\n  hint: ")); }

/// Throws Error with a formatted message; `fail_hint` adds what to do.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
[[noreturn]] void fail_hint(const std::string& hint, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), hint);
}

/// A bug in this program: the condition and where it stands.
class LogicError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

}  // namespace plsc

/// PLSC_CHECK(x > 0) or PLSC_CHECK(x > 0, "x is {}", x): throws LogicError naming file and line.
#define PLSC_CHECK(condition, ...)                                                                \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      ::plsc::check_failed(__FILE__, __LINE__, #condition, ::plsc::detail::message(__VA_ARGS__)); \
    }                                                                                             \
  } while (false)

namespace plsc::detail {
inline std::string message() { return {}; }
template <class... Args>
std::string message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace plsc::detail
