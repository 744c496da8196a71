// Rates by the clock, each for a fraction of a second: copies, a matrix product, the collective that training uses.
#include <algorithm>
#include <functional>
#include <memory>

#include "app/doctor/probes.h"
#include "app/rates.h"
#include "backend/device_health.h"
#include "base/clock.h"
#include "base/error.h"

namespace plsc::doctor {
namespace {

constexpr int64_t kSmallReduce = 4 << 10, kProbeReduce = 4 << 20, kLargeReduce = 64 << 20;  // bytes
constexpr int kSmallTurns = 50, kMostTurns = 10;
constexpr double kReduceSeconds = 1;

void add_copies(Context& context, RankSheet& sheet) {
  Device& device = context.device();
  if (device.kind() == DeviceKind::cuda) {
    const CopyRates rates = measure_copies(device);
    sheet.add({"rates", "to device", "host to device {}", rates.to_device, "B/s", Agreement::rate});
    sheet.add({"rates", "to host", "device to host {}", rates.to_host, "B/s", Agreement::rate});
    sheet.add({"rates", "copy", "copy {}", rates.on_device, "B/s", Agreement::rate});
    return;
  }
  sheet.add({"rates", "copy", "memory copy {}", host_copy_rate(device), "B/s", Agreement::rate});
}

/// Seconds of one all-reduce of `bytes`, over all ranks together: the slowest rank's.
double reduce_seconds(Context& context, int64_t bytes, int turns) {
  Tensor t = context.device().zeros({bytes / 4});
  context.host.barrier("before an all-reduce is timed");
  const Stopwatch watch;
  for (int i = 0; i < turns; ++i) context.comm.all_reduce(t, ReduceOp::sum, "an all-reduce of the doctor");
  context.device().synchronize();
  const std::vector<double> all = gather_values(context.host, watch.seconds() / turns);
  return *std::max_element(all.begin(), all.end());
}

const char* transport_name(Transport transport) {
  switch (transport) {
    case Transport::nccl:
      return "by NCCL";
    case Transport::staged:
      return "by MPI through host memory";
    case Transport::host:
      return "by MPI";
    case Transport::local:
      break;
  }
  return "one rank";
}

}  // namespace

void probe_rates(Session& session, RankSheet& sheet) {
  Context& context = session.context;
  try {
    const MemoryScope scope(context.device(), MemoryUse::workspace);
    const bool tf32 = session.machine.arithmetic.tf32;
    sheet.add({"rates", "product", std::string(tf32 ? "tf32" : "fp32") + " product {}", fp32_product_rate(context),
               "FLOP/s", Agreement::rate});
    if (context.device().supports(Dtype::bf16))
      sheet.add(
          {"rates", "bf16 product", "bf16 {}", half_product_rate(context, Dtype::bf16), "FLOP/s", Agreement::rate});
    add_copies(context, sheet);
    context.device().trim();
  } catch (const std::exception& error) {
    sheet.fail_with("rates", error.what());
  }
}

void probe_all_reduce(Session& session, RankSheet& sheet) {
  Context& context = session.context;
  const bool alone = context.ranks() == 1;
  sheet.add({"all-reduce", "by", alone ? "one rank: nothing to sum" : transport_name(session.machine.transport)});
  if (alone) return;
  reduce_seconds(context, kSmallReduce, 1);  // connections are made
  const double small = reduce_seconds(context, kSmallReduce, kSmallTurns);
  // A slow network gets no more than it can carry. Every rank has the same numbers, so all decide alike.
  double large = reduce_seconds(context, kProbeReduce, 1);
  int64_t bytes = kProbeReduce;
  const double expected = large * static_cast<double>(kLargeReduce) / static_cast<double>(kProbeReduce);
  if (expected < 2 * kReduceSeconds) {
    bytes = kLargeReduce;
    large = reduce_seconds(context, bytes, std::clamp(static_cast<int>(kReduceSeconds / expected), 1, kMostTurns));
  }
  const auto amount = static_cast<double>(bytes);
  sheet.add({"all-reduce", "latency", "4 KiB in {}", small, "s"});
  sheet.add({"all-reduce", "rate", fmt::format("{} MiB at ", bytes >> 20) + "{}", amount / large, "B/s"});
  context.device().trim();
}

}  // namespace plsc::doctor
