// The options of the stand-in, from the environment or a test; the counters, and what is said at the process's exit.
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "memory.h"
#include "runtime.h"
#include "scheduler.h"

namespace plsc::standin {
namespace {

[[noreturn]] void cannot_read(const char* name, const std::string& text, const char* example) {
  std::fprintf(stderr, "stand-in: %s=\"%s\" is not understood; an example: %s\n", name, text.c_str(), example);
  std::exit(2);
}

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string> variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::nullopt : std::optional<std::string>(text);
}

/// Hands the variable's number to `set`, where the variable is there.
template <class Set>
void read_number(const char* name, const char* example, const Set& set) {
  const auto text = variable(name);
  if (!text) return;
  const auto value = whole_number(*text);
  if (!value) cannot_read(name, *text, example);
  set(*value);
}

void read_memory(Options& options) {
  const auto text = variable("PLSC_STANDIN_MEMORY");
  if (!text) return;
  const size_t digits = std::min(text->find_first_not_of("0123456789"), text->size());
  const std::string unit = text->substr(digits);
  const auto value = whole_number(std::string_view(*text).substr(0, digits));
  const int shift = unit.empty() ? 0 : unit == "KiB" ? 10 : unit == "MiB" ? 20 : unit == "GiB" ? 30 : -1;
  if (!value || shift < 0) cannot_read("PLSC_STANDIN_MEMORY", *text, "64MiB");
  options.memory = static_cast<size_t>(*value) << shift;
}

void read_fault(Options& options) {
  const auto text = variable("PLSC_STANDIN_NCCL");
  if (!text) return;
  NcclFault fault;
  char kind[8] = "";
  long long call = 0;
  int used = 0;
  const int fields = std::sscanf(text->c_str(), "%7[a-z]:rank=%d:call=%lld%n", kind, &fault.rank, &call, &used);
  const bool error = std::strcmp(kind, "error") == 0, hang = std::strcmp(kind, "hang") == 0;
  if (fields != 3 || static_cast<size_t>(used) != text->size() || (!error && !hang)) {
    cannot_read("PLSC_STANDIN_NCCL", *text, "error:rank=1:call=10");
  }
  fault.kind = error ? NcclFault::Kind::error : NcclFault::Kind::hang;
  fault.call = call;
  options.nccl_fault = fault;
}

void write_counters(const std::string& name) {
  const std::string path = fmt::format("{}.{}.json", name, getpid());
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return;
  const Counters c = counters();
  std::fprintf(file,
               "{\"device_allocations\": %lld, \"pinned_allocations\": %lld, \"synchronisations\": %lld, "
               "\"queries\": %lld, \"bytes_to_device\": %lld, \"bytes_to_host\": %lld, \"kernels\": %lld, "
               "\"graph_launches\": %lld, \"collectives\": %lld}\n",
               static_cast<long long>(c.device_allocations), static_cast<long long>(c.pinned_allocations),
               static_cast<long long>(c.synchronisations), static_cast<long long>(c.queries),
               static_cast<long long>(c.bytes_to_device), static_cast<long long>(c.bytes_to_host),
               static_cast<long long>(c.kernels), static_cast<long long>(c.graph_launches),
               static_cast<long long>(c.collectives));
  std::fclose(file);
}

}  // namespace

Options options_from_environment() {
  Options options;
  if (variable("PLSC_STANDIN_DEVICES") == "old-driver") {
    options.old_driver = true;
  } else {
    read_number("PLSC_STANDIN_DEVICES", "4", [&](int64_t n) { options.devices = static_cast<int>(n); });
  }
  options.visible = variable("CUDA_VISIBLE_DEVICES");
  if (const auto text = variable("PLSC_STANDIN_CAPABILITY")) {
    if (std::sscanf(text->c_str(), "%d.%d", &options.capability_major, &options.capability_minor) != 2) {
      cannot_read("PLSC_STANDIN_CAPABILITY", *text, "9.0");
    }
  }
  read_number("PLSC_STANDIN_SEED", "1", [&](int64_t n) { options.seed = static_cast<uint64_t>(n); });
  read_number("PLSC_STANDIN_IDLE_MS", "20", [&](int64_t n) { options.idle_ms = static_cast<int>(n); });
  options.check_guards = variable("PLSC_STANDIN_GUARDS") == "1";
  options.protect = variable("PLSC_STANDIN_PROTECT") != "0";
  options.report_leaks = variable("PLSC_STANDIN_LEAKS") == "1";
  read_memory(options);
  read_fault(options);
  return options;
}

void say_goodbye() {
  Scheduler::instance().stop();
  open_device_memory(true);
  check_guards("the process's end");
  if (options().report_leaks) report_live_blocks();
  if (const auto name = variable("PLSC_STANDIN_COUNTERS")) write_counters(*name);
}

Options options() {
  const auto lock = Scheduler::instance().enter();
  return Scheduler::instance().options;
}

void set_options(const Options& options) {
  const auto lock = Scheduler::instance().enter();
  Scheduler::instance().options = options;
  Scheduler::instance().take_options();
}

Counters counters() {
  const auto lock = Scheduler::instance().enter();
  return Scheduler::instance().counters;
}

}  // namespace plsc::standin
