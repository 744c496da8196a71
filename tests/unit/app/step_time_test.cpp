// Times of collectives and of steps against numbers worked out by hand.
#include "app/plan/step_time.h"

#include <cmath>

#include "app/plan/gpus.h"
#include "app/plan/print.h"
#include "plan_setups.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::plan;

namespace {

/// But for rounding.
bool near(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); }

constexpr DryTransfer kReduce{8e9, 2}, kGather{8e9, 1};

/// A step on four ranks of one phase: ops of a second each, and between them what becomes of collectives of a second.
DryRun step_of(const std::string& what) {
  DryRun run;
  run.phases.resize(1);
  DryPhase& phase = run.phases[0];
  phase.name = "all";
  std::vector<size_t> waited;
  for (const char c : what) {
    DryMoment moment;
    if (c == 'o') {
      moment.index = phase.work.size();
      phase.work.push_back({.flop = 1e9});
    } else if (c == '+') {
      moment.kind = DryMoment::Kind::start;
      moment.index = phase.transfers.size();
      waited.push_back(moment.index);
      phase.transfers.push_back({4e9 / 3, 1, 1e9});
      phase.wire += 1e9;
    } else {  // '-': of the first that was not waited for
      moment.kind = DryMoment::Kind::wait;
      moment.index = waited.front();
      waited.erase(waited.begin());
    }
    run.moments.push_back(moment);
  }
  return run;
}

PhasePlan timed(const std::string& what) {
  const Rates rates{.fp32 = 1e9, .memory = 1e9};
  return timed_phases(step_of(what), rates, {4, 4, 1e9, 0, false}).front();
}

}  // namespace

TEST_CASE("wire: within a host every rank sends all but its own part, by its own link") {
  CHECK(near(seconds_of(kGather, {8, 8, 1e9, 0, false}), 7.0));
  CHECK(near(seconds_of(kReduce, {8, 8, 1e9, 0, false}), 14.0));
  CHECK(near(seconds_of(kReduce, {8, 8, 1e9, 1e3, false}), 14.0));  // no network is in between
  CHECK(seconds_of(kReduce, {1, 8, 0, 0, true}) == 0);
}

TEST_CASE("wire: between hosts the ranks share a network, and the slower of the two decides") {
  // 64 ranks on 8 hosts: 7 / 8 of 8 GB twice over 2 GB/s is 7 s; 63 / 64 twice over 100 GB/s is .1575 s.
  CHECK(near(seconds_of(kReduce, {64, 8, 100e9, 2e9, false}), 7.0));
  CHECK(near(seconds_of(kGather, {64, 8, 100e9, 2e9, false}), 3.5));
  CHECK(near(seconds_of(kReduce, {64, 8, 1e9, 2e9, false}), 15.75));
  // Without a network of hosts every rank has its own link to everywhere.
  CHECK(near(seconds_of(kReduce, {64, 8, 1e9, 0, false}), 15.75));
  // Hosts of one rank have no links within.
  CHECK(near(seconds_of(kReduce, {8, 1, 0, 2e9, false}), 7.0));
  // A last host that is not full is one.
  CHECK(near(seconds_of(kGather, {12, 8, 100e9, 1e9, false}), 4.0));
}

TEST_CASE("wire: what has to be known of it") {
  CHECK(Cluster{1, 8, 0, 0}.known());
  CHECK_FALSE(Cluster{8, 8, 0, 1e9}.known());
  CHECK(Cluster{8, 8, 1e9, 0}.known());
  CHECK_FALSE(Cluster{16, 8, 0, 1e9}.known());
  CHECK(Cluster{16, 8, 1e9, 1e9}.known());
  CHECK(Cluster{16, 1, 0, 1e9}.known());
  CHECK_FALSE(Cluster{16, 1, 0, 0}.known());
  // A link that ends at the host says nothing of what lies between hosts.
  CHECK(Cluster{8, 8, 1e9, 0, false, true}.known());
  CHECK_FALSE(Cluster{9, 8, 1e9, 0, false, true}.known());
  CHECK(Cluster{9, 8, 1e9, 1e9, false, true}.known());
  CHECK_FALSE(Cluster{2, 1, 1e9, 0, false, true}.known());
  CHECK(Cluster{1, 1, 1e9, 0, false, true}.known());
}

