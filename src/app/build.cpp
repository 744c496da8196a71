#include "app/build.h"

#include <algorithm>
#include <sstream>

#include "app/version.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "comm/nccl.h"
#include "head/head_form.h"
#include "runtime/staged_collective.h"

namespace plsc {

namespace {

/// Runs `work`, which may fail on some ranks alone; then all of them throw.
template <class Work>
auto together(Collective& host, const Work& work) {
  decltype(work()) result{};
  std::string error;
  try {
    result = work();
  } catch (const std::exception& e) {
    error = e.what();
  }
  agree_or_fail(host, error);
  return result;
}

/// The GPUs that each rank may take.
std::vector<RankGpus> gather_gpus(World& world, const CudaProbe& probe, const std::vector<int>& usable) {
  std::string mine;
  for (const int number : usable) mine += probe.gpus[static_cast<size_t>(number)].id + "\n";
  Collective& host = world.host_collective();
  const std::vector<int64_t> nodes = gather_values(host, static_cast<int64_t>(world.node()));
  const std::vector<std::string> texts = gather_texts(host, mine);
  std::vector<RankGpus> ranks(texts.size());
  for (size_t r = 0; r < ranks.size(); ++r) {
    ranks[r] = {static_cast<int>(nodes[r]), world.hosts()[r], {}};
    std::istringstream lines(texts[r]);
    for (std::string id; std::getline(lines, id);) ranks[r].ids.push_back(id);
  }
  return ranks;
}

Machine build_cpu_machine(const Config& config, World& world) {
  Machine machine;
  machine.backend = make_cpu_backend(world.threads());
  const bool has_bf16 = machine.backend.device->supports(Dtype::bf16);
  machine.arithmetic = together(world.host_collective(), [&] { return choose_arithmetic(config, nullptr, has_bf16); });
  return machine;
}

Machine build_gpu_machine(const Config& config, World& world, const CudaProbe::Gpu& gpu, int number) {
  Collective& host = world.host_collective();
  Machine machine;
  machine.arithmetic = together(host, [&] { return choose_arithmetic(config, &gpu, false); });
  CudaOptions options;
  options.device = number;
  options.tf32 = machine.arithmetic.tf32;
  options.deterministic = machine.arithmetic.deterministic;
  machine.backend = together(host, [&] { return make_cuda_backend(options); });
  return machine;
}

/// Joins the devices: `number` is this rank's GPU.
void connect(Machine& machine, const Config& config, World& world, int number) {
  Device& device = *machine.backend.device;
  if (machine.transport == Transport::local && device.kind() == DeviceKind::cuda) {
    machine.tensors = make_device_single_collective(device);
  } else if (machine.transport == Transport::staged) {
    machine.tensors = make_staged_collective(device, world.device_collective());
  } else if (machine.transport == Transport::nccl) {
    const NcclOptions options{
        number, device.native_stream(), world.wait_policy(), {cuda_narrow_bf16, cuda_sum_bf16, cuda_widen_bf16}};
    auto nccl = make_nccl_collective(options, world.host_collective());
    device.set_host_wait([&nccl = *nccl](const std::function<bool()>& done) { nccl.host_wait(done); });
    machine.tensors = std::move(nccl);
  }
  if (config.train.graphs == "true" && !device.can_record())
    fail_hint("use train.graphs: auto", "train.graphs: true: {} records nothing", device.description());
  if (world.size() > 1) {
    Collective& tensors = machine.tensors ? *machine.tensors : world.device_collective();
    machine.times = std::make_unique<CommTimes>();
    machine.timed_tensors = make_timed_collective(device, tensors, *machine.times);
    if (device.is_host()) machine.timed_host = make_timed_collective(device, world.host_collective(), *machine.times);
  }
  if (machine.tensors && device.can_record())
    machine.tape = std::make_unique<Tape>(device, machine.timed_tensors ? *machine.timed_tensors : *machine.tensors);
}

Collective& collective_of(const Machine& machine, World& world) {
  if (machine.tape) return *machine.tape;
  if (machine.timed_tensors) return *machine.timed_tensors;
  return machine.tensors ? *machine.tensors : world.device_collective();
}

Collective& host_collective_of(const Machine& machine, World& world) {
  return machine.timed_host ? *machine.timed_host : world.host_collective();
}

}  // namespace

Machine build_machine(const Config& config, World& world, Log& log) {
  Collective& host = world.host_collective();
  const CudaProbe probe = config.device == "cpu" ? CudaProbe{} : probe_cuda();
  const std::vector<int> usable = together(host, [&] { return usable_gpus(config, probe); });
  if (const std::string why = explain_automatic_device(config, probe); !why.empty())
    log.info("device     auto is {}", why);
  const std::vector<RankGpus> ranks = gather_gpus(world, probe, usable);
  const Placement placement = together(host, [&] { return place_ranks(ranks, config.comm.backend == "mpi"); });
  const Transport transport = together(host, [&] { return choose_transport(config, placement, world.size()); });
  const bool on_gpu = !placement.gpu.empty();
  const auto own = static_cast<size_t>(world.rank());
  const int number = on_gpu ? usable[static_cast<size_t>(placement.gpu[own])] : 0;
  Machine machine = on_gpu ? build_gpu_machine(config, world, probe.gpus[static_cast<size_t>(number)], number)
                           : build_cpu_machine(config, world);
  machine.transport = transport;
  connect(machine, config, world, number);
  if (placement.shared) log.info("ranks      share GPUs");
  return machine;
}

Session::Session(const Config& config, World& world, LogLevel console)
    : log(world.rank(), console),
      machine(build_machine(config, world, log)),
      context{machine.backend,
              collective_of(machine, world),
              host_collective_of(machine, world),
              log,
              machine.arithmetic.activations,
              config.seed,
              machine.arithmetic.sums_in_double,
              machine.arithmetic.loss_scaling,
              machine.tape.get(),
              nullptr,  // see group_norms
              nullptr,  // see group_nodes
              machine.times.get()} {
  for (const std::string& warning : world.warnings()) log.warn("{}", warning);
}

Session::~Session() {
  // The device outlives the collective that its waits look after.
  machine.backend.device->set_host_wait({});
}

int norm_group_size(const Config& config, int ranks) {
  const int64_t group = config.model.sync_batch_norm.group;
  if (group == 0 || group == ranks) return 0;
  if (ranks % group != 0)
    fail_hint("choose a number that divides the ranks, or true or false", "model.sync_batch_norm: {}, which {} of {}",
              ranks == 1 ? "there is 1 rank" : fmt::format("there are {} ranks", ranks),
              ranks == 1 ? "is no group" : "are not whole groups", group);
  return static_cast<int>(group);
}

void group_norms(Session& session, const Config& config, World& world) {
  const int group = norm_group_size(config, world.size());
  if (group == 0) return;
  session.machine.norms = session.context.comm.split(group, world.host_collective());
  session.context.norm_group = session.machine.norms.get();
}

int node_size(const Config& config, int ranks, int per_host) {
  const CompressConfig& compress = config.comm.compress;
  if (!compress.on() || compress.intra_node == "none") return 1;
  const int size = std::min(ranks, per_host);
  if (ranks % size != 0)
    fail_hint("start as many ranks on each host (plan: --ranks-per-host), or set comm.compress.intra_node: none",
              "comm.compress.intra_node: dense: {} ranks on hosts of {} are not as many on each", ranks, size);
  return size;
}

void group_nodes(Session& session, const Config& config, World& world) {
  if (!config.comm.compress.on()) return;
  const std::vector<int64_t> nodes = gather_values(world.host_collective(), static_cast<int64_t>(world.node()));
  const auto first = static_cast<int>(std::ranges::count(nodes, nodes[0]));
  const int size = node_size(config, world.size(), first);
  if (config.comm.compress.intra_node == "dense") {
    for (size_t r = 0; r < nodes.size(); ++r) {
      if (nodes[r] != nodes[r / static_cast<size_t>(size) * static_cast<size_t>(size)] ||
          std::ranges::count(nodes, nodes[r]) != size)
        fail_hint(
            "start as many ranks on each host, one host's behind another's, or set comm.compress.intra_node: none",
            "comm.compress.intra_node: dense: rank {} is not on a host of {} rank(s) in a row, as rank 0 is", r, size);
    }
  }
  if (size > 1) {
    session.machine.node = session.context.comm.split(size, world.host_collective());
    session.context.node_group = session.machine.node.get();
  }
  if (world.size() == size)
    session.log.warn(
        "comm.compress.method topk: {}, so nothing is saved: the largest elements travel where whole "
        "gradients {}",
        size == 1 ? "there is one rank" : "all ranks are on one host",
        size == 1 ? "need not travel at all" : "have travelled before");
}

int64_t decide_classes(Context& context, const Config& config, const DataSource& source) {
  const int64_t classes = config.head.classes > 0 ? config.head.classes : source.classes();
  if (source.classes() == 0) {
    fail_hint("training needs a sub-folder a class, a list of \"path label\", or a labelled .rec",
              "{}: the samples have no labels", source.description());
  }
  if (classes >= source.classes()) return classes;  // a source holds every label against its own number
  std::string error;
  try {
    const int64_t begin = range_begin(source.size(), context.ranks(), context.rank());
    const int64_t end = range_begin(source.size(), context.ranks(), context.rank() + 1);
    const int64_t i = source.first_label_beyond(classes, begin, end, &context.log);
    if (i >= 0) {
      fail_hint("set head.classes: auto, or to the number of classes of the data",
                "{}: sample '{}' has label {}, but head.classes is {}, so labels end at {}", source.description(),
                source.name(i), source.label(i), classes, classes - 1);
    }
  } catch (const std::exception& e) {
    error = e.what();
  }
  agree_or_fail(context.host, error);
  return classes;
}

std::string sampling_mistake(const SamplingConfig& sampling, int64_t classes, const std::string& device) {
  if (sampling.method != "full" && sampling.active > classes) {
    return fmt::format("head.sampling.active: found {}, expected at most the number of classes, {}", sampling.active,
                       classes);
  }
  if (sampling.method != "knn") return {};
  if (classes > GraphSpec::kMostClasses) {
    return fmt::format(
        "head.sampling.method: found knn with {} classes, expected at most {}\n"
        "  hint: uniform sampling takes any number",
        classes, GraphSpec::kMostClasses);
  }
  if (sampling.scoring == "bf16" && !device.empty())
    return fmt::format("head.sampling.scoring: found bf16, expected fp32: {} has no bf16", device);
  return {};
}

namespace {

/// What the class graph takes of one memory while it is built, and has there.
struct GraphFit {
  std::string of;               // "memory"
  int64_t graph = 0, rows = 0;  // bytes; rows: the class centres with their momentum, where they are there, too
  int64_t left = 0;             // bytes
  std::string hint;             // what else helps
};

std::string fit_error(const GraphFit& fit, const SamplingConfig& sampling, int64_t classes) {
  if (fit.graph + fit.rows <= fit.left) return {};
  const auto bytes = [](int64_t n) { return human_bytes(static_cast<double>(n)); };
  const std::string beside =
      fit.rows > 0 ? fmt::format(", beside {} of class centres and their momentum", bytes(fit.rows)) : "";
  return fmt::format(
      "the class graph of {} classes with head.sampling.neighbours {} takes {} of a rank's {} while it is built{}, and "
      "there are {} left\n  hint: use fewer neighbours, head.sampling.method: uniform, which has no graph, or {}",
      classes, sampling.neighbours, bytes(fit.graph), fit.of, beside, bytes(fit.left), fit.hint);
}

std::string sampling_error(Context& context, const Config& config, int64_t classes, const RankRoom& room) {
  const SamplingConfig& sampling = config.head.sampling;
  const Device& device = context.device();
  const std::string mistake =
      sampling_mistake(sampling, classes, device.supports(Dtype::bf16) ? "" : device.description());
  if (!mistake.empty() || sampling.method != "knn") return mistake;
  const ClassShard shard = class_shard(classes, context.ranks(), context.rank());
  const GraphMemory need =
      graph_memory(context, shard, config.model.embedding_size, ClassGraph(sampling, shard).spec());
  // Rows are made later, their momentum in the first step; the graph is built beside them.
  const StoreConfig& store = config.head.store;
  const int64_t rows = shard.size() * stored_row_bytes(store, config.model.embedding_size);
  const bool on_host = device.is_host() || store.tier == "host";
  GraphFit host{"memory", need.kept + need.host, on_host ? rows : 0, room.host, "ranks on more hosts"};
  if (device.is_host()) host.graph += need.device;
  const std::string error = fit_error(host, sampling, classes);
  if (!error.empty() || !room.device) return error;
  GraphFit gpu{"GPU memory", need.device, on_host ? 0 : rows, *room.device, "more GPUs"};
  if (!on_host) gpu.hint = "head.store: {tier: host}, or more GPUs";
  return fit_error(gpu, sampling, classes);
}

std::string table_error(Context& context, const Config& config, int64_t classes, int local_ranks) {
  const StoreConfig& store = config.head.store;
  if (store.tier != "host") return {};
  const int64_t rows = class_shard(classes, context.ranks(), context.rank()).size();
  const int64_t need = rows * stored_row_bytes(store, head_form(config.head, config.model.embedding_size).columns());
  const int64_t left = available_memory() / local_ranks;
  if (need <= left) return {};
  return fmt::format(
      "the class centres of a rank with their momentum need {} of host memory, of which {} are left for each of the {} "
      "rank(s) of this host\n  hint: use bf16 (head.store.dtype, head.store.momentum), more hosts, or fewer classes",
      human_bytes(static_cast<double>(need)), human_bytes(static_cast<double>(left)), local_ranks);
}

}  // namespace

void require_tables(Context& context, const Config& config, int64_t classes, int local_ranks) {
  agree_or_fail(context.host, table_error(context, config, classes, local_ranks));
}

int ranks_sharing(World& world, const DevicePlace& place) {
  const std::string where = fmt::format("{}|{}", world.node(), place.bus);
  const std::vector<std::string> all = gather_texts(world.host_collective(), where);
  return static_cast<int>(std::ranges::count(all, where));
}

RankRoom room_of(Session& session, World& world) {
  const DevicePlace place = together(world.host_collective(), [&] { return place_of(session.context.device()); });
  const int sharing = ranks_sharing(world, place);
  RankRoom room;
  room.host = available_memory() / world.local_size();
  if (place.total > 0) room.device = place.free / sharing;
  return room;
}

void require_sampling(Context& context, const Config& config, int64_t classes, const RankRoom& room) {
  agree_or_fail(context.host, sampling_error(context, config, classes, room));
}

int64_t decide_global_batch(const Config& config, int ranks) {
  const int64_t batch = config.train.batch_per_rank > 0 ? config.train.batch_per_rank * ranks : config.train.batch_size;
  if (batch < ranks * config.train.micro_batches()) {
    const char* key_of_batch = config.train.batch_per_rank > 0 ? "train.batch_per_rank" : "train.batch_size";
    std::string needs = "the ranks", numbers = std::to_string(ranks),
                hint = fmt::format("use a larger {}", key_of_batch);
    const auto add = [&](const char* key, int64_t n) {
      if (n == 1) return;
      needs += fmt::format(" times {}", key);
      numbers += fmt::format(" x {}", n);
      hint += fmt::format(" or a smaller {}", key);
    };
    add("train.accumulate", config.train.accumulate);
    add("train.pipeline", config.train.pipeline);
    needs += ", " + numbers;
    // A batch of so many images a rank shrinks with the ranks.
    if (config.train.batch_per_rank == 0 && ranks > 1) hint += " or fewer ranks";
    fail_hint(hint, "{}: the batch of {} images is smaller than {}: some ranks would have none", key_of_batch, batch,
              needs);
  }
  return batch;
}

std::string versions_text(const Session& session, const World& world) {
  const Machine& machine = session.machine;
  return fmt::format("plsc-train {}, {}, {}{}", kVersion, machine.backend.device->library_versions(),
                     world.mpi_version(), machine.transport == Transport::nccl ? ", NCCL " + nccl_version() : "");
}

}  // namespace plsc
