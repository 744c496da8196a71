// How a process tells the ways that it may have been started apart.
#include "comm/launch_environment.h"

#include <map>

#include "comm/world.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {
LaunchEnvironment with(const std::map<std::string, std::string>& variables) {
  return read_launch_environment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}
}  // namespace

TEST_CASE("started plainly: this program starts its own ranks") {
  const LaunchEnvironment e = with({});
  CHECK_FALSE(e.under_mpi);
  CHECK_FALSE(needs_launcher(e, 1));
  CHECK(needs_launcher(e, 4));
}

TEST_CASE("under mpirun") {
  const LaunchEnvironment e = with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "2"}, {"PMIX_RANK", "2"}});
  CHECK(e.under_mpi);
  CHECK(e.rank == 2);
  CHECK(e.promised == 4);
  CHECK_FALSE(needs_launcher(e, 2));  // the ranks that there are
  CHECK_NOTHROW(check_promised_tasks(e, 4));
  CHECK(contains_all(error_text([&] { check_promised_tasks(e, 1); }), {"mpirun promises 4", "1 rank", "Open MPI"}));
}

TEST_CASE("under mpirun inside a Slurm allocation of another size") {
  const LaunchEnvironment e = with({{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}});
  CHECK_NOTHROW(check_promised_tasks(e, 2));
}

TEST_CASE("srun with PMIx") {
  const LaunchEnvironment e = with({{"PMIX_RANK", "1"},
                                    {"SLURM_JOB_ID", "7"},
                                    {"SLURM_STEP_ID", "0"},
                                    {"SLURM_NTASKS", "8"},
                                    {"SLURM_STEP_NUM_TASKS", "4"}});
  CHECK(e.under_mpi);
  CHECK(e.starter == "srun");
  CHECK_NOTHROW(check_promised_tasks(e, 4));
  CHECK(contains(error_text([&] { check_promised_tasks(e, 1); }), "srun --mpi=pmix"));
}

TEST_CASE("srun's fences without data hold back the ranks of one node alone, unless told otherwise") {
  const std::map<std::string, std::string> step{
      {"PMIX_RANK", "1"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_NUM_NODES", "2"}};
  const auto loose = [&](const std::map<std::string, std::string>& more) {
    std::map<std::string, std::string> all = more;
    all.insert(step.begin(), step.end());
    return with(all).loose_start;
  };
  CHECK(loose({}));
  CHECK(loose({{"SLURM_PMIX_FENCE_BARRIER", "true"}}));  // the tree, which is the default, skips them still
  CHECK(loose({{"SLURM_PMIX_FENCE_BARRIER", "false"}, {"SLURM_PMIX_FENCE", "ring"}}));
  CHECK_FALSE(loose({{"SLURM_PMIX_FENCE_BARRIER", "true"}, {"SLURM_PMIX_FENCE", "ring"}}));
  CHECK_FALSE(loose({{"SLURM_STEP_NUM_NODES", "1"}}));
  CHECK_FALSE(with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "2"}, {"SLURM_STEP_NUM_NODES", "2"}}).loose_start);
}

TEST_CASE("srun without PMIx: several tasks that do not know each other") {
  const LaunchEnvironment e =
      with({{"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "3"}});
  CHECK_FALSE(e.under_mpi);
  CHECK(e.rank == 3);
  for (const int ranks : {1, 4}) {  // not even where the configuration asks for as many: each would start four
    CHECK(contains_all(error_text([&] { needs_launcher(e, ranks); }), {"srun promises 4 tasks", "srun --mpi=pmix"}));
  }
  try {
    check_promised_tasks(e, 1);
  } catch (const SharedError& error) {
    CHECK(error.voice() == Voice::silent);  // task 0 says it
  }
}

TEST_CASE("srun with another PMI than Open MPI has") {
  const LaunchEnvironment e = with({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}, {"SLURM_STEP_ID", "0"}});
  CHECK(e.under_mpi);
  CHECK(contains(error_text([&] { check_promised_tasks(e, 1); }), "srun --mpi=pmix"));
}

TEST_CASE("plainly inside an allocation") {
  const LaunchEnvironment batch = with({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}});
  CHECK(contains_all(error_text([&] { needs_launcher(batch, 1); }), {"a Slurm allocation promises 8", "--mpi=pmix"}));
  CHECK(needs_launcher(batch, 8));  // as many as were asked for, on purpose
  const LaunchEnvironment one = with({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "1"}});
  CHECK(needs_launcher(one, 2));
  const LaunchEnvironment shell = with({{"SLURM_JOB_ID", "7"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}});
  CHECK(needs_launcher(shell, 2));  // srun --pty bash
}

TEST_CASE("an mpirun of another MPI does not make a launcher of every rank") {
  const LaunchEnvironment e = with({{"PLSC_LAUNCHED", "3"}});
  CHECK(contains_all(error_text([&] { needs_launcher(e, 3); }), {"mpirun was asked for 3", "openmpi-bin"}));
}

TEST_CASE("ranks share cores by their masks") {
  CHECK(ranks_sharing_cores({{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}, 1) == 3);
  CHECK(ranks_sharing_cores({{0, 1}, {2, 3}}, 1) == 1);
  CHECK(ranks_sharing_cores({{0, 1}, {1, 2}, {4}}, 0) == 2);
}