TEST_CASE("wire: a small collective takes NCCL's latency, by its fastest way") {
  const DryTransfer sums{0, 2}, features{0, 1};
  // On 8 ranks of a host: 14 steps of .6 us by the ring, behind 6.6; by the tree 2 x 7 of them, behind 6.8.
  CHECK(near(seconds_of(sums, {8, 8, 1e9, 0, true}), 6.6e-6 + 14 * 0.6e-6));
  CHECK(near(seconds_of(features, {8, 8, 1e9, 0, true}), 6.6e-6 + 7 * 0.6e-6));
  // 256 on 32 hosts: the ring has 510 steps, 64 between hosts; the tree 2 (7 x .6 + 5 x 5.0).
  CHECK(near(seconds_of(sums, {256, 8, 1e9, 1e9, true}), 6.8e-6 + 2 * (7 * 0.6e-6 + 5 * 5e-6)));
  // An all-gather has no tree: 255 steps, 31 between hosts.
  CHECK(near(seconds_of(features, {256, 8, 1e9, 1e9, true}), 6.6e-6 + 224 * 0.6e-6 + 31 * 2.7e-6));
  // A large one goes without a flag beside each word, and its bytes decide.
  CHECK(near(seconds_of(kReduce, {8, 8, 1e9, 0, true}), 14.0 + 8.4e-6 + 14 * 3.4e-6));
}

TEST_CASE("wire: a group of ranks is a cluster of its own: one that is within a host knows no network") {
  const Cluster all{64, 8, 1e9, 1e9, true};
  DryTransfer sums{0, 2};
  sums.ranks = 8;
  CHECK(near(seconds_of(sums, all), 6.6e-6 + 14 * 0.6e-6));
  sums.ranks = 16;  // two hosts: the tree 2 (7 x .6 + 1 x 5.0)
  CHECK(near(seconds_of(sums, all), 6.8e-6 + 2 * (7 * 0.6e-6 + 5e-6)));
  DryTransfer large = kReduce;
  large.ranks = 2;
  CHECK(near(seconds_of(large, {64, 8, 1e9, 1e6, false}), 8.0));
}

TEST_CASE("step time: a collective travels beside the work that is done before it is waited for") {
  const auto check = [](const std::string& what, double seconds, double exposed) {
    const PhasePlan phase = timed(what);
    CHECK(near(phase.seconds.value(), seconds));
    CHECK(std::abs(phase.exposed.value() - exposed) < 1e-12);
  };
  check("ooo", 3, 0);
  check("o+-o", 3, 1);     // nothing in between
  check("o+o-o", 3, 0);    // hidden
  check("o+oo-o", 4, 0);   // and longer than it takes
  check("o+o+-o-", 3, 0);  // the second behind the first: from 2 to 3
  check("o++o--o", 4, 1);  // the same, with less beside it
  check("+++o---", 3, 2);  // one wire
  check("+-o+-", 3, 2);
}

TEST_CASE("step time: what hangs on an unknown rate has no time, and the rest has") {
  DryRun run = step_of("o+o-");
  run.phases.push_back({"more", {{.flop = 1e9}}, {}, 0});
  run.moments.push_back({DryMoment::Kind::work, 1, 0, 1});
  const Rates rates{.fp32 = 1e9, .memory = 1e9};
  const auto phases = timed_phases(run, rates, {4, 4, 0, 0, false});
  CHECK_FALSE(phases[0].seconds.has_value());
  CHECK(phases[0].wire == 1e9);
  CHECK(phases[1].seconds == 1);
  CHECK_FALSE(timed_phases(run, {}, {4, 4, 1e9, 0, false})[1].seconds.has_value());
}

TEST_CASE("step time: gradients travel beside the backward pass, all but those of the last bucket") {
  // Wide enough for several buckets; ops of a recorded step stand among its collectives as those of a plain one do.
  for (const char* graphs : {"auto", "false"}) {
    Setup setup = on_gpus(head_of(1000, 4,
                                  {"model.backbone=iresnet50", "data.image_size=[112, 112]", "data.channels=3",
                                   std::string("train.graphs=") + graphs}));
    Room room;
    room.ranks_per_host = 4;
    Rates rates{.fp32 = 3e12, .half = 3e12, .memory = 1e12, .link = 1e15};
    const double compute = make_plan(setup, room, rates).step_seconds.value();
    rates.link = 2e9;
    const Plan plan = make_plan(setup, room, rates);
    double wire = 0;
    for (const PhasePlan& p : plan.phases) wire += p.wire / rates.link;
    CHECK(wire > 0.5 * compute);
    // All of it would be seen if it began behind the pass.
    CHECK(plan.exposed_seconds.value() < 0.5 * wire);
    CHECK(plan.exposed_seconds.value() > 0);
    // What is computed takes as long on either link; of the fast one a collective is waited for by microseconds.
    CHECK(std::abs(plan.step_seconds.value() - compute - plan.exposed_seconds.value()) < 1e-3 * compute);
  }
}

