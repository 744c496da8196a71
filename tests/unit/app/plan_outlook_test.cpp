// What is told beside a plan: what is not known, what is compared, and how a sweep says it.
#include "app/plan/outlook.h"

#include "app/plan/print.h"
#include "plan_setups.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::plan;

TEST_CASE("plan: what is not known is named with the option that says it") {
  const auto options = [](const std::vector<Unknown>& unknown) {
    std::string out;
    for (const Unknown& u : unknown) out += u.option + " ";
    return out;
  };
  const auto of = [](const Setup& setup, const Room& room, const Rates& rates) {
    return outlook_of(make_plan(setup, room, rates));
  };
  const Setup gpu = on_gpus(head_of(1000, 2)), far = on_gpus(head_of(1000, 2, {"head.store.tier=host"}));
  Room room;
  CHECK(options(of(gpu, room, {}).rooms) == "--device-memory ");
  CHECK(options(of(far, room, {}).rooms) == "--device-memory --host-memory ");
  CHECK(options(of(head_of(1000, 2), room, {}).rooms) == "--host-memory ");
  CHECK(unjudged_text(of(far, room, {})) ==
        "whether it fits the GPU and the host was not judged, nor how many classes would: not known without "
        "--device-memory and --host-memory");
  room.device = 80 * kGb;
  CHECK(unjudged_text(of(gpu, room, {})).empty());
  CHECK(options(of(far, room, {}).rooms) == "--host-memory ");

  CHECK(options(of(far, room, {}).rates) == "--tflops --memory-gbps --host-gbps --link-gbps ");
  CHECK(options(of(on_gpus(head_of(1000, 1)), room, {}).rates) == "--tflops --memory-gbps ");
  Rates rates{.fp32 = 2e12};
  const Plan two = make_plan(gpu, room, rates);
  CHECK(
      rates_text({&two}, {false, true}) ==
      "rates as given: fp32 2 TFLOP/s; a time is not known (?) where it hangs on memory (--memory-gbps or --measure), "
      "link (--link-gbps)");
  rates.memory = 1e12;
  const Plan one = make_plan(on_gpus(head_of(1000, 1)), room, rates), measured = make_plan(gpu, room, rates);
  CHECK(rates_text({&one}, {true, true}) == "rates measured here: fp32 2 TFLOP/s, memory 1000 GB/s");
  CHECK(begins_with(rates_text({&one}, {true, true, true}), "rates measured here and as given: "));
  // Of a sweep, if one of them needs it.
  CHECK(rates_text({&one, &measured}, {true, true}).find("hangs on link (--link-gbps)") != std::string::npos);
  CHECK(one.step_seconds.has_value());
  CHECK_FALSE(measured.step_seconds.has_value());
  // Products of another type than the network's.
  const Plan graph =
      make_plan(on_gpus(head_of(1000, 1, {"head.sampling={method: knn, ratio: 0.1, scoring: bf16}"})), room, rates);
  CHECK_FALSE(graph.graph->seconds.has_value());
  CHECK(rates_text({&graph}, {false, true}).find("hangs on 16-bit products (--measure)") != std::string::npos);
}

TEST_CASE("plan: a link within hosts leaves the network between them unknown, of those plans alone that use it") {
  Room room;
  room.ranks_per_host = 4;
  Rates rates{.fp32 = 2e12, .memory = 1e12, .link = 1e11, .link_of_host = true};
  const auto of = [&](int ranks) { return make_plan(on_gpus(head_of(1000, ranks)), room, rates); };
  const Plan one_host = of(4), two_hosts = of(8);
  CHECK(one_host.step_seconds.has_value());
  CHECK(outlook_of(one_host).rates.empty());
  CHECK_FALSE(two_hosts.step_seconds.has_value());
  CHECK(outlook_of(two_hosts).rates == std::vector<Unknown>{{"network between hosts", "--network-gbps"}});
  CHECK(rates_text({&one_host, &two_hosts}, {}) ==
        "rates as given: fp32 2 TFLOP/s, memory 1000 GB/s, link 100 GB/s; a time is not known (?) where it hangs on "
        "network between hosts (--network-gbps)");
  // Neither is known: both are asked for. Hosts of one rank have no links within.
  rates.link = 0;
  CHECK(outlook_of(of(8)).rates ==
        std::vector<Unknown>{{"link", "--link-gbps"}, {"network between hosts", "--network-gbps"}});
  room.ranks_per_host = 1;
  CHECK(outlook_of(of(8)).rates == std::vector<Unknown>{{"network between hosts", "--network-gbps"}});
  rates.network = 1e10;
  CHECK(outlook_of(of(8)).rates.empty());
  // A link that goes anywhere is enough.
  room.ranks_per_host = 4;
  rates = {.fp32 = 2e12, .memory = 1e12, .link = 1e11};
  CHECK(of(8).step_seconds.has_value());
  CHECK(outlook_of(of(8)).rates.empty());
}

TEST_CASE("plan: sharded and replicated are compared where all else is alike") {
  Room room;
  room.device = 8 * kGb;
  room.host = 100 * kGb;
  const auto replicated = [&](int ranks, const std::vector<std::string>& overrides) {
    return outlook_of(make_plan(on_gpus(head_of(1000, ranks, overrides)), room, {})).replicated.has_value();
  };
  CHECK(replicated(2, {}));
  CHECK_FALSE(replicated(1, {}));
  CHECK_FALSE(replicated(2, {"head.sampling={method: knn, ratio: 0.1}"}));
  CHECK_FALSE(replicated(2, {"head.sampling={method: uniform, ratio: 0.1}"}));
  CHECK_FALSE(replicated(2, {"head.store={dtype: bf16}"}));
  CHECK_FALSE(replicated(2, {"head.store={tier: host}"}));
  // The host is too small for the program alone.
  room.host = 1e6;
  CHECK_FALSE(replicated(2, {}));
}

TEST_CASE("plan: a sweep says what a plan says") {
  Room room;
  room.device = room.host = 80 * kGb;
  const Setup setup =
      on_gpus(head_of(1'000'000, 256, {"head.sampling={method: knn, ratio: 0.1}", "head.store={tier: host}"}));
  Setup large = setup;
  large.ranks = 1;
  large.classes = 100'000'000;
  std::vector<SweepRow> rows(2);
  for (size_t i = 0; i < 2; ++i) {
    rows[i].plan = make_plan(i == 0 ? setup : large, room, {});
    rows[i].ranks = rows[i].plan->setup.ranks;
    rows[i].outlook = outlook_of(*rows[i].plan);
  }
  const std::string text = sweep_table(rows, "RATES");
  CHECK(text.find("GPU memory   host memory") != std::string::npos);
  CHECK(text.find(" 2,147,483,647*\n") != std::string::npos);
  CHECK(text.find("\n* memory is not what ends it, but how many classes a class graph can have\nRATES\n") !=
        std::string::npos);
  for (const std::string key : {"largest_classes", "largest_capped", "largest_replicated", "advice", "missing_rates"}) {
    const std::string list = sweep_json(rows), quoted = '"' + key + '"';
    CHECK(list.find(quoted) != list.rfind(quoted));
  }
  CHECK(sweep_json(rows).find("\"advice\": \"") != std::string::npos);
  for (SweepRow& row : rows) row.outlook.rooms = {{"host", "--host-memory"}};
  CHECK(sweep_table(rows, "").find(" ?    2,147,483,647*\n") != std::string::npos);
}
