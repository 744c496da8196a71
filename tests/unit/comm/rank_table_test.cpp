// What the monitor's table says of ranks that are behind.
#include "comm/rank_table.h"

#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

RankState state(int64_t step, const char* phase, int64_t position, const char* waiting = "") {
  RankState s;
  s.step = step;
  s.position = position;
  put_text(s.phase, phase);
  put_text(s.waiting, waiting);
  return s;
}

MonitorMessage hello(const char* host, int pid) {
  MonitorMessage m;
  m.kind = MonitorKind::hello;
  m.pid = pid;
  put_text(m.host, host);
  return m;
}

RankTable four_ranks() {
  RankTable table(4);
  for (int r = 0; r < 4; ++r) table.hello(r, hello(r < 2 ? "a" : "b", 70 + r), 0);
  return table;
}

}  // namespace

TEST_CASE("the rank that is behind is missing, with where and how long") {
  RankTable table = four_ranks();
  for (int r = 0; r < 4; ++r) table.update(r, state(17, "backward", 8), 1);
  for (const int r : {0, 1, 3}) table.update(r, state(17, "backward", 9, "gradient bucket 3"), 2);
  table.update(2, state(17, "backward", 8), 14);  // heard from, not moved
  const std::string text = table.missing(14);
  CHECK(text == "Missing: rank 2 (host b, pid 72): step 17, phase backward, has not come to the collective for 13 s");
}

TEST_CASE("a rank in another collective than the rest is shown with it") {
  RankTable table = four_ranks();
  for (const int r : {0, 1, 3}) table.update(r, state(5, "save", 13, "the checkpoint"), 2);
  table.update(2, state(5, "forward", 11, "the logit sums"), 2);
  CHECK(contains_all(table.missing(4),
                     {"rank 2 (host b, pid 72): step 5, phase forward", "in the wait for the logit sums"}));
}

TEST_CASE("of groups that go their own ways for a while the rank that hangs is named, not who waits for it") {
  RankTable table = four_ranks();
  // Ranks 0 and 1 have been through their group's collectives and wait for all; rank 2 waits for rank 3.
  for (const int r : {0, 1}) table.update(r, state(5, "backward", 27, "gradient bucket 0"), 2);
  table.update(2, state(5, "forward", 13, "statistics of layer1.0.bn1"), 2);
  table.update(3, state(5, "forward", 12), 2);
  CHECK(table.missing(4) ==
        "Missing: rank 3 (host b, pid 73): step 5, phase forward, has not come to the collective for 2 s");
}

TEST_CASE("when all wait, nobody is behind") {
  RankTable table = four_ranks();
  for (int r = 0; r < 4; ++r) table.update(r, state(5, "forward", 11, "the logit sums"), 2);
  CHECK(contains_all(table.missing(4), {"No rank is behind", "rank 0", "rank 3", "messages are lost or late"}));
}

TEST_CASE("silence and absence are told apart") {
  RankTable table(3);
  table.hello(0, hello("a", 70), 0);
  table.hello(1, hello("a", 71), 0);
  CHECK(contains(table.missing(1), "rank 2 never reached the monitor"));
  table.hello(2, hello("b", 72), 0);
  table.update(0, state(1, "", 3), 20);
  table.update(2, state(1, "", 3), 20);
  CHECK(contains_all(table.missing(20), {"rank 1 (host a, pid 71)", "no heartbeat for 20 s", "stopped"}));
  CHECK_FALSE(contains(table.missing(20), "rank 2"));
}

TEST_CASE("many ranks are counted, not listed") {
  RankTable table(10);
  for (int r = 0; r < 10; ++r) table.hello(r, hello("a", r), 0);
  table.update(0, state(1, "", 1), 1);
  CHECK(contains_all(table.missing(2), {"rank 1 ", "rank 4 ", "and 5 more"}));
}

TEST_CASE("the lowest living rank") {
  RankTable table(4);
  CHECK(table.lowest_alive(-1) == -1);
  table.hello(1, hello("a", 1), 0);
  table.hello(3, hello("a", 3), 0);
  CHECK(table.lowest_alive(-1) == 1);
  CHECK(table.lowest_alive(1) == 3);
  table.mark_gone(1);
  CHECK(table.lowest_alive(-1) == 3);
}

TEST_CASE("texts that do not fit are cut, and a text without an end is read to its room") {
  std::array<char, 8> room{};
  put_text(room, "0123456789");
  CHECK(get_text(room) == "0123456");
  room.fill('x');
  CHECK(get_text(room) == "xxxxxxxx");
  put_text(room, "ab");
  CHECK(get_text(room) == "ab");
}
