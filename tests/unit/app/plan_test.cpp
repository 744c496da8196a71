// Plans without machines: sizes that are known from elsewhere, what is counted of a step, and what fits.
#include "app/plan/plan.h"

#include <cmath>

#include "app/build.h"
#include "app/plan/print.h"
#include "base/error.h"
#include "plan_setups.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::plan;

namespace {

bool near(double a, double b, double relative) { return std::abs(a - b) <= relative * std::abs(b); }

double bytes_of(const std::vector<Purpose>& purposes, const std::string& name) {
  for (const Purpose& p : purposes)
    if (p.name == name) return p.bytes;
  FAIL("no " << name);
  return 0;
}
double bytes_of(const DryRun& run, const std::string& name) { return bytes_of(run.device, name); }

/// An iresnet of that many layers.
Setup network_of(const std::string& backbone, const std::string& size) {
  return head_of(100, 1, {"model.backbone=" + backbone, "data.image_size=" + size, "train.batch_per_rank=4"});
}

const PhasePlan& phase(const Plan& plan, const std::string& name) {
  for (const PhasePlan& p : plan.phases)
    if (p.name == name) return p;
  FAIL("no phase " << name);
  return plan.phases.front();
}

}  // namespace

TEST_CASE("plan: class centres take what the papers say") {
  CHECK(bytes_of(dry_run(head_of(1'000'000, 1)), "class centres") == 2.048 * kGb);
  CHECK(bytes_of(dry_run(head_of(100'000'000, 1)), "class centres") == 204.8 * kGb);
  CHECK(bytes_of(dry_run(head_of(100'000'000, 100)), "class centres") == 2.048 * kGb);
  CHECK(bytes_of(dry_run(head_of(100'000'000, 100)), "their momentum") == 2.048 * kGb);
  CHECK(bytes_of(dry_run(head_of(1'000'000, 1, {"head.store={dtype: bf16}"})), "class centres") == 1.024 * kGb);
}

TEST_CASE("plan: what a class takes of memory and of a checkpoint") {
  const int64_t classes = 10'000;
  const auto a_class = [&](const std::vector<std::string>& overrides) {
    const Plan plan = make_plan(head_of(classes, 2, overrides), {}, {});
    CHECK(static_cast<double>(checkpoint_bytes(plan)) > plan.run.of("weights") + plan.run.of("momentum"));
    const double rows = static_cast<double>(checkpoint_bytes(plan)) - plan.run.of("weights") - plan.run.of("momentum");
    return rows / static_cast<double>(classes);
  };
  CHECK(a_class({}) == 512 * 8);
  CHECK(a_class({"head.store.dtype=bf16"}) == 512 * 6);
  CHECK(a_class({"head.store={dtype: bf16, momentum: bf16}"}) == 512 * 4);
  const std::string uniform = "head.sampling={method: uniform, ratio: 0.1}";
  CHECK(a_class({uniform, "head.store.dtype=bf16"}) == 512 * 6 + 8);
  CHECK(a_class({uniform, "head.update=lazy"}) == 512 * 8);
  CHECK(a_class({"head.store={tier: host, momentum: bf16}", uniform}) == 512 * 6 + 8);
  CHECK(a_class({"optimizer.head={name: lars}", uniform}) == 512 * 8 + 8);
  CHECK(a_class({"optimizer.head={name: adamw}", uniform}) == 512 * 8 + 4 + 8);
  CHECK(a_class({"optimizer.head={name: lamb}", "head.store.dtype=bf16"}) == 512 * 6 + 4);
  CHECK(a_class({"head.sampling={method: knn, ratio: 0.1, neighbours: 20}"}) == 512 * 8 + 8 + 20 * 4);
  // Loss scaling keeps the gradient of a step until it is known to be finite.
  // A flag besides, and of each segment of the arena less than a mebibyte that is not cut off: of so many classes
  // little.
  const int64_t many = 40 * classes;
  Setup scaled = on_gpus(head_of(many, 1));
  const double without = dry_run(scaled).device_bytes();
  scaled.arithmetic.loss_scaling = true;
  CHECK(near(dry_run(scaled).device_bytes() - without, 512 * 4 * many, 0.01));
}