TEST_CASE("step time: the first step of a recording is counted once, in the phases where it stands") {
  const auto counted = [](const char* graphs) {
    return dry_run(on_gpus(head_of(1000, 4, {std::string("train.graphs=") + graphs})));
  };
  const DryRun recorded = counted("auto"), plain = counted("false");
  REQUIRE(recorded.phases.size() == plain.phases.size());
  for (size_t p = 0; p < plain.phases.size(); ++p) {
    CHECK(recorded.phases[p].name == plain.phases[p].name);
    CHECK(recorded.phases[p].wire == plain.phases[p].wire);
    double flop = 0, bytes = 0;
    for (const DryWork& work : recorded.phases[p].work) flop += work.flop, bytes += work.bytes;
    for (const DryWork& work : plain.phases[p].work) flop -= work.flop, bytes -= work.bytes;
    CHECK(std::abs(flop) < 1);
    CHECK(std::abs(bytes) < 1);
  }
}

TEST_CASE("gpus: what is taken of a datasheet") {
  const Rates v100 = reached_rates(gpu_model("V100"), false), a100 = reached_rates(gpu_model("A100"), true);
  CHECK(near(v100.memory, 0.9 * 900e9));
  CHECK(near(v100.fp32, 0.9 * 15.7e12));
  CHECK(near(v100.link, 0.8 * 150e9));
  CHECK(near(a100.fp32 / a100.half, 156.0 / 312));
  CHECK(near(reached_rates(gpu_model("A100"), false).fp32, 0.9 * 19.5e12));
  CHECK(v100.network == 0);
  CHECK(v100.link_of_host);
  CHECK(test::error_text([] {
          gpu_model("v100");
        }).find("--gpu: found 'v100', expected one of V100, A100, H100, H200") == 0);
}

TEST_CASE("step time: a pipeline computes and sends what its micro-batches do one after another, and waits for less") {
  for (const char* graphs : {"auto", "false"}) {
    INFO("graphs " << graphs);
    const auto planned = [&](const std::string& way) {
      const Setup setup = on_gpus(
          head_of(20000, 4,
                  {"model.backbone=iresnet18", "train.batch_per_rank=32", way, std::string("train.graphs=") + graphs}));
      Room room;
      room.ranks_per_host = 4;
      // The head's exchanges are short beside any stage, and those of the gradients beside the backward pass.
      return make_plan(setup, room, {.fp32 = 3e11, .half = 3e11, .memory = 1e11, .link = 4e10});
    };
    const auto of_head = [](const Plan& plan) {
      const auto head = std::ranges::find(plan.phases, "head", &PhasePlan::name);
      REQUIRE(head != plan.phases.end());
      return head->exposed.value();
    };
    const auto sent = [](const Plan& plan) {
      double sum = 0;
      for (const PhasePlan& p : plan.phases) sum += p.wire;
      return sum;
    };
    const Plan whole = planned("train.accumulate=1"), parts = planned("train.accumulate=4"),
               pipeline = planned("train.pipeline=4");
    CHECK(sent(pipeline) == sent(parts));
    CHECK(of_head(parts) > 0);
    CHECK(of_head(pipeline) < 1e-3 * of_head(parts));
    // Gradients leave as early as in one pass, and not in the last micro-batch's alone.
    CHECK(pipeline.exposed_seconds.value() < parts.exposed_seconds.value());
    CHECK(pipeline.step_seconds.value() < parts.step_seconds.value());
    // Activations of all of them are there at once; what a convolution works in is a micro-batch's.
    const double activations = pipeline.run.of(purpose::kActivations);
    CHECK(activations > 0.8 * whole.run.of(purpose::kActivations));
    CHECK(activations < 1.1 * whole.run.of(purpose::kActivations));
    CHECK(parts.run.of(purpose::kActivations) < 0.5 * activations);
  }
}
