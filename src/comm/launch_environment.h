// How this process was started, read from the environment before MPI is touched.
#pragma once
#include <cstdlib>
#include <functional>
#include <string>

namespace plsc {

struct LaunchEnvironment {
  bool under_mpi = false;  // by mpirun, or by srun with PMIx: MPI will find the other ranks
  int rank = 0;            // what the starter says; the world's own number is the true one
  int promised = 0;        // tasks that the starter or the allocation promises; 0: nobody says
  int launched = 0;        // ranks that our own launcher started; 0: it did not
  // The starter lets a rank out of MPI_Init while others may not yet take a message, as Slurm's PMIx does between
  // nodes: there a fence without data, which is MPI_Init's last, waits for the ranks of the own node alone, and Open
  // MPI 4.1 falls over a message that comes before its fence. SLURM_PMIX_FENCE_BARRIER and SLURM_PMIX_FENCE cure that.
  bool loose_start = false;
  std::string starter;  // "mpirun", "srun", "a Slurm allocation"; empty: started plainly
};

/// Reads variables of Open MPI, PMIx, PMI and Slurm. `get` is std::getenv but for tests.
LaunchEnvironment read_launch_environment(const std::function<const char*(const char*)>& get = [](const char* name) {
  return std::getenv(name);
});

/// Throws Error when the starter promises more tasks than the world of `ranks` holds: N separate runs would write into
/// one folder. The hint says how to start them as one.
void check_promised_tasks(const LaunchEnvironment& environment, int ranks);

/// True where this process should start `ranks` ranks itself instead of being one of them. Throws as above.
bool needs_launcher(const LaunchEnvironment& environment, int ranks);

}  // namespace plsc
