// The doctor's parts that need no machine: patience with probes, rounds of hosts, interfaces.
#include <chrono>
#include <set>
#include <thread>

#include "app/doctor/disk_room.h"
#include "app/doctor/network.h"
#include "app/doctor/pair_rounds.h"
#include "app/doctor/patience.h"
#include "app/doctor/probes.h"
#include "backend/device_health.h"
#include "base/error.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::doctor;

namespace {

uint32_t address(int a, int b, int c, int d) { return static_cast<uint32_t>(a << 24 | b << 16 | c << 8 | d); }
constexpr uint32_t kMask24 = 0xFFFFFF00;

HostNetwork host(int number) {
  return {"n" + std::to_string(number),
          number,
          {{"docker0", address(172, 17, 0, 1), 0xFFFF0000, true, false, 0},
           {"eth0", address(10, 0, 0, 1 + number), kMask24, false, true, 1000},
           {"ib0", address(10, 1, number, 1), kMask24, false, true, 200000}}};
}

}  // namespace

TEST_CASE("patience: a value, an error, and what is late") {
  Patience patience(10);
  CHECK(patience.attempt<int>(5, [] { return 7; }).value == 7);
  const auto failed = patience.attempt<int>(5, []() -> int { throw Error("no such disk"); });
  CHECK_FALSE(failed.value.has_value());
  CHECK(failed.error == "no such disk");
  CHECK_FALSE(failed.late);
  CHECK(patience.abandoned() == 0);
  const auto gate = std::make_shared<std::atomic<bool>>(false);
  const auto late = patience.attempt<int>(0.1, [gate] {
    while (!*gate) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return 1;
  });
  *gate = true;
  CHECK(late.late);
  CHECK_FALSE(late.value.has_value());
  CHECK(patience.abandoned() == 1);
}

TEST_CASE("rounds of hosts: each has one partner at a time, and few hosts meet each other once") {
  for (int hosts = 0; hosts <= 40; ++hosts) {
    const PairRounds schedule = pair_rounds(hosts);
    std::set<std::pair<int, int>> seen;
    for (const auto& round : schedule.rounds) {
      std::set<int> busy;
      for (const auto& [a, b] : round) {
        CHECK(a != b);
        CHECK(std::min(a, b) >= 0);
        CHECK(std::max(a, b) < hosts);
        CHECK(busy.insert(a).second);
        CHECK(busy.insert(b).second);
        CHECK(seen.insert({std::min(a, b), std::max(a, b)}).second);
      }
    }
    if (schedule.all) {
      CHECK(static_cast<int>(seen.size()) == hosts * (hosts - 1) / 2);
      CHECK(static_cast<int>(schedule.rounds.size()) <= std::max(0, hosts));
    }
    CHECK(schedule.all == (hosts <= 12));
  }
  // Every host takes part, and the number of rounds stays small.
  const PairRounds many = pair_rounds(1000);
  CHECK(many.rounds.size() < 40);
  std::set<int> met;
  for (const auto& round : many.rounds) {
    for (const auto& [a, b] : round) met.insert({a, b});
  }
  CHECK(met.size() == 1000);
}

TEST_CASE("network: another host is called by an address of its own, in a common network") {
  const std::vector<HostNetwork> all{host(0), host(1), host(2)};
  CHECK(address_to_call(all[0], all[2], all) == address(10, 0, 0, 3));
  // Without eth0 what is left is the address that the routes must reach.
  auto far = all;
  for (HostNetwork& h : far) h.interfaces.erase(h.interfaces.begin() + 1);
  CHECK(address_to_call(far[0], far[2], far) == address(10, 1, 2, 1));
  for (HostNetwork& h : far) h.interfaces.resize(1);
  CHECK(address_to_call(far[0], far[2], far) == 0);
  CHECK(address_text(address(172, 17, 0, 1)) == "172.17.0.1");
}

TEST_CASE("network: docker0 and virbr0 are traps") {
  std::vector<HostNetwork> all{host(0), host(1)};
  CHECK(treacherous(all[0], all) == std::vector<std::string>{"docker0"});
  all[0].interfaces[0].address = address(192, 168, 122, 1);  // its own, but a bridge without carrier
  CHECK(treacherous(all[0], all) == std::vector<std::string>{"docker0"});
  all[0].interfaces[0].carrier = true;
  CHECK(treacherous(all[0], all).empty());
  const HostNetwork back = network_from_json(to_json(all[1]));
  CHECK(back.interfaces[2].megabits == 200000);
  CHECK(back.interfaces[0].bridge);
}

