// plsc-train plan: what is known of the machines, from the command line or from this one, and the plan for them.
#include <cstdio>
#include <sstream>

#include "app/build.h"
#include "app/commands.h"
#include "app/plan/gpus.h"
#include "app/plan/print.h"
#include "app/rates.h"
#include "backend/capability.h"
#include "backend/device_health.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "config/limits.h"

namespace plsc {
namespace plan {
namespace {

constexpr int kMostRanksPerHost = 8;
constexpr int kCapability = 90;  // what a plan takes a GPU to be that is not here

int64_t classes_of(const Config& config) {
  if (config.head.classes > 0) return config.head.classes;
  try {
    if (const int64_t classes = open_source(config.data, config.seed)->classes(); classes > 0) return classes;
  } catch (const Error& error) {
    throw Error(std::string("data.train: ") + error.what(), "a plan needs no data where -o head.classes=N is given");
  }
  fail_hint("say -o head.classes=N", "the samples of data.train have no labels");
}

/// Up: what a program takes differs by pages from run to run.
int64_t whole_mebibytes(int64_t bytes) { return ((bytes + (1 << 20) - 1) >> 20) << 20; }

/// Numbers behind "ranks=".
std::vector<int> swept_ranks(const std::string& text) {
  const auto refuse = [&] {
    fail_hint("--sweep ranks=8,64,256", "--sweep: found '{}', expected ranks=N,N,... with each N from 1 to {}", text,
              kMostRanks);
  };
  if (text.rfind("ranks=", 0) != 0) refuse();
  std::vector<int> ranks;
  std::istringstream list(text.substr(6));
  for (std::string part; std::getline(list, part, ',');) {
    if (part.empty() || part.size() > 7 || part.find_first_not_of("0123456789") != std::string::npos) refuse();
    ranks.push_back(std::stoi(part));
    if (ranks.back() < 1 || ranks.back() > kMostRanks) refuse();
  }
  if (ranks.empty()) refuse();
  return ranks;
}

class Planner {
 public:
  explicit Planner(const CommandLine& line)
      : line_(line), config_(load_config(line.config, line.overrides).config), probe_(probe()) {
    if (config_.device == "cpu" && line.plan.device_memory > 0)
      fail_hint("-o device=cuda plans for GPUs", "--device-memory: device: cpu has no memory of its own");
    if (config_.device == "cpu" && model_ != nullptr)
      fail_hint("-o device=cuda plans for GPUs", "--gpu: device: cpu computes on none");
    if (model_ != nullptr && line.plan.measure)
      fail_hint("leave out one of the two", "--gpu and --measure: rates are either that GPU's, or this machine's");
    on_gpu_ = config_.device != "cpu" &&
              (config_.device == "cuda" || !probe_.gpus.empty() || model_ != nullptr || line.plan.device_memory > 0);
    classes_ = classes_of(config_);
    check_sampling();
    ranks_ = line.ranks > 0 ? static_cast<int>(line.ranks) : config_.ranks > 0 ? static_cast<int>(config_.ranks) : 1;
    if (line.ranks == 0 && config_.ranks == 0 && on_gpu_ && !probe_.gpus.empty())
      ranks_ = automatic_ranks(config_, probe_);
    rates_ = rates();
  }

  int run() const {
    if (!line_.plan.sweep.empty()) return sweep();
    const Plan plan = plan_of(ranks_);
    const Outlook outlook = outlook_of(plan);
    print(line_.json ? json(plan, outlook) : table(plan, outlook, rates_text({&plan}, source())));
    return plan.fits() ? 0 : 1;
  }

 private:
  static void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

  /// With a GPU that is named, this machine's are none of the plan's.
  CudaProbe probe() const { return config_.device == "cpu" || model_ != nullptr ? CudaProbe{} : probe_cuda(); }

  int ranks_per_host() const { return line_.plan.ranks_per_host > 0 ? line_.plan.ranks_per_host : kMostRanksPerHost; }

