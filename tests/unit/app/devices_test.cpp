// Which device each rank takes, how ranks are joined and what `auto` comes to, from every kind of machine and
// scheduler.
#include "app/devices.h"

#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

Config config_of(const std::string& yaml) { return parse_config("data: {train: synthetic}\n" + yaml, "f").config; }

CudaProbe machine_with(int gpus, int capability = 90) {
  CudaProbe probe;
  probe.built = true;
  for (int i = 0; i < gpus; ++i) probe.gpus.push_back({"NVIDIA Test", "id" + std::to_string(i), capability, 1 << 30});
  if (gpus == 0) probe.problem = "no driver is loaded";
  return probe;
}

CudaProbe build_without() {
  CudaProbe probe;
  probe.problem = "this build of plsc-train has no CUDA backend";
  return probe;
}

/// `ranks` ranks of one host that all see the same GPUs.
std::vector<RankGpus> host_of(int ranks, int gpus, int node = 0) {
  RankGpus rank{node, "host" + std::to_string(node), {}};
  for (int i = 0; i < gpus; ++i) rank.ids.push_back(fmt::format("{}.{}", node, i));
  return std::vector<RankGpus>(static_cast<size_t>(ranks), rank);
}

}  // namespace

TEST_CASE("the GPUs that may be taken") {
  const auto usable = [](const std::string& yaml, const CudaProbe& probe) {
    return usable_gpus(config_of(yaml), probe);
  };
  CHECK(usable("device: cuda", machine_with(3)) == std::vector<int>{0, 1, 2});
  CHECK(usable("device: auto", machine_with(2)) == std::vector<int>{0, 1});
  CHECK(usable("gpus: [2, 0]", machine_with(3)) == std::vector<int>{2, 0});
  CHECK(usable("device: cpu", machine_with(3)).empty());
  CHECK(usable("device: auto", machine_with(0)).empty());
  CHECK(usable("device: auto", build_without()).empty());
  CHECK(automatic_ranks(config_of("gpus: [2, 0]"), machine_with(3)) == 2);
  CHECK(automatic_ranks(config_of(""), machine_with(4)) == 4);
  CHECK(automatic_ranks(config_of(""), machine_with(0)) == 1);
  CHECK(automatic_ranks(config_of("device: cpu"), machine_with(4)) == 1);
}

TEST_CASE("a GPU that is not there is refused by name") {
  const auto refusal = [](const std::string& yaml, const CudaProbe& probe) {
    return error_text([&] { usable_gpus(config_of(yaml), probe); });
  };
  CHECK(
      contains_all(refusal("device: cuda", machine_with(0)), {"device: cuda: no driver is loaded", "use device: cpu"}));
  CHECK(
      contains_all(refusal("device: cuda", build_without()), {"device: cuda: this build", "use device: cpu, or auto"}));
  CudaProbe bundle = build_without();
  bundle.remedy = "set PLSC_CUDA_LIBS";
  CHECK(contains_all(refusal("device: cuda", bundle), {"device: cuda: this build", "set PLSC_CUDA_LIBS"}));
  CHECK(contains_all(refusal("comm: {backend: nccl}", build_without()),
                     {"comm.backend: nccl: this build", "comm.backend: auto or mpi"}));
  CHECK(contains_all(refusal("comm: {backend: nccl}", machine_with(0)),
                     {"comm.backend: nccl: no driver", "auto or mpi"}));
  CHECK(contains_all(refusal("gpus: [0, 5]", machine_with(2)), {"gpus: found 5, but 2 GPUs are visible"}));
  CHECK(contains_all(refusal("gpus: 1", machine_with(1)), {"gpus: found 1, but 1 GPU is", "CUDA_VISIBLE_DEVICES"}));
}

