// What /proc, limits and the backend say of this machine.
#include <elf.h>
#include <link.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "app/doctor/probes.h"
#include "app/doctor/report.h"
#include "app/quantity.h"
#include "app/version.h"
#include "base/control_group.h"
#include "base/cpu_quota.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"

namespace plsc::doctor {
namespace {

constexpr double kSharedMemoryARank = 32 << 20;  // bytes: what MPI and NCCL take of /dev/shm, rounded up
constexpr rlim_t kFilesARank = 4, kFilesMore = 256;
constexpr rlim_t kLockedForInfiniband = rlim_t{1} << 30;

/// The linker's name for this very executable; empty where it was built without.
std::string build_id() {
  std::string id;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type != PT_NOTE) continue;
          const auto* at = reinterpret_cast<const char*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
          const char* end = at + info->dlpi_phdr[i].p_memsz;
          while (at + sizeof(ElfW(Nhdr)) <= end) {
            const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(at);
            const auto padded = [](size_t n) { return (n + 3) & ~size_t{3}; };
            const char* name = at + sizeof *note;
            const auto* bytes = reinterpret_cast<const unsigned char*>(name + padded(note->n_namesz));
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4) {
              for (size_t b = 0; b < std::min<size_t>(note->n_descsz, 6); ++b)
                *static_cast<std::string*>(out) += fmt::format("{:02x}", bytes[b]);
              return 1;
            }
            at = reinterpret_cast<const char*>(bytes) + padded(note->n_descsz);
          }
        }
        return 1;  // the first object is the executable
      },
      &id);
  return id;
}

void add_program(const World& world, RankSheet& sheet) {
  sheet.add({"program", "version", fmt::format("plsc-train {}", kVersion), {}, "", Agreement::same});
  const std::string id = build_id();
  if (!id.empty()) sheet.add({"program", "build", "build " + id, {}, "", Agreement::same});
  // One thread: only names are asked of it, and the session makes its own.
  const Backend cpu = make_cpu_backend(1);
  sheet.add({"program", "libraries", cpu.device->library_versions(), {}, "", Agreement::same});
  sheet.add({"program", "MPI", world.mpi_version(), {}, "", Agreement::same});
}

void add_ranks(const World& world, RankSheet& sheet) {
  const LaunchEnvironment environment = read_launch_environment();
  sheet.add({"ranks", "number", "{}", static_cast<double>(world.size())});
  std::string how = "one process, without MPI";
  if (environment.launched > 1) {
    how = "started by plsc-train itself";
  } else if (environment.under_mpi) {
    how = "started by " + environment.starter;
  }
  sheet.add({"ranks", "starter", how});
  if (world.local_size() < world.size())
    sheet.add({"ranks", "ranks on the host", "{} on each host", static_cast<double>(world.local_size()), "",
               Agreement::same});
  for (const std::string& warning : world.warnings()) sheet.warn("ranks", warning);
}

/// "avx512_core_amx" of "cpu, 2 threads, avx512_core_amx".
std::string instruction_set() {
  const std::string text = make_cpu_backend(1).device->description();
  return text.substr(text.rfind(", ") + 2);
}

void add_cores(const World& world, RankSheet& sheet) {
  const auto mask = static_cast<double>(affinity_cores().size());
  const auto online = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  const double quota = cpu_quota();
  sheet.add({"cpu", "cores", "cores to use {}", static_cast<double>(available_cores()), "", Agreement::same});
  sheet.add({"cpu", "affinity", "affinity " + fmt::format("{} of ", mask) + "{}", online, "", Agreement::same});
  sheet.add({"cpu", "quota", quota > 0 ? fmt::format("quota {:.3g}", quota) : "no quota", {}, "", Agreement::same});
  sheet.add({"cpu", "threads a rank", "threads a rank {}", static_cast<double>(world.threads()), "", Agreement::same});
  sheet.add({"cpu", "instructions", instruction_set(), {}, "", Agreement::same});
  if (world.oversubscribed()) {
    sheet.warn("cpu", fmt::format("the threads of {} ranks outnumber the cores that they share", world.local_size()),
               "set train.threads lower, start fewer ranks, or let the scheduler bind more cores to each "
               "(srun --cpus-per-task, mpirun --bind-to none)");
  }
}