  /// Of a rank.
  int threads(int ranks) const {
    if (config_.train.threads > 0) return static_cast<int>(config_.train.threads);
    return std::max(1, available_cores() / std::min(ranks, ranks_per_host()));
  }

  CudaProbe::Gpu gpu() const {
    if (!probe_.gpus.empty()) return probe_.gpus.front();
    if (model_ != nullptr) return {model_->name, "", model_->capability, static_cast<int64_t>(model_->memory)};
    return {"the GPU of this plan", "", kCapability, static_cast<int64_t>(line_.plan.device_memory)};
  }

  GpuTraits gpu_traits() const {
    GpuTraits traits;
    traits.bf16 = gpu().capability >= kBf16Capability;
    if (!probe_.gpus.empty()) traits.cache = second_level_cache(0);
    if (model_ != nullptr) traits.cache = model_->cache;
    return traits;
  }

  /// For who was told that a CPU cannot do it.
  std::string gpu_hint() const {
    return config_.device == "cpu" ? "-o device=cuda --device-memory 80GiB plans for a GPU"
                                   : "--device-memory 80GiB (or -o device=cuda) plans for a GPU";
  }

  Arithmetic arithmetic() const {
    const CudaProbe::Gpu of_plan = gpu();
    if (on_gpu_) return choose_arithmetic(config_, &of_plan, cpu_has_bf16());
    try {
      return choose_arithmetic(config_, nullptr, cpu_has_bf16());
    } catch (const Error& error) {  // ends with a hint of its own
      throw Error(std::string(error.what()) + "; " + gpu_hint());
    }
  }

  /// As at the start of a training. A CPU is taken to be this one.
  void check_sampling() const {
    const bool has_bf16 = on_gpu_ ? gpu_traits().bf16 : cpu_has_bf16();
    const std::string device = on_gpu_ ? gpu().name : "this CPU";
    const std::string mistake = sampling_mistake(config_.head.sampling, classes_, has_bf16 ? "" : device);
    if (mistake.empty()) return;
    const bool of_device = sampling_mistake(config_.head.sampling, classes_, "").empty();
    throw Error(mistake, of_device && !on_gpu_ ? gpu_hint() : "");
  }

  Plan plan_of(int ranks) const {
    Setup setup;
    setup.config = config_;
    setup.ranks = ranks;
    setup.ranks_per_host = ranks_per_host();
    setup.classes = classes_;
    setup.device = on_gpu_ ? DeviceKind::cuda : DeviceKind::cpu;
    setup.threads = threads(ranks);
    setup.arithmetic = arithmetic();
    setup.gpu = gpu_traits();
    setup.program = program_;
    Room room;
    if (on_gpu_ && line_.plan.device_memory > 0) room.device = static_cast<double>(line_.plan.device_memory);
    if (on_gpu_ && !room.device && (!probe_.gpus.empty() || model_ != nullptr))
      room.device = static_cast<double>(gpu().memory);
    room.host = host_memory();
    room.ranks_per_host = ranks_per_host();
    return make_plan(setup, room, rates_);
  }

  std::optional<double> host_memory() const {
    if (line_.plan.host_memory > 0) return static_cast<double>(line_.plan.host_memory);
    const std::optional<int64_t> here = known_memory();
    // Of hosts with GPUs elsewhere this one's memory says nothing.
    if (!here || (on_gpu_ && probe_.gpus.empty())) return {};
    return steady_part(*here);
  }

