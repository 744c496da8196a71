// The server's thread: one poll loop over the listener and the ranks' connections.
#include "comm/monitor_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace plsc {
namespace {

constexpr int kPollMs = 200;

int listen_on(bool loopback_only, uint16_t& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(loopback_only ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t length = sizeof at;
  const bool good = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&at), length) == 0 &&
                    ::listen(fd, SOMAXCONN) == 0 && ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length) == 0;
  if (!good) {
    const int code = errno;
    if (fd >= 0) ::close(fd);
    fail("the monitor cannot listen on a TCP port: {}", std::strerror(code));
  }
  port = ntohs(at.sin_port);
  return fd;
}

}  // namespace

void append_loss(const std::string& path, const std::string& line) {
  if (path.empty()) return;
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return;
  const std::string text = line + "\n";
  // Best effort: the same line goes to the waiting ranks.
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  static_cast<void>(written);
  ::close(fd);
}

MonitorServer::MonitorServer(const Options& options)
    : options_(options), listener_(listen_on(options.loopback_only, port_)), table_(options.ranks) {
  thread_ = std::thread([this] { serve(); });
}

MonitorServer::~MonitorServer() {
  stop_.store(true);
  thread_.join();
  MonitorMessage goodbye;
  goodbye.kind = MonitorKind::goodbye;
  for (Client& client : clients_) client.socket.send(goodbye);
  ::close(listener_);
}

void MonitorServer::serve() {
  // The flag is read first: one more round after it is set sees what this process itself said last.
  for (bool last = false; !last;) {
    last = stop_.load();
    std::vector<pollfd> ready{{listener_, POLLIN, 0}};
    for (const Client& client : clients_) ready.push_back({client.socket.fd(), POLLIN, 0});
    if (::poll(ready.data(), ready.size(), last ? 0 : kPollMs) <= 0) continue;
    for (size_t i = 0; i < clients_.size(); ++i) {
      if (ready[i + 1].revents == 0) continue;
      Client& client = clients_[i];
      for (const MonitorMessage& message : client.socket.receive(client.open)) handle(client, message);
    }
    drop_closed();
    if (ready[0].revents != 0) accept_clients();
  }
}

void MonitorServer::accept_clients() {
  for (;;) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    clients_.push_back({MonitorSocket(fd)});
  }
}

void MonitorServer::handle(Client& client, const MonitorMessage& message) {
  if (client.rank < 0) {
    const bool ours = message.kind == MonitorKind::hello && message.token == options_.token && message.rank >= 0 &&
                      message.rank < options_.ranks;
    if (!ours) {
      client.open = false;
      return;
    }
    client.rank = message.rank;
    table_.hello(message.rank, message, clock_.seconds());
    return;
  }
  table_.update(client.rank, message.state, clock_.seconds());
  MonitorMessage reply;
  switch (message.kind) {
    case MonitorKind::beat:
      reply.kind = MonitorKind::beat;
      reply.state = table_.state(0);
      client.open = client.socket.send(reply) && client.open;
      return;
    case MonitorKind::query:
      reply.kind = MonitorKind::report;
      put_text(reply.text, table_.missing(clock_.seconds()));
      // The first that asks tells the user; the others run out of time a moment later, for the same reason.
      reply.voice = std::exchange(speaker_named_, true) ? Voice::wait : Voice::speak;
      client.open = client.socket.send(reply) && client.open;
      return;
    case MonitorKind::failed:
      announce_loss(client.rank, "failed: " + get_text(message.text), true);
      table_.mark_gone(client.rank);
      client.rank = -1;
      client.open = false;
      return;
    case MonitorKind::goodbye:
      table_.mark_gone(client.rank);
      client.rank = -1;
      client.open = false;
      return;
    default:
      return;
  }
}

void MonitorServer::announce_loss(int rank, const std::string& how, bool reported) {
  // The first loss is the cause; those that follow are its consequences.
  if (std::exchange(loss_announced_, true)) return;
  MonitorMessage lost;
  lost.kind = MonitorKind::lost;
  lost.rank = rank;
  const std::string text = table_.who(rank) + " " + how;
  put_text(lost.text, text);
  if (!reported) append_loss(options_.loss_file, text);
  const bool told = reported || !options_.loss_file.empty();
  const int speaker = table_.lowest_alive(rank);
  for (Client& client : clients_) {
    if (client.rank < 0 || client.rank == rank) continue;
    lost.voice = told ? Voice::silent : client.rank == speaker ? Voice::speak : Voice::wait;
    client.socket.send(lost);
  }
}

void MonitorServer::drop_closed() {
  for (const Client& client : clients_) {
    if (client.open || client.rank < 0) continue;
    table_.mark_gone(client.rank);
    announce_loss(client.rank, "died" + last_seen(table_.where(client.rank)), false);
  }
  std::erase_if(clients_, [](const Client& client) { return !client.open; });
}

}  // namespace plsc
