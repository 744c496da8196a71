// plsc-train doctor: the probes in order, each stage ended by all ranks together, then one sheet by rank 0.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "app/commands.h"
#include "app/doctor/probes.h"
#include "app/doctor/report.h"
#include "app/doctor/watchdog.h"
#include "backend/device_health.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/host.h"
#include "comm/errors.h"

namespace plsc {
namespace doctor {
namespace {

// Seconds: a rank's own probes take the limit at most, its waits for other ranks that and half a minute more. What goes
// on beyond both hangs.
constexpr double kGrace = 60;

class Doctor {
 public:
  Doctor(const CommandLine& line, const Config& config, World& world)
      : line_(line),
        config_(config),
        world_(world),
        patience_(line.limit),
        watchdog_(2 * line.limit + kGrace, fmt::format("rank {} (host {})", world.rank(), this_host())) {
    own_.rank = world.rank();
    own_.node = world.node();
    own_.host = world.hosts()[static_cast<size_t>(world.rank())];
    sheets_ = {own_};
  }

  /// The verdict, the same on every rank. Throws what ends the run (a rank is gone or does not answer), after rank 0
  /// has printed what is known.
  Grade run() {
    try {
      examine();
    } catch (const std::exception& error) {
      own_.fail_with("ranks", error.what());
      own_.findings.back().of_all = dynamic_cast<const SharedError*>(&error) != nullptr;
      if (dynamic_cast<const TimeoutError*>(&error) != nullptr)
        own_.findings.back().hint = "that rank hangs; where a part may really take so long: --limit";
      sheets_[0] = own_;
      print();
      throw;
    }
    print();
    return make_report(sheets_).verdict;
  }
  int abandoned() const { return patience_.abandoned(); }

 private:
  bool first_of_host() const { return world_.local_rank() == 0; }

  /// Begins a part that ranks may take differently long for; the monitor tells its name, should a rank not come back.
  void stage(const char* name) {
    patience_.begin_stage();
    world_.note(-1, name);
    watchdog_.begin(name);
  }
  /// Runs a probe of this rank alone: what it did not expect must not take this rank out of the common sequence.
  template <class Probe>
  void guarded(const char* section, const Probe& probe) {
    try {
      probe();
    } catch (const std::exception& error) {
      own_.warn(section, fmt::format("not all could be examined: {}", error.what()));
    }
  }
  /// Ends it: all ranks have what all have found.
  void meet() {
    std::vector<RankSheet> sheets;
    for (const std::string& text : gather_texts(world_.host_collective(), to_json(own_)))
      sheets.push_back(sheet_from_json(text));
    sheets_ = std::move(sheets);
  }

  void examine() {
    stage("doctor: the machine");
    guarded("cpu", [&] { probe_host(world_, own_); });
    if (first_of_host()) guarded("gpus", [&] { probe_gpus(patience_, config_, own_); });
    meet();
    if (driver_hangs()) return examine_work(nullptr);
    stage("doctor: the device");
    const std::unique_ptr<Session> session = open_session();
    if (session) probe_rates(*session, own_);
    probe_network(world_, session && session->machine.transport == Transport::nccl, own_);
    meet();
    if (session) {
      stage("doctor: collectives");
      probe_all_reduce(*session, own_);
    }
    probe_pairs(world_, own_);
    forget_feared(own_);
    probe_clocks(world_, own_);
    meet();
    examine_work(session.get());
  }

  /// Whether a host's driver has not answered: what asks it again would wait for ever. The same on every rank.
  bool driver_hangs() {
    const std::vector<int64_t> late = gather_values(world_.host_collective(), int64_t{patience_.abandoned()});
    return std::any_of(late.begin(), late.end(), [](int64_t probes) { return probes > 0; });
  }

  /// What the configuration asks for: data, memory, disk.
  void examine_work(Session* session) {
    DiskWork disk;
    disk.output = config_.output;
    if (!line_.config.empty()) {
      stage("doctor: data");
      std::optional<DataFound> found;
      if (first_of_host()) guarded("data", [&] { found = probe_data(patience_, config_, world_.size(), own_); });
      meet();
      const std::vector<int64_t> classes = gather_values(world_.host_collective(), found ? found->classes : int64_t{0});
      const int64_t of_data = *std::max_element(classes.begin(), classes.end());
      stage("doctor: memory");
      if (session)
        disk.checkpoint_bytes =
            probe_fit(*session, world_, config_, config_.head.classes > 0 ? config_.head.classes : of_data, own_);
      disk.keep = config_.checkpoint.keep;
      meet();
    }
    stage("doctor: disk");
    probe_disk(world_, patience_, disk, own_);
    meet();
  }

  /// The device and the collectives as training would have them; null where it could not, on every rank.
  std::unique_ptr<Session> open_session() {
    try {
      auto session = std::make_unique<Session>(config_, world_, LogLevel::error);
      const DevicePlace place = place_of(session->context.device());
      own_.add(place.number >= 0 ? Fact{"devices",
                                        "device",
                                        fmt::format("GPU {} ({})", place.number, place.bus),
                                        {},
                                        "",
                                        Agreement::listed}
                                 : Fact{"devices", "device", "cpu", {}, "", Agreement::same});
      own_.add({"devices", "precision", session->machine.arithmetic.precision, {}, "", Agreement::same});
      return session;
    } catch (const AgreedError& error) {
      own_.fail_with("devices", error.what());
      return nullptr;
    }
  }

  void print() const {
    if (world_.rank() != 0) return;
    const Report report = make_report(sheets_);
    PrintOptions options;
    options.seconds = watch_.seconds();
    // mpirun gives its ranks a terminal of its own, whatever is behind it.
    const bool terminal = ::isatty(STDOUT_FILENO) != 0 && !read_launch_environment().under_mpi;
    options.colours = terminal && std::getenv("NO_COLOR") == nullptr;
    const std::string text =
        line_.json ? report_json(report, sheets_, watch_.seconds()) : print_report(report, options);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const CommandLine& line_;
  const Config& config_;
  World& world_;
  Patience patience_;
  Watchdog watchdog_;
  Stopwatch watch_;
  RankSheet own_;
  std::vector<RankSheet> sheets_;  // by rank; this rank's alone before the first meeting
};

}  // namespace
}  // namespace doctor

DoctorEnd doctor_command(const CommandLine& line, const LoadedConfig& loaded, World& world) {
  doctor::Doctor doctor(line, loaded.config, world);
  const doctor::Grade verdict = doctor.run();
  return {doctor::exit_status(verdict), doctor.abandoned()};
}

}  // namespace plsc
