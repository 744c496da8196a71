// Server and clients of the monitor over loopback, all in one process: losses, failures, queries, strangers.
#include "comm/monitor.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr uint64_t kToken = 12345;

Monitor::Options client_options(const MonitorServer& server, int rank) {
  Monitor::Options options;
  options.rank = rank;
  options.addresses = {"127.0.0.1"};
  options.port = server.port();
  options.token = kToken;
  options.rank0 = "rank 0 (host a, pid 70)";
  options.beat = 0.05;
  return options;
}

/// Waits until `condition` holds; false after ten seconds, which only a broken program needs.
template <class Condition>
bool soon(const Condition& condition) {
  for (const Stopwatch watch; watch.seconds() < 10;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

MonitorServer::Options server_options(int ranks, const std::string& loss_file = "") {
  return {ranks, true, kToken, loss_file};
}

/// A connection that speaks the protocol by hand: a rank that can end without a word.
MonitorSocket raw_rank(const MonitorServer& server, int rank, uint64_t token = kToken) {
  auto socket = MonitorSocket::connect_any({"127.0.0.1"}, server.port());
  REQUIRE(socket);
  MonitorMessage hello;
  hello.kind = MonitorKind::hello;
  hello.rank = rank;
  hello.pid = 4242;
  hello.token = token;
  put_text(hello.host, "far");
  REQUIRE(socket->send(hello));
  return std::move(*socket);
}

}  // namespace

TEST_CASE("a rank that is behind is named on request, and one asker speaks") {
  const MonitorServer server(server_options(3));
  Monitor zero(client_options(server, 0)), one(client_options(server, 1)), two(client_options(server, 2));
  const std::string what = "gradient bucket 3";
  for (Monitor* monitor : {&zero, &one, &two}) monitor->note(17, "backward");
  zero.begin_wait(what);
  one.begin_wait(what);
  REQUIRE(soon([&] { return contains(zero.missing().text, "Missing: rank 2 ("); }));
  const MissingReport report = one.missing();
  CHECK(contains_all(report.text, {"step 17", "phase backward", "has not come"}));
  CHECK(report.voice == Voice::wait);  // zero asked first
  zero.end_wait();
  one.end_wait();
  CHECK_NOTHROW(zero.check_peers());
}

TEST_CASE("a rank that vanishes is known to all within a moment") {
  const TempFolder folder;
  spit(folder / "losses", "");
  const bool launched = GENERATE(false, true);
  const std::string file = launched ? folder / "losses" : "";
  const MonitorServer server(server_options(3, file));
  Monitor zero(client_options(server, 0)), one(client_options(server, 1));
  {
    MonitorSocket two = raw_rank(server, 2);
    MonitorMessage beat;
    beat.state.step = 17;
    put_text(beat.state.phase, "backward");
    two.send(beat);
  }
  REQUIRE(soon([&] { return zero.peer_lost() && one.peer_lost(); }));
  try {
    zero.check_peers();
    FAIL("nothing was thrown");
  } catch (const PeerLost& error) {
    CHECK(std::string(error.what()) == "rank 2 (host far, pid 4242) died (last seen in step 17, phase backward)");
    CHECK(error.voice() == (launched ? Voice::silent : Voice::speak));
  }
  try {
    one.check_peers();
    FAIL("nothing was thrown");
  } catch (const PeerLost& error) {
    CHECK(error.voice() == (launched ? Voice::silent : Voice::wait));
  }
  if (launched) CHECK(slurp(file) == "rank 2 (host far, pid 4242) died (last seen in step 17, phase backward)\n");
}

TEST_CASE("a rank that fails with a reason passes it on; nobody repeats it") {
  const TempFolder folder;
  spit(folder / "losses", "");
  const MonitorServer server(server_options(2, folder / "losses"));
  Monitor zero(client_options(server, 0));
  Monitor one(client_options(server, 1));
  one.failed("the disk is full");
  REQUIRE(soon([&] { return zero.peer_lost(); }));
  CHECK(contains(error_text([&] { zero.check_peers(); }), "failed: the disk is full"));
  CHECK(slurp(folder / "losses").empty());
}

TEST_CASE("an orderly end is no loss, of a rank or of rank 0") {
  auto server = std::make_unique<MonitorServer>(server_options(3));
  Monitor zero(client_options(*server, 0)), one(client_options(*server, 1)), two(client_options(*server, 2));
  two.goodbye();
  two.goodbye();  // harmless
  zero.goodbye();
  server.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_FALSE(one.peer_lost());
}

TEST_CASE("the death of rank 0 is seen by the others themselves") {
  // Rank 0 in a process of its own, so that its server can die without a word.
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const MonitorServer server(server_options(2));
    Monitor zero(client_options(server, 0));
    zero.note(4, "forward");
    const uint16_t port = server.port();
    static_cast<void>(::write(ends[1], &port, sizeof port) == sizeof port);
    ::pause();
  }
  uint16_t port = 0;
  REQUIRE(::read(ends[0], &port, sizeof port) == sizeof port);
  Monitor::Options options;
  options.rank = 1;
  options.addresses = {"127.0.0.1"};
  options.port = port;
  options.token = kToken;
  options.rank0 = "rank 0 (host a, pid 70)";
  options.beat = 0.05;
  Monitor one(options);
  std::this_thread::sleep_for(std::chrono::seconds(1));  // some heartbeats carry rank 0's place
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  REQUIRE(soon([&] { return one.peer_lost(); }));
  const std::string text = error_text([&] { one.check_peers(); });
  CHECK(text == "rank 0 (host a, pid 70) died (last seen in step 4, phase forward)");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("strangers are turned away") {
  const MonitorServer server(server_options(2));
  Monitor zero(client_options(server, 0));
  for (const auto& [rank, token] : std::vector<std::pair<int, uint64_t>>{{1, kToken + 1}, {2, kToken}, {-1, kToken}}) {
    MonitorSocket stranger = raw_rank(server, rank, token);
    bool open = true;
    CHECK(soon([&] {
      stranger.receive(open);
      return !open;
    }));
  }
  CHECK_FALSE(zero.peer_lost());
}

TEST_CASE("half a message is not taken for one") {
  const MonitorServer server(server_options(2));
  Monitor zero(client_options(server, 0));
  MonitorMessage hello;
  hello.kind = MonitorKind::hello;
  hello.rank = 1;
  hello.token = kToken;
  auto socket = MonitorSocket::connect_any({"127.0.0.1"}, server.port());
  REQUIRE(socket);
  const auto* data = reinterpret_cast<const char*>(&hello);
  REQUIRE(::send(socket->fd(), data, 100, 0) == 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  REQUIRE(::send(socket->fd(), data + 100, sizeof hello - 100, 0) == static_cast<ssize_t>(sizeof hello - 100));
  MonitorMessage query;
  query.kind = MonitorKind::query;
  REQUIRE(socket->send(query));
  bool open = true;
  std::vector<MonitorMessage> replies;
  CHECK(soon([&] { return !(replies = socket->receive(open)).empty(); }));
  CHECK(open);
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].kind == MonitorKind::report);
  MonitorMessage goodbye;
  goodbye.kind = MonitorKind::goodbye;
  socket->send(goodbye);
}

TEST_CASE("a server that is not there is an error at once") {
  Monitor::Options options;
  options.addresses = {"127.0.0.1"};
  options.port = 1;
  CHECK(contains_all(error_text([&] { Monitor monitor(options); }), {"cannot be reached", "hint"}));
}