/// How much else the host computes: rates that are measured beside it are not the machine's.
void add_load(RankSheet& sheet) {
  double load = 0;
  if (::getloadavg(&load, 1) != 1) return;  // no /proc
  sheet.add({"cpu", "load", "load average {}", std::round(100 * load) / 100});
  const auto online = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  // The average of a minute is the host's, whatever cores this process may use.
  if (!is_busy(load, online)) return;
  sheet.warn("cpu",
             fmt::format("a load average of {:.1f} on {:.0f} core{}: others compute here, so that the rates below say "
                         "little, and a training would be slow",
                         load, online, online == 1 ? "" : "s"),
             "top shows who; once they have ended, run the doctor again");
}

int64_t total_memory() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(::sysconf(_SC_PAGE_SIZE));
}

void add_memory(RankSheet& sheet) {
  const std::optional<int64_t> available = known_memory();
  sheet.add({"memory", "total", "{}", static_cast<double>(total_memory()), "B", Agreement::near});
  if (available) {
    sheet.add({"memory", "available", "{} available", static_cast<double>(*available), "B"});
  } else {
    sheet.add({"memory", "available", "available: not known"});
    sheet.warn("memory", "how much memory is available is not known: /proc/meminfo does not tell",
               "mount -t proc proc /proc");
  }
  const auto left = group_memory(control_group_membership(), kControlGroupRoot);
  // Version 1 writes a number near 2^63 where there is no limit.
  const bool limited = left && *left < total_memory();
  sheet.add(limited ? Fact{"memory", "limit", "{} left by the control group's limit", static_cast<double>(*left), "B"}
                    : Fact{"memory", "limit", "no limit of a control group"});
}

void add_limits(const World& world, RankSheet& sheet) {
  struct statvfs shm {};
  const bool has_shm = ::statvfs("/dev/shm", &shm) == 0;
  const double shm_free = has_shm ? static_cast<double>(shm.f_bavail) * static_cast<double>(shm.f_frsize) : 0;
  sheet.add({"limits", "/dev/shm", "/dev/shm {} free", shm_free, "B"});
  if (shm_free < kSharedMemoryARank * world.local_size() && world.local_size() > 1) {
    sheet.warn(
        "limits",
        fmt::format("/dev/shm has {} free; MPI and NCCL want some {} of it for {} ranks", quantity(shm_free, "B"),
                    quantity(kSharedMemoryARank * world.local_size(), "B"), world.local_size()),
        "in a container: docker run --shm-size=1g, or --ipc=host");
  }
  rlimit files{}, locked{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  sheet.add({"limits", "open files", "{} open files", static_cast<double>(files.rlim_cur)});
  const rlim_t wanted = kFilesMore + kFilesARank * static_cast<rlim_t>(world.size());
  if (files.rlim_cur < wanted)
    sheet.warn("limits", fmt::format("{} open files are allowed, {} may be wanted", files.rlim_cur, wanted),
               "raise it with ulimit -n");
  const bool endless = locked.rlim_cur == RLIM_INFINITY;
  sheet.add(endless ? Fact{"limits", "locked memory", "locked memory unlimited", {}, "", Agreement::same}
                    : Fact{"limits", "locked memory", "{} locked memory", static_cast<double>(locked.rlim_cur), "B",
                           Agreement::same});
  std::error_code none;
  const bool infiniband = !std::filesystem::is_empty("/sys/class/infiniband", none) && !none;
  if (infiniband) sheet.add({"limits", "InfiniBand", "InfiniBand or RoCE is there"});
  if (infiniband && !endless && locked.rlim_cur < kLockedForInfiniband) {
    sheet.warn("limits",
               fmt::format("only {} may be locked in memory, which InfiniBand needs",
                           quantity(static_cast<double>(locked.rlim_cur), "B")),
               "ulimit -l unlimited; for Slurm in slurmd's unit: LimitMEMLOCK=infinity");
  }
}

}  // namespace

void probe_host(const World& world, RankSheet& sheet) {
  add_program(world, sheet);
  add_ranks(world, sheet);
  add_cores(world, sheet);
  if (world.local_rank() == 0) add_load(sheet);
  add_memory(sheet);
  add_limits(world, sheet);
}

}  // namespace plsc::doctor
