// Sockets under the monitor: whole messages in, whole messages out, never blocking for long, never a SIGPIPE.
#include "comm/monitor_protocol.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

namespace plsc {
namespace {

static_assert(std::is_trivially_copyable_v<MonitorMessage>);

constexpr int kConnectMs = 3000;

void set(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); }

/// A non-blocking connect with a time limit; -1 when it fails.
int connect_to(const std::string& address, uint16_t port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) return -1;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int error = 0;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    error = errno;
    pollfd ready{fd, POLLOUT, 0};
    if (error == EINPROGRESS && ::poll(&ready, 1, kConnectMs) == 1) {
      socklen_t length = sizeof error;
      ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
  }
  if (error == 0) return fd;
  ::close(fd);
  return -1;
}

}  // namespace

MonitorSocket::MonitorSocket(int fd) : fd_(fd) {
  ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) | O_NONBLOCK);
  set(fd_, IPPROTO_TCP, TCP_NODELAY, 1);
  // A process that dies closes its connection; a machine that dies says nothing, which these notice in about 20 s.
  // A process that is only stopped stays: its kernel answers.
  set(fd_, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd_, IPPROTO_TCP, TCP_KEEPIDLE, 8);
  set(fd_, IPPROTO_TCP, TCP_KEEPINTVL, 4);
  set(fd_, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

MonitorSocket::~MonitorSocket() {
  if (fd_ >= 0) ::close(fd_);
}
MonitorSocket::MonitorSocket(MonitorSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pending_(std::move(other.pending_)) {}
MonitorSocket& MonitorSocket::operator=(MonitorSocket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(pending_, other.pending_);
  return *this;
}

std::optional<MonitorSocket> MonitorSocket::connect_any(const std::vector<std::string>& addresses, uint16_t port) {
  for (const std::string& address : addresses) {
    const int fd = connect_to(address, port);
    if (fd >= 0) return MonitorSocket(fd);
  }
  return std::nullopt;
}

bool MonitorSocket::send(const MonitorMessage& message) {
  auto rest = std::as_bytes(std::span(&message, 1));
  while (!rest.empty()) {
    const ssize_t n = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      pollfd ready{fd_, POLLOUT, 0};
      if (::poll(&ready, 1, 200) == 1) continue;
      return false;
    }
    if (n < 0) return false;
    rest = rest.subspan(static_cast<size_t>(n));
  }
  return true;
}

std::vector<MonitorMessage> MonitorSocket::receive(bool& open) {
  std::vector<MonitorMessage> messages;
  std::array<std::byte, 16384> buffer;
  for (;;) {
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n <= 0) {
      open = false;
      break;
    }
    pending_.insert(pending_.end(), buffer.begin(), buffer.begin() + n);
  }
  size_t at = 0;
  for (; at + sizeof(MonitorMessage) <= pending_.size(); at += sizeof(MonitorMessage)) {
    std::memcpy(&messages.emplace_back(), pending_.data() + at, sizeof(MonitorMessage));
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(at));
  return messages;
}

}  // namespace plsc