TEST_CASE("each rank takes a GPU of its own") {
  SECTION("all ranks of a host see all of its GPUs") {
    const Placement p = place_ranks(host_of(3, 4), false);
    CHECK(p.gpu == std::vector<int>{0, 1, 2});
    CHECK_FALSE(p.shared);
  }
  SECTION("a scheduler shows each rank one GPU, which all call number 0") {
    std::vector<RankGpus> ranks = host_of(3, 1);
    for (size_t r = 0; r < 3; ++r) ranks[r].ids = {"gpu" + std::to_string(r)};
    const Placement p = place_ranks(ranks, false);
    CHECK(p.gpu == std::vector<int>{0, 0, 0});
    CHECK_FALSE(p.shared);
  }
  SECTION("a scheduler shows each rank two of its own") {
    std::vector<RankGpus> ranks = host_of(2, 0);
    ranks[0].ids = {"a", "b"};
    ranks[1].ids = {"c", "d"};
    CHECK(place_ranks(ranks, false).gpu == std::vector<int>{0, 0});
  }
  SECTION("several hosts, ranks dealt in turns") {
    const std::vector<RankGpus> one = host_of(2, 2, 0), two = host_of(2, 2, 1);
    const Placement p = place_ranks({one[0], two[0], one[1], two[1]}, false);
    CHECK(p.gpu == std::vector<int>{0, 0, 1, 1});
    CHECK_FALSE(p.shared);
  }
  SECTION("no GPU anywhere: the CPU") { CHECK(place_ranks(host_of(3, 0), false).gpu.empty()); }
}

TEST_CASE("more ranks than GPUs") {
  CHECK(contains_all(error_text([&] { place_ranks(host_of(4, 2), false); }),
                     {"4 ranks on host host0, but 2 GPUs", "fewer ranks", "comm: {backend: mpi}"}));
  CHECK(
      contains(error_text([&] { place_ranks(host_of(2, 1, 7), false); }), "2 ranks on host host7, but 1 GPU for them"));
  const Placement p = place_ranks(host_of(5, 2), true);
  CHECK(p.gpu == std::vector<int>{0, 1, 0, 1, 0});
  CHECK(p.shared);
  CHECK_FALSE(place_ranks(host_of(2, 2), true).shared);
  // The host that is short is the one that is named.
  std::vector<RankGpus> ranks = host_of(2, 2, 0);
  for (const RankGpus& rank : host_of(2, 1, 2)) ranks.push_back(rank);
  CHECK(contains(error_text([&] { place_ranks(ranks, false); }), "2 ranks on host host2, but 1 GPU"));
}

TEST_CASE("a rank without a GPU among others that have one") {
  std::vector<RankGpus> ranks = host_of(2, 2, 0);
  ranks.push_back(host_of(1, 0, 2)[0]);
  CHECK(
      contains_all(error_text([&] { place_ranks(ranks, true); }), {"rank 2 (host host2) sees no GPU", "device: cpu"}));
}

TEST_CASE("what joins the ranks") {
  const Placement cpus, own{{0, 1}, false}, shared{{0, 0}, true};
  const auto chosen = [](const std::string& backend, const Placement& placement, int ranks) {
    return choose_transport(config_of("comm: {backend: " + backend + "}"), placement, ranks);
  };
  CHECK(chosen("auto", cpus, 1) == Transport::local);
  CHECK(chosen("auto", cpus, 2) == Transport::host);
  CHECK(chosen("mpi", cpus, 2) == Transport::host);
  CHECK(chosen("auto", own, 2) == Transport::nccl);
  CHECK(chosen("nccl", own, 2) == Transport::nccl);
  CHECK(chosen("mpi", own, 2) == Transport::staged);
  CHECK(chosen("mpi", shared, 2) == Transport::staged);
  CHECK(chosen("auto", {{0}, false}, 1) == Transport::local);
  CHECK(chosen("mpi", {{0}, false}, 1) == Transport::local);
  CHECK(chosen("nccl", {{0}, false}, 1) == Transport::nccl);
  CHECK(contains_all(error_text([&] { chosen("nccl", cpus, 2); }), {"comm.backend: nccl", "auto or mpi"}));
}

TEST_CASE("precision: auto is the best that the device has") {
  const auto precision = [](int capability) {
    const CudaProbe probe = machine_with(1, capability);
    return choose_arithmetic(config_of("train: {precision: auto}"), &probe.gpus[0], false).precision;
  };
  CHECK(precision(90) == "bf16");
  CHECK(precision(80) == "bf16");
  CHECK(precision(75) == "fp16");
  CHECK(precision(70) == "fp16");
  CHECK(precision(61) == "fp32");
  const Arithmetic cpu = choose_arithmetic(config_of("train: {precision: auto}"), nullptr, true);
  CHECK(cpu.precision == "fp32");
  CHECK(cpu.activations == Dtype::f32);
}

