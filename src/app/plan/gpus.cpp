#include "app/plan/gpus.h"

#include <fmt/format.h>

#include <array>

#include "base/error.h"

namespace plsc::plan {
namespace {

constexpr double kGiB = 1 << 30, kGb = 1e9, kTflop = 1e12;

// NVIDIA's datasheets: V100 SXM2, A100, H100 and H200 SXM; products without sparsity; without TF32 that of fp32.
constexpr std::array<GpuModel, 4> kGpus{{
    {"V100", 70, 31.7 * kGiB, 6 << 20, 125 * kTflop, 15.7 * kTflop, 15.7 * kTflop, 900 * kGb, 150 * kGb, 16 * kGb, .216,
     "InsightFace's 5,004 images/s on 8"},
    {"A100", 80, 79 * kGiB, 40 << 20, 312 * kTflop, 156 * kTflop, 19.5 * kTflop, 2039 * kGb, 300 * kGb, 32 * kGb, .186,
     "PLSC 2.2's 10,800 images/s on 8"},
    {"H100", 90, 79 * kGiB, 50 << 20, 989 * kTflop, 494 * kTflop, 67 * kTflop, 3350 * kGb, 450 * kGb, 64 * kGb, .186,
     "the A100's: none was measured"},
    {"H200", 90, 139 * kGiB, 50 << 20, 989 * kTflop, 494 * kTflop, 67 * kTflop, 4800 * kGb, 450 * kGb, 64 * kGb, .186,
     "the A100's: none was measured"},
}};

// Parts of the other figures, of any of these.
// Links: NCCL's protocols leave 370 GB/s of an H100's 450 (the maintainers of nccl-tests, 2024); PCIe is taken to be
// alike.
constexpr double kOfFp32 = .9, kOfBandwidth = .9, kOfLink = .8;

}  // namespace

const GpuModel& gpu_model(const std::string& name) {
  std::string names;
  for (const GpuModel& gpu : kGpus) {
    if (name == gpu.name) return gpu;
    names += (names.empty() ? "" : ", ") + std::string(gpu.name);
  }
  fail("--gpu: found '{}', expected one of {}", name, names);
}

Rates reached_rates(const GpuModel& gpu, bool tf32) {
  Rates rates;
  rates.half = gpu.of_half * gpu.half;
  rates.fp32 = tf32 ? gpu.of_half * gpu.tf32 : kOfFp32 * gpu.fp32;
  rates.memory = kOfBandwidth * gpu.bandwidth;
  rates.link = kOfLink * gpu.link;
  rates.host = kOfLink * gpu.host;
  rates.link_of_host = true;
  rates.latencies = true;
  return rates;
}

std::string gpu_table() {
  constexpr const char* kLine = "{:<7}{:>8}{:>9}{:>9}{:>9}{:>8}{:>8}{:>7}{:>8}  {}\n";
  std::string out =
      fmt::format(kLine, "--gpu", "memory", "16 bit", "TF32", "fp32", "memory", "NVLink", "PCIe", "part", "set by");
  out += fmt::format(kLine, "", "GiB", "TFLOP/s", "TFLOP/s", "TFLOP/s", "GB/s", "GB/s", "GB/s", "of it", "");
  for (const GpuModel& gpu : kGpus) {
    out += fmt::format(kLine, gpu.name, gpu.memory / kGiB, gpu.half / kTflop, gpu.tf32 / kTflop, gpu.fp32 / kTflop,
                       gpu.bandwidth / kGb, gpu.link / kGb, gpu.host / kGb, gpu.of_half, gpu.where);
  }
  return out + fmt::format(
                   "Rates are datasheets' figures, and memory is what such a GPU reports. Of 16 bit and TF32 a plan "
                   "takes the "
                   "part that\nmakes it predict that rate (scripts/bench/published.md), of NVLink and PCIe {:g}, which "
                   "NCCL's "
                   "protocol leaves, of\nmemory {:g} and of fp32 {:g}, which are assumptions. Collectives also take "
                   "the latencies "
                   "of NCCL's own model.\n",
                   kOfLink, kOfBandwidth, kOfFp32);
}

}  // namespace plsc::plan
