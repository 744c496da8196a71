// The variables by which starters tell a process who it is.
#include "comm/launch_environment.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "comm/errors.h"

namespace plsc {
namespace {

/// The first variable of `names` that holds a number; `otherwise` when none does.
int number(const std::function<const char*(const char*)>& get, std::initializer_list<const char*> names,
           int otherwise) {
  for (const char* name : names) {
    const char* text = get(name);
    int value = 0;
    if (text && std::from_chars(text, text + std::strlen(text), value).ec == std::errc()) return value;
  }
  return otherwise;
}

/// Whether Slurm has been told to make every fence one over all nodes. Its tree of nodes skips those without data even
/// then (seen with 22.05); its ring does not.
bool slurm_fences_all_nodes(const std::function<const char*(const char*)>& get) {
  const auto is = [&](const char* name, std::initializer_list<const char*> values) {
    const char* text = get(name);
    return text && std::any_of(values.begin(), values.end(), [&](const char* v) { return std::strcmp(text, v) == 0; });
  };
  return is("SLURM_PMIX_FENCE_BARRIER", {"1", "true", "yes"}) && is("SLURM_PMIX_FENCE", {"ring"});
}

}  // namespace

LaunchEnvironment read_launch_environment(const std::function<const char*(const char*)>& get) {
  LaunchEnvironment e;
  e.launched = number(get, {"PLSC_LAUNCHED"}, 0);
  if (get("OMPI_COMM_WORLD_SIZE")) {
    e.under_mpi = true;
    e.starter = "mpirun";
    e.promised = number(get, {"OMPI_COMM_WORLD_SIZE"}, 0);
    e.rank = number(get, {"OMPI_COMM_WORLD_RANK"}, 0);
  } else if (get("PMIX_RANK") || get("PMI_RANK")) {
    e.under_mpi = true;
    e.starter = get("SLURM_STEP_ID") || get("SLURM_STEPID") ? "srun" : "mpirun";
    e.promised = number(get, {"PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}, 0);
    e.rank = number(get, {"PMIX_RANK", "PMI_RANK"}, 0);
    e.loose_start = e.starter == "srun" && number(get, {"SLURM_STEP_NUM_NODES", "SLURM_NNODES"}, 2) > 1 &&
                    !slurm_fences_all_nodes(get);
  } else if (get("SLURM_STEP_ID") || get("SLURM_STEPID")) {
    e.promised = number(get, {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}, 0);
    e.rank = number(get, {"SLURM_PROCID"}, 0);
    e.starter = e.promised > 1 ? "srun" : "";
  } else if (get("SLURM_JOB_ID")) {
    e.promised = number(get, {"SLURM_NTASKS", "SLURM_NPROCS"}, 0);
    e.starter = e.promised > 1 ? "a Slurm allocation" : "";
  }
  return e;
}

void check_promised_tasks(const LaunchEnvironment& e, int ranks) {
  if (e.launched > 1 && ranks != e.launched) {
    fail_hint("install Open MPI's own (Debian: apt-get install openmpi-bin) and put it first in PATH",
              "mpirun was asked for {} ranks, but this process found {}: it is not the mpirun of the MPI library that "
              "this program uses",
              e.launched, ranks);
  }
  if (e.promised <= 1 || e.promised == ranks) return;
  const std::string hint =
      e.starter == "mpirun" ? "use the mpirun of the Open MPI that this program is linked to"
                            : "start it by `srun --mpi=pmix plsc-train ...` (`srun --mpi=list` shows what this Slurm "
                              "has), or by `mpirun plsc-train ...` inside the allocation";
  throw SharedError(
      fmt::format("{} promises {} tasks, but MPI finds {} rank(s): they would run apart and write to one folder",
                  e.starter, e.promised, ranks),
      e.rank == 0 ? Voice::speak : Voice::silent, hint);
}

bool needs_launcher(const LaunchEnvironment& e, int ranks) {
  if (e.under_mpi) return false;
  check_promised_tasks(e, e.launched > 1 || e.starter == "srun" ? 1 : ranks);
  return ranks > 1;
}

}  // namespace plsc