TEST_CASE("plan: a network keeps what its maps are worth") {
  const double small = dry_run(network_of("iresnet50", "[56, 56]")).of("activations");
  const DryRun large = dry_run(network_of("iresnet50", "[112, 112]"));
  // Four times the pixels; embeddings and what a convolution pads are not of them.
  CHECK(near(large.of("activations"), 4 * small, 0.03));
  CHECK(dry_run(network_of("iresnet100", "[112, 112]")).of("activations") > 1.3 * large.of("activations"));
  Setup gpu = on_gpus(network_of("iresnet50", "[112, 112]"));
  const double full = dry_run(gpu).of("activations");
  gpu.arithmetic.activations = Dtype::bf16;
  // What normalisation keeps of the last layers stays in fp32.
  CHECK(near(dry_run(gpu).of("activations"), full / 2, 0.1));
  Setup exact = network_of("iresnet50", "[56, 56]");
  exact.arithmetic.sums_in_double = true;
  // All but the last normalisation's weights, which are fixed.
  CHECK(near(large.of("gradients"), 4.0 * static_cast<double>(large.parameters), 1e-4));
  CHECK(near(dry_run(exact).of("gradients"), 8.0 * static_cast<double>(dry_run(exact).parameters), 1e-4));
}

TEST_CASE("plan: a batch beyond all memory is counted, too") {
  const Plan some = make_plan(head_of(1000, 1, {"train.batch_per_rank=4096"}), {}, {});
  const Plan many = make_plan(head_of(1000, 1, {"train.batch_per_rank=1000000000"}), {}, {});
  CHECK(many.run.images == 1'000'000'000);
  // Blocks are of whole pages, and a little is there whatever the batch: less than a thousandth of 4096 images.
  const double times = 1e9 / 4096;
  CHECK(near(many.run.of("activations"), times * some.run.of("activations"), 1e-3));
  CHECK(near(phase(many, "forward").flop, times * phase(some, "forward").flop, 1e-9));
  CHECK(many.run.of("weights") == some.run.of("weights"));
  CHECK(many.run.of("class centres") == some.run.of("class centres"));
  // The line begins where counting ends.
  const DryRun next = dry_run(head_of(1000, 1, {"train.batch_per_rank=4097"}));
  CHECK(near(next.device_bytes(), some.run.device_bytes() * 4097 / 4096, 1e-3));
}

TEST_CASE("plan: a batch beyond all counting takes its own number of sampled classes") {
  // Fewer images than a tenth of the rows as far as they are counted one by one, and more of them here.
  const std::vector<std::string> tenth{"head.sampling={method: uniform, ratio: 0.1}", "train.batch_per_rank=20000"};
  const Plan many = make_plan(head_of(100'000, 1, tenth), {}, {});
  CHECK(many.run.images == 20'000);
  CHECK(many.run.active == 20'000);
  CHECK(near(phase(many, "head").flop, 8 * 20'000.0 * 512 * 20'000, 1e-9));
}

TEST_CASE("plan: rows in host memory are the host's, and none of it is taken") {
  const std::vector<std::string> host{"head.store={tier: host, dtype: bf16}",
                                      "head.sampling={method: uniform, ratio: 0.01}"};
  // 204.8 GB, were it real.
  const DryRun cpu = dry_run(head_of(100'000'000, 1, host));
  CHECK(bytes_of(cpu.host, "class centres") == 102.4 * kGb);
  CHECK(bytes_of(cpu.host, "their momentum") == 204.8 * kGb);
  CHECK(bytes_of(cpu, "class centres") + bytes_of(cpu, "their momentum") == 0);
  CHECK(bytes_of(cpu, "their last updates") == 0.8 * kGb);
  CHECK(cpu.counted < 10 * kGb);
  std::vector<std::string> adamw = host;
  adamw.emplace_back("optimizer.head={name: adamw}");
  CHECK(bytes_of(dry_run(head_of(100'000'000, 1, adamw)), "their second moments") == 0.4 * kGb);
  const Plan moments = make_plan(on_gpus(head_of(100'000'000, 4, adamw)), {}, {});
  CHECK(bytes_of(moments.run, "their second moments") == 0.1 * kGb);
  CHECK(phase(moments, "update").far == 2 * 250'000.0 * 512 * (2 + 4));

  const Plan gpu = make_plan(on_gpus(head_of(100'000'000, 4, host)), {}, {});
  CHECK(bytes_of(gpu.run.host, "class centres") == 25.6 * kGb);
  CHECK(gpu.host_bytes() > 76.8 * kGb);
  // The rows of a step are on the device, twice: those of the next are fetched meanwhile. A little room is to spare.
  const double rows = 250'000.0 * 512 * (2 + 4);
  CHECK(bytes_of(gpu.run, "head's tiles") > 2 * rows);
  CHECK(bytes_of(gpu.run, "head's tiles") < 2.5 * rows);
  CHECK(gpu.device_bytes() < 2.5 * kGb);
  // They come and go over a link whose rate has to be known, beside all that the device computes.
  CHECK(phase(gpu, "update").far == 2 * rows);
  CHECK(phase(gpu, "head").far == 0);
  Rates rates{1e18, 1e18, 1e18, 1e18, 0};
  CHECK_FALSE(make_plan(gpu.setup, {}, rates).step_seconds.has_value());
  rates.host = 10 * kGb;
  CHECK(near(make_plan(gpu.setup, {}, rates).step_seconds.value(), 2 * rows / (10 * kGb), 0.01));
  rates.memory = kGb;
  const Plan slow = make_plan(gpu.setup, {}, rates);
  double of_phases = 0;
  for (const PhasePlan& p : slow.phases) of_phases += p.seconds.value();
  CHECK(of_phases > 2 * rows / (10 * kGb));
  CHECK(near(slow.step_seconds.value(), of_phases, 1e-9));
  CHECK(phase(make_plan(head_of(1000, 1, host), {}, {}), "head").far == 0);
}

TEST_CASE("plan: the host decides how many rows it holds") {
  const Setup setup = on_gpus(head_of(1'000'000, 2, {"head.store.tier=host"}));
  Room room;
  room.device = 4 * kGb;
  CHECK_FALSE(largest_classes(make_plan(setup, room, {})).has_value());
  room.host = 100 * kGb;
  const auto most = static_cast<double>(largest_classes(make_plan(setup, room, {})).value());
  // The network, the program and the images take less than 3 % of it.
  CHECK(most * 4096 / 2 < 100 * kGb);
  CHECK(most * 4096 / 2 > 0.97 * 100 * kGb);
  CHECK(headline(make_plan(setup, room, {})).find(" of host memory: class centres ") != std::string::npos);
}

TEST_CASE("plan: the head multiplies 8 B C D times a step, and sampling saves its share") {
  const int64_t classes = 100'000;
  const double batch = 4 * 16, products = 8 * batch * 512 * static_cast<double>(classes / 4);
  const Plan full = make_plan(head_of(classes, 4), {}, {});
  CHECK(near(phase(full, "head").flop, products, 1e-12));
  const Plan sampled = make_plan(head_of(classes, 4, {"head.sampling={method: uniform, ratio: 0.1}"}), {}, {});
  CHECK(near(phase(sampled, "head").flop, products / 10, 1e-12));
  CHECK(sampled.run.active == 2500);
}

TEST_CASE("plan: the class graph is all classes against the rank's own, and both are read for it") {
  constexpr int64_t kClasses = 300'000;
  constexpr double kRows = kClasses / 4.0, kAll = kClasses * 512.0;
  const auto graph_of = [](const std::vector<std::string>& more, const Rates& rates) {
    std::vector<std::string> overrides{"head.sampling={method: knn, ratio: 0.1}"};
    overrides.insert(overrides.end(), more.begin(), more.end());
    return make_plan(on_gpus(head_of(kClasses, 4, overrides)), {}, rates).graph.value();
  };
  const PhasePlan graph = graph_of({}, {});
  CHECK(graph.flop == 2 * kRows * kAll);
  CHECK(near(graph.wire, 2 * (3.0 / 4) * kAll * 4, 1e-12));
  CHECK(graph.far == 0);
  CHECK_FALSE(graph.seconds.has_value());
  // Blocks of 16,384 classes, five a rank: each that comes by meets all rows of the rank, which also sends its own.
  const double own = 2 * (4 * 5 + 1) * kRows * 512;
  CHECK(graph_of({"head.store.tier=host", "head.update=lazy"}, {}).far == own * 4);
  CHECK(graph_of({"head.store={tier: host, dtype: bf16}", "head.update=lazy"}, {}).far == own * 2);
  // Whoever reads a row that lags reads its momentum, too.
  CHECK(graph_of({"head.store.tier=host"}, {}).far == own * (4 + 4));
  // The rows that were read for it, wherever they lie.
  CHECK(graph.bytes - graph_of({"head.store.tier=host"}, {}).bytes == own * (4 + 4));

  const double much = 1e24;
  Rates rates{.fp32 = 1e12, .half = much, .memory = much, .link = much, .host = much};
  CHECK(near(graph_of({}, rates).seconds.value(), 2 * kRows * kAll / 1e12, 1e-6));
  rates = {.fp32 = much, .half = much, .memory = much, .link = much, .host = kGb};
  CHECK(near(graph_of({"head.store.tier=host"}, rates).seconds.value(), own * 8 / kGb, 1e-6));
  rates = {.fp32 = much, .half = much, .memory = much, .link = kGb, .host = much};
  CHECK(near(graph_of({}, rates).seconds.value(), 2 * (3.0 / 4) * kAll * 4 / kGb, 1e-6));
  CHECK_FALSE(make_plan(head_of(1000, 1), {}, {}).graph.has_value());
}

TEST_CASE("plan: the head's products are in fp32 on a GPU without bf16") {
  Setup setup = on_gpus(head_of(100'000, 1));
  setup.arithmetic.activations = Dtype::f16;
  const auto type_of_head = [&] {
    for (const DryPhase& phase : dry_run(setup).phases) {
      if (phase.name != "head") continue;
      for (const DryWork& work : phase.work)
        if (work.flop > 0) return work.type;
    }
    FAIL("the head multiplies nothing");
    return Dtype::f64;
  };
  CHECK(type_of_head() == Dtype::bf16);
  setup.gpu.bf16 = false;
  CHECK(type_of_head() == Dtype::f32);
  // Of which there is a rate of its own.
  const Rates rates{.fp32 = 1e12, .half = 1e18, .memory = 1e18};
  const Plan plan = make_plan(setup, {}, rates);
  CHECK(near(phase(plan, "head").seconds.value(), phase(plan, "head").flop / 1e12, 1e-6));
}

TEST_CASE("plan: tiles of the head are cut by the GPU's cache") {
  Setup setup = on_gpus(head_of(1'000'000, 1));
  const double tiles = dry_run(setup).of("head's tiles");
  setup.gpu.cache /= 4;
  CHECK(dry_run(setup).of("head's tiles") < tiles / 2);
}

TEST_CASE("plan: memory of a GPU is counted by its arena, with what it keeps") {
  const DryRun run = dry_run(on_gpus(head_of(100'000, 1)));
  // 204.8 MB each: whole segments of 2 MiB, cut where a mebibyte is left.
  CHECK(run.kept > 0);
  CHECK(run.counted > run.device_bytes());
  CHECK(std::fmod(run.counted, 2 << 20) == 0);
  CHECK_THROWS_AS(run.of("class centers"), LogicError);
}

TEST_CASE("plan: bytes on the wire are those of rings") {
  const Plan alone = make_plan(head_of(1000, 1), {}, {});
  for (const PhasePlan& p : alone.phases) CHECK((p.wire == 0 && p.messages == 0));
  const Plan four = make_plan(head_of(1000, 4), {}, {});
  // Embeddings there, their gradients back, sums of exponentials and target cosines, largest cosines.
  const double batch = 64, share = 3.0 / 4;
  // The last two are small: over MPI a rank sends all of them to the three others, at once.
  CHECK(near(phase(four, "head").wire, share * batch * (512 * 4 + 512 * 4) + 3 * batch * (2 * 8 + 4), 1e-12));
  CHECK(phase(four, "head").messages == 3 * 4);
  const Plan gpus = make_plan(on_gpus(head_of(1000, 4)), {}, {});
  CHECK(near(phase(gpus, "head").wire, share * batch * (512 * 4 + 512 * 4 + 2 * (2 * 8 + 4)), 1e-12));
  CHECK(phase(gpus, "head").messages == 3 * (1 + 1 + 2 + 2));
  const Plan gpus_by_mpi = make_plan(on_gpus(head_of(1000, 4, {"comm.backend=mpi"})), {}, {});
  CHECK(phase(gpus_by_mpi, "head").messages == 3 * 4);
  // At least the gradients; beside them the statistics of batch norm, and padding to cache lines.
  const double gradients = 2 * share * 4 * static_cast<double>(four.run.parameters);
  // These come to less than a tenth, of so small a network.
  CHECK(phase(four, "backward").wire > gradients);
  CHECK(phase(four, "backward").wire < 1.1 * gradients);
}

TEST_CASE("plan: a step takes as long as its slowest rate says") {
  const Setup setup = head_of(1'000'000, 1);
  Rates rates;
  rates.fp32 = 1e12;
  CHECK_FALSE(make_plan(setup, {}, rates).step_seconds.has_value());
  rates.memory = 1e15;
  const Plan by_products = make_plan(setup, {}, rates);
  CHECK(near(phase(by_products, "head").seconds.value(), phase(by_products, "head").flop / rates.fp32, 1e-3));
  rates = {1e18, 0, 1e9, 0};
  const Plan by_memory = make_plan(setup, {}, rates);
  CHECK(near(phase(by_memory, "head").seconds.value(), phase(by_memory, "head").bytes / rates.memory, 1e-3));
  // Several ranks need the link's rate, too.
  CHECK_FALSE(make_plan(head_of(1000, 2), {}, rates).step_seconds.has_value());
  rates.link = 1e9;
  CHECK(make_plan(head_of(1000, 2), {}, rates).step_seconds.has_value());
}

TEST_CASE("plan: the largest number of classes fits, and little more does not") {
  Room room;
  room.host = 8 * kGb;
  const Plan plan = make_plan(head_of(1000, 3), room, {});
  CHECK(plan.fits());
  CHECK(advice(plan).empty());
  const int64_t most = largest_classes(plan).value();
  CHECK(make_plan(head_of(most, 3), room, {}).fits());
  // The search ends at a 2000th.
  CHECK_FALSE(make_plan(head_of(most + most / 500, 3), room, {}).fits());
  // Weights and momentum alone would be 4096 bytes a class; the rest is less than 3 % of so much memory.
  CHECK(static_cast<double>(most) * 4096 / 3 < 8 * kGb);
  CHECK(static_cast<double>(most) * 4096 / 3 > 0.97 * 8 * kGb);
  room.host = 1 << 20;
  CHECK(largest_classes(make_plan(head_of(1000, 3), room, {})) == 0);
  CHECK_FALSE(largest_classes(make_plan(head_of(1000, 3), {}, {})).has_value());
}

TEST_CASE("plan: a sharded head on eight GPUs of 32 GB holds far more classes than a replicated one") {
  Setup setup = head_of(1'000'000, 8,
                        {"model.backbone=resnet50", "data.image_size=[112, 112]", "data.channels=3",
                         "train.batch_per_rank=64", "device=cuda"});
  setup.device = DeviceKind::cuda;
  Room room;
  room.device = 32 * kGb;
  const Plan plan = make_plan(setup, room, {});
  const auto sharded = static_cast<double>(largest_classes(plan).value());
  const auto replicated = static_cast<double>(largest_replicated(plan).value());
  // PLSC says 2.52 times as many as without it, with logits and a gradient of the shard in memory.
  CHECK(sharded / replicated > 2.52);
  // Weights and momentum are 4096 bytes a class, against 6144 and logits: no more than this.
  CHECK(sharded / replicated < 8 * (6144 + 2.0 * 64 * 4) / 4096);
  CHECK(sharded > 50e6);
}

TEST_CASE("plan: what does not fit names a change that is enough") {
  Room room;
  room.host = 6 * kGb;
  const Plan two = make_plan(head_of(2'000'000, 1), room, {});
  CHECK_FALSE(two.fits());
  // 8.2 GB of weights and momentum; bf16 weights leave 6.1, momentum in it 4.1, four ranks of fp32 2.0.
  CHECK(begins_with(advice(two), "head.store: {dtype: bf16, momentum: bf16}: then a rank takes"));
  room.host = 3 * kGb;
  CHECK(begins_with(advice(make_plan(head_of(2'000'000, 1), room, {})), "4 ranks on 4 hosts: then a rank takes"));
  room.host = 7 * kGb;
  CHECK(begins_with(advice(make_plan(head_of(2'000'000, 1), room, {})), "head.store: {dtype: bf16}: then"));
  // Activations: what costs time alone, as little of it as is enough; then the same batch in more passes.
  const auto wide = [](const std::string& recompute) {
    return head_of(1000, 1,
                   {"data.image_size=[112, 112]", "train.batch_per_rank=256",
                    "model.backbone={kind: iresnet, stem: 8, widths: [8, 16, 16], blocks: [4, 6, 6]}", recompute});
  };
  const auto taken = [&](const std::string& recompute) { return make_plan(wide(recompute), {}, {}).host_bytes(); };
  const double two_parts = taken("model.recompute=[stem, layer1]"), all_parts = taken("model.recompute=all");
  const double three_parts = taken("model.recompute=[stem, layer1, layer2]");
  REQUIRE(all_parts <= three_parts);
  REQUIRE(three_parts < 0.95 * two_parts);
  const auto first_change = [&](double host, const std::string& recompute = "model.recompute=[]") {
    room.host = host;
    const std::string text = advice(make_plan(wide(recompute), room, {}));
    return text.substr(0, text.find(": then"));
  };
  CHECK(first_change(two_parts) == "model.recompute: [stem, layer1]");
  CHECK(first_change(three_parts) == "model.recompute: [stem, layer1, layer2]");
  CHECK(first_change(three_parts, "model.recompute=layer2") == "model.recompute: [layer2, stem, layer1]");
  CHECK(begins_with(first_change(0.9 * all_parts), "train.accumulate: "));
  CHECK(begins_with(first_change(0.9 * all_parts, "model.recompute=all"), "train.accumulate: "));
  // GPUs whose host's memory is known.
  room = {};
  room.device = 3 * kGb;
  const Setup gpu = on_gpus(head_of(2'000'000, 1));
  CHECK(begins_with(advice(make_plan(gpu, room, {})), "4 ranks: then"));
  room.host = 16 * kGb;
  CHECK(begins_with(advice(make_plan(gpu, room, {})), "head.store: {tier: host}: then a rank takes "));
  room.host = 6 * kGb;
  CHECK(begins_with(advice(make_plan(gpu, room, {})), "head.store: {tier: host, dtype: bf16, momentum: bf16}: then"));
  CHECK(headline(two).find(" of 5.6 GiB a rank: ") != std::string::npos);
}

TEST_CASE("plan: more ranks share the memory of a host, and further ones want further hosts") {
  Room room;
  room.host = 12 * kGb;
  room.ranks_per_host = 8;
  // 24.6 GB of weights and momentum, 12.3 in bf16; what a program takes comes once a rank.
  const Plan alone = make_plan(head_of(6'000'000, 1), room, {});
  CHECK(alone.host_room() == 12 * kGb);
  CHECK(begins_with(advice(alone), "32 ranks on 4 hosts: then a rank takes "));
  CHECK(make_plan(head_of(6'000'000, 2), room, {}).host_room() == 6 * kGb);
  CHECK_FALSE(make_plan(head_of(6'000'000, 2), room, {}).fits());
  CHECK(make_plan(head_of(6'000'000, 32), room, {}).fits());
  CHECK(largest_classes(make_plan(head_of(1000, 4), room, {})) <
        largest_classes(make_plan(head_of(1000, 1), room, {})));
}

TEST_CASE("plan: what ranks that run have taken is not taken again") {
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda}) {
    Setup setup = head_of(1'000'000, 4);
    setup.device = device;
    setup.program = 1 << 20;
    setup.running = true;
    const double more = dry_run(setup).host_bytes() - static_cast<double>(setup.program);
    // An index of many samples, say.
    setup.program = int64_t{50} << 30;
    CHECK(dry_run(setup).host_bytes() - static_cast<double>(setup.program) == more);
    const double needed = make_plan(setup, {}, {}).host_bytes() - static_cast<double>(setup.program);
    CHECK(make_plan(setup, room_beside(2 * needed + 100, setup.program, 2), {}).fits());
    CHECK_FALSE(make_plan(setup, room_beside(2 * needed - 100, setup.program, 2), {}).fits());
    // Memory of MPI and of a GPU's context is in it already.
    setup.running = false;
    CHECK(dry_run(setup).host_bytes() - static_cast<double>(setup.program) > more);
  }
  CHECK_FALSE(room_beside(std::nullopt, 1 << 20, 2).host.has_value());
}

TEST_CASE("plan: of what is free, the digits that change are left out") {
  constexpr int64_t kGiB = int64_t{1} << 30;
  CHECK(steady_part(11 * kGiB + 12'345'678) == 11.0 * kGiB);
  CHECK(steady_part(11 * kGiB + (kGiB >> 3) + 1) == 11.125 * kGiB);
  CHECK(steady_part(100) == 100);
  for (const int64_t bytes : {kGiB - 1, kGiB, 500 * kGiB - 1, int64_t{1} << 62})
    CHECK(steady_part(bytes) > static_cast<double>(bytes) * 63 / 64);
}

TEST_CASE("plan: the search for the most classes ends where no training could have more") {
  const std::string knn = "head.sampling={method: knn, ratio: 0.1}";
  constexpr int64_t kMostGraph = 2'147'483'647;
  Room room;
  room.device = room.host = 80 * kGb;
  const Plan plan = make_plan(on_gpus(head_of(1'000'000, 256, {knn})), room, {});
  CHECK(largest_classes(plan).value() == kMostGraph);
  CHECK_THROWS_AS(with_classes(plan, kMostGraph + 1), Error);
  // Fewer fit, and the search would try more.
  for (const auto& [ranks, store] : {std::pair{8, "bf16"}, {128, "fp32"}}) {
    const std::string type = std::string("head.store.dtype=") + store;
    const auto most = largest_classes(make_plan(on_gpus(head_of(1'000'000, ranks, {knn, type})), room, {})).value();
    CHECK(most > 10'000'000 * int64_t{ranks});
    CHECK(most < kMostGraph);
  }
  room.host = 1e18;
  const Plan full = make_plan(head_of(1000, 2), room, {});
  CHECK(largest_classes(full).value() == most_classes(full.setup));
  CHECK_THROWS_AS(with_classes(full, most_classes(full.setup) + 1), Error);
}

TEST_CASE("plan: the room of sums in bf16 between GPUs is counted, and half the bytes") {
  const auto run_of = [](int ranks, const char* type) {
    return dry_run(on_gpus(head_of(1000, ranks, {std::string("comm.dtype=") + type})));
  };
  const auto sent = [](const DryRun& run) {
    double bytes = 0;
    for (const DryPhase& phase : run.phases) bytes += phase.wire;
    return bytes;
  };
  const DryRun wide = run_of(4, "fp32"), narrow = run_of(4, "bf16"), alone = run_of(1, "bf16");
  CHECK(bytes_of(wide, "sums in bf16") == 0);
  CHECK(bytes_of(alone, "sums in bf16") == 0);
  // This network's gradients are one bucket: 2 bytes each to send, and 2 received. Tensors are padded to 64 bytes.
  CHECK(near(bytes_of(narrow, "sums in bf16"), 4 * static_cast<double>(narrow.parameters), 0.02));
  CHECK(narrow.device_bytes() - bytes_of(narrow, "sums in bf16") == wide.device_bytes());
  // Each rank sends 3/4 of what it has twice: 4 bytes a parameter, or 2.
  CHECK(near(sent(wide) - sent(narrow), 2 * 0.75 * 2 * static_cast<double>(wide.parameters), 0.01));
}

TEST_CASE("plan: sampling that no training takes is named") {
  SamplingConfig sampling;
  sampling.method = "uniform";
  sampling.active = 1001;
  CHECK(begins_with(sampling_mistake(sampling, 1000, ""), "head.sampling.active: found 1001, expected at most"));
  CHECK(sampling_mistake(sampling, 1001, "").empty());
  sampling = {};
  sampling.method = "knn";
  CHECK(sampling_mistake(sampling, kMostGraphClasses, "a device").empty());
  CHECK(
      begins_with(sampling_mistake(sampling, kMostGraphClasses + 1, ""), "head.sampling.method: found knn with 2147"));
  sampling.scoring = "bf16";
  CHECK(sampling_mistake(sampling, 1000, "") == "");
  CHECK(sampling_mistake(sampling, 1000, "a device") ==
        "head.sampling.scoring: found bf16, expected fp32: a device has no bf16");
}

TEST_CASE("plan: a training that could not be is an error") {
  const auto error_of = [](const std::vector<std::string>& overrides) -> std::string {
    try {
      dry_run(head_of(1000, 4, overrides));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(
      begins_with(error_of({"train.batch_per_rank=auto", "train.batch_size=3"}),
                  "train.batch_size: the batch of 3 images is smaller than the ranks, 4: some ranks would have none"));
  CHECK(
      begins_with(error_of({"train.batch_per_rank=auto", "train.batch_size=7", "train.accumulate=2"}),
                  "train.batch_size: the batch of 7 images is smaller than the ranks times train.accumulate, 4 x 2:"));
  CHECK(begins_with(
      error_of({"train.batch_per_rank=auto", "train.batch_size=23", "train.accumulate=2", "train.pipeline=3"}),
      "train.batch_size: the batch of 23 images is smaller than the ranks times train.accumulate times "
      "train.pipeline, 4 x 2 x 3:"));
}

TEST_CASE("plan: the moment of the peak is told") {
  CHECK(dry_run(network_of("iresnet50", "[112, 112]")).moment == "backward");
  const Setup graph = on_gpus(head_of(200'000, 1, {"head.sampling={method: knn, ratio: 0.01}"}));
  CHECK(dry_run(graph).moment == "building the class graph");
  CHECK(table(make_plan(graph, {}, {}), {}, "").find("GPU memory of a rank at its peak (building the class graph)\n") !=
        std::string::npos);
}