TEST_CASE("what a precision means") {
  const CudaProbe probe = machine_with(1);
  const auto arithmetic = [&](const std::string& p) {
    return choose_arithmetic(config_of("train: {precision: " + p + "}"), &probe.gpus[0], false);
  };
  CHECK(arithmetic("fp32").activations == Dtype::f32);
  CHECK_FALSE(arithmetic("fp32").tf32);
  CHECK(arithmetic("tf32").activations == Dtype::f32);
  CHECK(arithmetic("tf32").tf32);
  CHECK(arithmetic("bf16").activations == Dtype::bf16);
  CHECK_FALSE(arithmetic("bf16").loss_scaling);
  CHECK(arithmetic("fp16").activations == Dtype::f16);
  CHECK(arithmetic("fp16").loss_scaling);
}

TEST_CASE("a precision that the device lacks is refused by name, with one that it has") {
  const auto refusal = [](const std::string& p, int capability) {
    const CudaProbe probe = machine_with(1, capability);
    const Config config = config_of("train: {precision: " + p + "}");
    return error_text([&] { choose_arithmetic(config, capability > 0 ? &probe.gpus[0] : nullptr, false); });
  };
  CHECK(
      contains_all(refusal("bf16", 75), {"train.precision: bf16", "7.5", "8.0", "use train.precision: fp16 or fp32"}));
  CHECK(
      contains_all(refusal("tf32", 70), {"train.precision: tf32", "7.0", "8.0", "use train.precision: fp32 or fp16"}));
  CHECK(contains_all(refusal("fp16", 61), {"train.precision: fp16", "6.1", "7.0", "use train.precision: fp32"}));
  CHECK(contains_all(refusal("bf16", 0), {"train.precision: bf16: this CPU", "use train.precision: fp32"}));
  CHECK(contains_all(refusal("fp16", 0), {"train.precision: fp16", "CPU", "use train.precision: fp32"}));
  CHECK(contains_all(refusal("tf32", 0), {"train.precision: tf32", "CPU"}));
}

TEST_CASE("deterministic: exact sums on a CPU, algorithms that repeat on a GPU") {
  const CudaProbe probe = machine_with(1);
  const auto on_cpu = [](const std::string& yaml) { return choose_arithmetic(config_of(yaml), nullptr, true); };
  const auto on_gpu = [&](const std::string& yaml) {
    return choose_arithmetic(config_of(yaml), &probe.gpus[0], false);
  };
  CHECK_FALSE(on_cpu("").sums_in_double);
  CHECK(on_cpu("model: {sync_batch_norm: true}").sums_in_double);
  CHECK_FALSE(on_cpu("model: {sync_batch_norm: 2}").sums_in_double);  // another number of ranks is another training
  CHECK(on_cpu("model: {sync_batch_norm: 2}\ntrain: {deterministic: true}").sums_in_double);
  CHECK_FALSE(on_cpu("model: {sync_batch_norm: true}\ntrain: {precision: bf16}").sums_in_double);
  CHECK_FALSE(on_cpu("model: {sync_batch_norm: true}\ntrain: {deterministic: false}").sums_in_double);
  CHECK(on_cpu("train: {deterministic: true}").sums_in_double);
  CHECK_FALSE(on_cpu("train: {deterministic: true}").deterministic);
  CHECK(contains(error_text([&] { on_cpu("train: {deterministic: true, precision: bf16}"); }), "train.deterministic"));
  CHECK_FALSE(on_gpu("model: {sync_batch_norm: true}").sums_in_double);
  CHECK_FALSE(on_gpu("model: {sync_batch_norm: true}").deterministic);
  CHECK(on_gpu("train: {deterministic: true, precision: bf16}").deterministic);
  CHECK_FALSE(on_gpu("train: {deterministic: true}").sums_in_double);
}

TEST_CASE("device: auto says what it took and why, and a build without CUDA says nothing") {
  CHECK(explain_automatic_device(config_of(""), machine_with(2)) == "cuda: 2 GPUs here, NVIDIA Test");
  CHECK(explain_automatic_device(config_of(""), machine_with(0)) == "cpu: no driver is loaded");
  CHECK(explain_automatic_device(config_of(""), build_without()).empty());
  CHECK(explain_automatic_device(config_of("device: cpu"), machine_with(2)).empty());
}
