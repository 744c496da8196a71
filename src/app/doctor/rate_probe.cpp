// Rates by the clock, each for a fraction of a second: copies, a matrix product, the collective that training uses.
#include <algorithm>
#include <functional>
#include <memory>

#include "app/doctor/probes.h"
#include "backend/device_health.h"
#include "base/clock.h"
#include "base/error.h"

namespace plsc::doctor {
namespace {

constexpr double kSeconds = 0.25;                    // of repeats, for each rate
constexpr double kWarmSeconds = 0.02;                // a product that takes that long is large enough to be timed
constexpr int64_t kSmallest = 128, kLargest = 8192;  // sides of the product
constexpr int64_t kSmallReduce = 4 << 10, kProbeReduce = 4 << 20, kLargeReduce = 64 << 20;  // bytes
constexpr int kSmallTurns = 50, kMostTurns = 10;
constexpr double kReduceSeconds = 1;

/// Seconds of one run of `work` on the device, by repeats.
template <class Work>
double seconds_of(Device& device, const Work& work) {
  work();
  device.synchronize();
  int done = 0;
  const Stopwatch watch;
  while (done == 0 || watch.seconds() < kSeconds) {
    work();
    device.synchronize();
    ++done;
  }
  return watch.seconds() / done;
}

/// A product of two square matrices, ready to run.
using Product = std::function<void()>;

/// In fp32, or TF32 where the configuration allows it.
Product linear_product(Context& context, int64_t side) {
  LinearSpec spec;
  spec.batch = spec.channels = spec.out_features = side;
  spec.bias = false;
  Device& device = context.device();
  const std::shared_ptr<LinearOp> op = context.nn().make_linear(spec);
  const Tensor x = device.zeros({side, 1, 1, side}), weight = device.zeros({side, side});
  Tensor y = device.zeros({side, side});
  return [=]() mutable { op->forward(x, weight, {}, y); };
}

/// In 16 bit, as the networks have it: a convolution of 1 x 1 is a product.
Product pointwise_product(Context& context, int64_t side) {
  ConvSpec spec;
  spec.batch = 1;
  spec.height = side;
  spec.width = 1;
  spec.in_channels = spec.out_channels = side;
  spec.kernel = 1;
  spec.pad = 0;
  spec.dtype = Dtype::bf16;
  Device& device = context.device();
  const std::shared_ptr<ConvOp> op = context.nn().make_conv(spec);
  const Shape map{1, side, 1, side};
  const Tensor x = device.zeros(map, Dtype::bf16), weight = device.zeros({side, side, 1, 1});
  Tensor y = device.zeros(map, Dtype::bf16);
  return [=]() mutable { op->forward(x, weight, y); };
}

/// FLOP a second, at the size that the device needs to be busy.
double product_rate(Context& context, Product (*make)(Context&, int64_t side)) {
  Device& device = context.device();
  for (int64_t side = kSmallest;; side *= 2) {
    const Product run = make(context, side);
    run();
    device.synchronize();
    const Stopwatch watch;
    run();
    device.synchronize();
    if (watch.seconds() < kWarmSeconds && side < kLargest) continue;
    return 2.0 * static_cast<double>(side * side * side) / seconds_of(device, run);
  }
}

void add_copies(Context& context, RankSheet& sheet) {
  Device& device = context.device();
  if (device.kind() == DeviceKind::cuda) {
    const CopyRates rates = measure_copies(device);
    sheet.add({"rates", "to device", "host to device {}", rates.to_device, "B/s", Agreement::rate});
    sheet.add({"rates", "to host", "device to host {}", rates.to_host, "B/s", Agreement::rate});
    sheet.add({"rates", "copy", "copy {}", rates.on_device, "B/s", Agreement::rate});
    return;
  }
  constexpr int64_t kBytes = 64 << 20;  // beyond most caches
  const Tensor from = device.zeros({kBytes}, Dtype::u8);
  Tensor to = device.zeros({kBytes}, Dtype::u8);
  const double seconds = seconds_of(device, [&] { device.copy(from, to); });
  sheet.add({"rates", "copy", "memory copy {}", static_cast<double>(kBytes) / seconds, "B/s", Agreement::rate});
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
    sheet.add({"rates", "product", std::string(tf32 ? "tf32" : "fp32") + " product {}",
               product_rate(context, linear_product), "FLOP/s", Agreement::rate});
    if (context.device().supports(Dtype::bf16))
      sheet.add(
          {"rates", "bf16 product", "bf16 {}", product_rate(context, pointwise_product), "FLOP/s", Agreement::rate});
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
