#include "app/devices.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "backend/capability.h"
#include "base/error.h"

namespace plsc {
namespace {

std::string count_of(size_t n, const std::string& what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

/// The ranks of one host in order, each with its number.
std::map<int, std::vector<int>> ranks_by_node(const std::vector<RankGpus>& ranks) {
  std::map<int, std::vector<int>> nodes;
  for (size_t r = 0; r < ranks.size(); ++r) nodes[ranks[r].node].push_back(static_cast<int>(r));
  return nodes;
}

[[noreturn]] void fail_too_many(const std::string& host, size_t ranks, size_t gpus) {
  fail_hint(
      "use fewer ranks, or let ranks share a GPU, which is slower: comm: {backend: mpi}; where a scheduler binds GPUs, "
      "give each of its tasks one",
      "{} on host {}, but {} for them", count_of(ranks, "rank"), host, gpus == 1 ? "1 GPU" : count_of(gpus, "GPU"));
}

/// Not all ranks have a GPU: those of which host have none.
[[noreturn]] void fail_without(const std::vector<RankGpus>& ranks) {
  const auto without = std::find_if(ranks.begin(), ranks.end(), [](const RankGpus& r) { return r.ids.empty(); });
  fail_hint("make the GPUs visible there, or use device: cpu for all ranks",
            "rank {} (host {}) sees no GPU, while other ranks do", without - ranks.begin(), without->host);
}

}  // namespace

std::vector<int> usable_gpus(const Config& config, const CudaProbe& probe) {
  const bool insists = config.device == "cuda" || config.comm.backend == "nccl";
  if (config.device == "cpu") return {};
  if (insists && probe.gpus.empty()) {
    if (config.device != "cuda") fail_hint("use comm.backend: auto or mpi", "comm.backend: nccl: {}", probe.problem);
    const char* otherwise = probe.built ? "use device: cpu" : "use device: cpu, or auto";
    fail_hint(probe.remedy.empty() ? otherwise : probe.remedy, "device: cuda: {}", probe.problem);
  }
  if (probe.gpus.empty()) return {};
  std::vector<int> usable(config.gpus.begin(), config.gpus.end());
  if (usable.empty()) {
    usable.resize(probe.gpus.size());
    std::iota(usable.begin(), usable.end(), 0);
  }
  for (const int number : usable) {
    if (number < static_cast<int>(probe.gpus.size())) continue;
    fail_hint("CUDA_VISIBLE_DEVICES and the scheduler decide which are visible; gpus: [] takes them all",
              "gpus: found {}, but {} visible, with numbers from 0", number,
              probe.gpus.size() == 1 ? "1 GPU is" : fmt::format("{} GPUs are", probe.gpus.size()));
  }
  return usable;
}

int automatic_ranks(const Config& config, const CudaProbe& probe) {
  return std::max(1, static_cast<int>(usable_gpus(config, probe).size()));
}

Placement place_ranks(const std::vector<RankGpus>& ranks, bool may_share) {
  Placement placement;
  const auto has_none = [](const RankGpus& r) { return r.ids.empty(); };
  if (std::all_of(ranks.begin(), ranks.end(), has_none)) return placement;
  if (std::any_of(ranks.begin(), ranks.end(), has_none)) fail_without(ranks);
  placement.gpu.resize(ranks.size());
  for (const auto& [node, members] : ranks_by_node(ranks)) {
    std::map<std::string, int> taken;  // how many ranks have each GPU of this host
    for (const int r : members) {
      for (const std::string& id : ranks[static_cast<size_t>(r)].ids) taken[id] += 0;
    }
    for (const int r : members) {
      const std::vector<std::string>& ids = ranks[static_cast<size_t>(r)].ids;
      const auto best = std::min_element(
          ids.begin(), ids.end(), [&](const std::string& a, const std::string& b) { return taken[a] < taken[b]; });
      if (taken[*best]++ > 0) {
        placement.shared = true;
        if (!may_share) fail_too_many(ranks[static_cast<size_t>(r)].host, members.size(), taken.size());
      }
      placement.gpu[static_cast<size_t>(r)] = static_cast<int>(best - ids.begin());
    }
  }
  return placement;
}

Transport choose_transport(const Config& config, const Placement& placement, int ranks) {
  const bool on_gpus = !placement.gpu.empty();
  if (config.comm.backend == "nccl" && !on_gpus) {
    fail_hint("use comm.backend: auto or mpi", "comm.backend: nccl: NCCL joins GPUs, and the ranks compute on CPUs");
  }
  // One rank has nobody to talk to, but who insists on NCCL learns whether it works here.
  if (ranks == 1 && config.comm.backend != "nccl") return Transport::local;
  if (!on_gpus) return Transport::host;
  // Whoever may share has said mpi: place_ranks has refused the rest.
  PLSC_CHECK(!placement.shared || config.comm.backend == "mpi");
  return config.comm.backend == "mpi" ? Transport::staged : Transport::nccl;
}

Arithmetic choose_arithmetic(const Config& config, const CudaProbe::Gpu* gpu, bool cpu_has_bf16) {
  const std::string& wanted = config.train.precision;
  Arithmetic chosen;
  chosen.precision = wanted;
  const int capability = gpu != nullptr ? gpu->capability : 0;
  // On a CPU fp32 even where it has bf16: its results are exact, and the same on any number of ranks.
  if (wanted == "auto")
    chosen.precision = capability >= kBf16Capability ? "bf16" : capability >= kFp16Capability ? "fp16" : "fp32";
  const std::string& p = chosen.precision;
  const auto refuse = [&](const std::string& lacks, const std::string& instead) {
    fail_hint("use train.precision: " + instead, "train.precision: {}: {}", p, lacks);
  };
  if (gpu == nullptr) {
    if (p == "tf32" || p == "fp16")
      refuse("the device is a CPU, which has none", cpu_has_bf16 ? "fp32 or bf16" : "fp32");
    if (p == "bf16" && !cpu_has_bf16) refuse("this CPU has no bf16 instructions (AVX-512 BF16 or AMX)", "fp32");
  } else {
    const auto lacks = [&](int least) {
      return fmt::format("{} has compute capability {}.{}, and it needs {}.{}", gpu->name, capability / 10,
                         capability % 10, least / 10, least % 10);
    };
    const bool has16 = capability >= kFp16Capability;
    const int least = p == "bf16" ? kBf16Capability : p == "tf32" ? kTf32Capability : 0;
    if (capability < least) refuse(lacks(least), has16 ? (p == "bf16" ? "fp16 or fp32" : "fp32 or fp16") : "fp32");
    if (p == "fp16" && !has16) refuse(lacks(kFp16Capability), "fp32");
  }
  chosen.activations = p == "bf16" ? Dtype::bf16 : p == "fp16" ? Dtype::f16 : Dtype::f32;
  chosen.tf32 = p == "tf32";
  chosen.loss_scaling = p == "fp16";
  const std::string& deterministic = config.train.deterministic;
  chosen.deterministic = gpu != nullptr && deterministic == "true";
  if (gpu != nullptr) return chosen;
  if (deterministic == "true" && p != "fp32") {
    fail_hint("use train.precision: fp32, or train.deterministic: false",
              "train.deterministic: true with train.precision: {}: exact sums are of fp32 products", p);
  }
  const bool narrow = config.comm.dtype == "bf16";
  if (deterministic == "true" && narrow) {
    fail_hint("use comm.dtype: fp32, or train.deterministic: false",
              "train.deterministic: true with comm.dtype: bf16: exact sums cannot be sent as bf16");
  }
  if (deterministic == "true" && config.comm.compress.on()) {
    fail_hint("use comm.compress.method: none, or train.deterministic: false",
              "train.deterministic: true with comm.compress.method: {}: which elements are sent depends on how samples "
              "are split over ranks, so an exact sum of them would be the same on no other number of ranks",
              config.comm.compress.method);
  }
  chosen.sums_in_double =
      deterministic == "true" || (deterministic == "auto" && config.model.sync_batch_norm.all_ranks() && p == "fp32" &&
                                  !narrow && !config.comm.compress.on());
  return chosen;
}

std::string explain_automatic_device(const Config& config, const CudaProbe& probe) {
  if (config.device != "auto" || !probe.built) return "";
  if (probe.gpus.empty()) return fmt::format("cpu: {}", probe.problem);
  return fmt::format("cuda: {} here, {}", count_of(probe.gpus.size(), "GPU"), probe.gpus.front().name);
}

}  // namespace plsc
