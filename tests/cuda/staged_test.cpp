// Ranks that share one device, under mpirun: their tensors travel through host memory by MPI.
#include "backend/cuda/cuda_device.h"
#include "dist/mpi_main.h"
#include "runtime/staged_collective.h"
#include "standin.h"
#include "support/catch.h"
#include "support/collective_cases.h"

using namespace plsc;

TEST_CASE("device memory over MPI, whatever order the streams run in") {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    standin::Options options = standin::options();
    options.seed = seed * 100 + static_cast<uint64_t>(test::world().rank());
    standin::set_options(options);
    CudaDevice device(CudaOptions{});
    const auto comm = make_staged_collective(device, test::world().device_collective());
    CHECK_NOTHROW(test::CollectiveCases(device, *comm).all());
  }
}

TEST_CASE("device memory over MPI within a group of the ranks") {
  World& world = test::world();
  const int ranks = world.size() % 2 == 0 ? 2 : 1;
  CudaDevice device(CudaOptions{});
  const auto all = make_staged_collective(device, world.device_collective());
  const auto group = all->split(ranks, world.host_collective());
  CHECK(group->size() == ranks);
  CHECK_NOTHROW(test::CollectiveCases(device, *group).all());
  CHECK_NOTHROW(test::CollectiveCases(device, *all).all());
}

TEST_CASE("one rank's collective on its device") {
  CudaDevice device(CudaOptions{});
  const auto comm = make_device_single_collective(device);
  CHECK_NOTHROW(test::CollectiveCases(device, *comm).all());
}