TEST_CASE("network: traps that nobody has shut") {
  const std::vector<std::string> traps{"docker0", "virbr0"};
  CHECK(unguarded(traps, {}) == traps);
  CHECK(unguarded(traps, {.include = "eth0"}).empty());
  CHECK(unguarded(traps, {.include = "eth0,virbr0"}) == std::vector<std::string>{"virbr0"});
  CHECK(unguarded(traps, {.exclude = "127.0.0.1/8,sppp,docker0,virbr0"}).empty());
  CHECK(unguarded(traps, {.exclude = "lo,docker0"}) == std::vector<std::string>{"virbr0"});
  CHECK(unguarded(traps, {.include = "eth0", .nccl_in_use = true}) == std::vector<std::string>{"virbr0"});
  CHECK(unguarded(traps, {.include = "eth0", .nccl = "eth0", .nccl_in_use = true}).empty());
}

TEST_CASE("network: the interface that is accused is never the one to use") {
  CHECK(interface_hint({"eth0", "ib0"}, {"docker0"}) ==
        "export OMPI_MCA_btl_tcp_if_include=eth0 NCCL_SOCKET_IFNAME=eth0");
  CHECK(interface_hint({"eth0", "ib0"}, {"eth0"}) == "export OMPI_MCA_btl_tcp_if_include=ib0 NCCL_SOCKET_IFNAME=ib0");
  for (const std::vector<std::string>& used : {std::vector<std::string>{}, {"eth0"}}) {
    const std::string hint = interface_hint(used, {"eth0"});
    CHECK(hint.find("eth0") == std::string::npos);
    CHECK(hint.find("if_include=NAME") != std::string::npos);
  }
}

TEST_CASE("network: what was feared is forgotten once messages have gone") {
  RankSheet sheet;
  sheet.warn("network", "eth0 reaches no other host");
  sheet.warn("limits", "little");
  sheet.fail("network", "broken");
  forget_feared(sheet);
  REQUIRE(sheet.findings.size() == 2);
  CHECK(sheet.findings[0].section == "limits");
  CHECK(sheet.findings[1].grade == Grade::fail);
}

TEST_CASE("GPU code: machine code of the generation, PTX for later ones") {
  const std::string list = "75-real,80-real,86-real,89-real,90";
  CHECK(code_for(75, list) == GpuCode::native);
  CHECK(code_for(87, list) == GpuCode::native);  // 8.6's code runs on 8.7
  CHECK(code_for(90, list) == GpuCode::native);
  CHECK(code_for(100, list) == GpuCode::ptx);
  CHECK(code_for(70, list) == GpuCode::none);
  CHECK(code_for(90, "80-real") == GpuCode::none);
  CHECK(code_for(90, "80") == GpuCode::ptx);
  CHECK(code_for(90, "90-virtual") == GpuCode::ptx);
  CHECK(code_for(90, "90a-real") == GpuCode::native);
  CHECK(code_for(100, "90a") == GpuCode::none);
  CHECK(code_for(90, "native") == GpuCode::unknown);
}

TEST_CASE("disk: checkpoints that are there give back their own bytes, not those of the new ones") {
  CHECK(bytes_wanted({.one = 100, .keep = 3}) == 400);
  CHECK(bytes_wanted({.one = 100, .keep = 3, .there = {100, 100, 100}}) == 100);
  CHECK(bytes_wanted({.one = 100, .keep = 3, .there = {100}}) == 300);
  // Three small ones of an earlier model make room for nothing.
  CHECK(bytes_wanted({.one = 100, .keep = 3, .there = {1, 1, 1}}) == 400 - 3);
  // Large ones make room for all but the first, which is written beside them.
  CHECK(bytes_wanted({.one = 100, .keep = 3, .there = {500, 500, 500}}) == 100);
  CHECK(bytes_wanted({.one = 100, .keep = 1, .there = {500, 30}}) == 100);  // the first save ends both
  CHECK(bytes_wanted({.one = 100, .keep = 2, .there = {10, 10, 10, 10}}) == 300 - 40);
}
