// The monitor's messages: fixed-size records over TCP, between processes of one build on one kind of machine.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/errors.h"

namespace plsc {

enum class MonitorKind : uint32_t {
  hello,    // to the server: who I am
  beat,     // to the server: how far I am; from it: how far rank 0 is
  query,    // to the server: who is missing?
  report,   // from it: the answer (text, voice)
  failed,   // to the server: I end with an error (text)
  lost,     // from it: `rank` has failed or died (text, voice)
  goodbye,  // either way: I end in order
};

/// How far one rank is. `position` grows by one at the begin and at the end of every wait, so it is odd inside one
/// (and falls back at the end of a wait that is not common to all ranks).
struct RankState {
  int64_t step = -1;  // below 0: none yet
  int64_t position = 0;
  std::array<char, 64> phase{};     // "backward"
  std::array<char, 128> waiting{};  // what for, while position is odd
};

struct MonitorMessage {
  MonitorKind kind = MonitorKind::beat;
  int32_t rank = -1;
  int32_t pid = 0;
  Voice voice = Voice::silent;
  uint64_t token = 0;  // of the run, in hello: strangers are turned away
  RankState state;
  std::array<char, 64> host{};
  std::array<char, 1024> text{};
};

/// Copies as much text as fits, and a final zero.
template <size_t N>
void put_text(std::array<char, N>& to, std::string_view text) {
  to.fill('\0');
  text.copy(to.data(), N - 1);
}
template <size_t N>
std::string get_text(const std::array<char, N>& from) {
  // Not trusted to hold the final zero: it came over a network.
  return std::string(from.begin(), std::find(from.begin(), from.end(), '\0'));
}

/// A connected socket that carries whole messages.
class MonitorSocket {
 public:
  explicit MonitorSocket(int fd);  // takes it over, and sets it up to notice a dead machine within half a minute
  ~MonitorSocket();
  MonitorSocket(MonitorSocket&& other) noexcept;
  MonitorSocket& operator=(MonitorSocket&& other) noexcept;

  /// The first of `addresses` ("10.0.0.1") that takes a connection; nothing when none does.
  static std::optional<MonitorSocket> connect_any(const std::vector<std::string>& addresses, uint16_t port);

  int fd() const { return fd_; }
  /// False when the connection is gone, or so slow that the message does not fit.
  bool send(const MonitorMessage& message);
  /// Whole messages that have arrived; `open` becomes false at the connection's end.
  std::vector<MonitorMessage> receive(bool& open);

 private:
  int fd_ = -1;
  std::vector<std::byte> pending_;  // the begin of a message
};

}  // namespace plsc