  Rates rates() const {
    Rates rates;
    if (line_.plan.measure) rates = measured();
    if (model_ != nullptr) rates = reached_rates(*model_, arithmetic().tf32);
    const bool half = arithmetic().activations != Dtype::f32;
    if (line_.plan.tflops > 0) (half ? rates.half : rates.fp32) = 1e12 * line_.plan.tflops;
    // Parts of a 16-bit network are in fp32 (the last linear layer; the head, on a GPU without bf16): no faster than
    // this.
    rates.fp32_assumed = half && rates.fp32 == 0 && rates.half > 0;
    if (rates.fp32_assumed) rates.fp32 = rates.half / 16;
    if (line_.plan.memory_gbps > 0) rates.memory = 1e9 * line_.plan.memory_gbps;
    if (line_.plan.host_gbps > 0) rates.host = 1e9 * line_.plan.host_gbps;
    if (line_.plan.link_gbps > 0) rates.link = 1e9 / 8 * line_.plan.link_gbps;
    // Whoever tells how many ranks a host has tells of links within it, unless there are none: then it is the network.
    if (line_.plan.ranks_per_host > 0)
      rates.link_of_host = line_.plan.ranks_per_host > 1 || (model_ != nullptr && line_.plan.link_gbps == 0);
    if (line_.plan.network_gbps > 0) rates.network = 1e9 / 8 * line_.plan.network_gbps;
    return rates;
  }

  /// One rank's, with the threads that it would have.
  Rates measured() const {
    if (on_gpu_ && probe_.gpus.empty())
      fail_hint("give --tflops and --memory-gbps", "--measure: this machine has no GPU to measure");
    World::Options options;
    options.environment = {};
    options.threads = threads(ranks_);
    World world(options);
    const Rates rates = rates_of(world);
    world.finish();
    return rates;
  }
  Rates rates_of(World& world) const {
    Session session(config_, world, LogLevel::error);
    Context& context = session.context;
    Rates rates;
    rates.fp32 = fp32_product_rate(context);
    // The network's type; of one in fp32 what the class graph may be scored in.
    const Dtype half = context.activations == Dtype::f32 ? Dtype::bf16 : context.activations;
    if (context.device().supports(half)) rates.half = half_product_rate(context, half);
    const CopyRates copies = measure_copies(context.device());
    rates.memory = 2 * (on_gpu_ ? copies.on_device : host_copy_rate(context.device()));
    rates.host = std::min(copies.to_device, copies.to_host);
    return rates;
  }

  RateSource source() const {
    const PlanLine& given = line_.plan;
    return {given.measure, !on_gpu_ || !probe_.gpus.empty(),
            given.tflops + given.memory_gbps + given.host_gbps + given.link_gbps + given.network_gbps > 0,
            model_ != nullptr ? model_->name : ""};
  }

  int sweep() const {
    std::vector<SweepRow> rows;
    for (const int ranks : swept_ranks(line_.plan.sweep)) {
      SweepRow row;
      row.ranks = ranks;
      try {
        row.plan = plan_of(ranks);
        row.outlook = outlook_of(*row.plan, line_.json);
      } catch (const Error& error) {  // the others may be possible
        const std::string text = error.what();
        row.plan.reset();
        row.error = text.substr(0, text.find('\n'));
      }
      rows.push_back(std::move(row));
    }
    std::vector<const Plan*> plans;
    for (const SweepRow& r : rows)
      if (r.plan) plans.push_back(&*r.plan);
    print(line_.json ? sweep_json(rows) : sweep_table(rows, rates_text(plans, source())));
    bool all = true;
    for (const SweepRow& r : rows) all = all && r.plan && r.plan->fits();
    return all ? 0 : 1;
  }

  const CommandLine& line_;
  const GpuModel* model_ = line_.plan.gpu.empty() ? nullptr : &gpu_model(line_.plan.gpu);
  int64_t program_ = whole_mebibytes(resident_memory());  // before anything else takes some
  Config config_;
  CudaProbe probe_;
  bool on_gpu_ = false;
  int64_t classes_ = 0;
  int ranks_ = 1;
  Rates rates_;
};

}  // namespace
}  // namespace plan

int plan_command(const CommandLine& line) { return plan::Planner(line).run(); }

}  // namespace plsc
