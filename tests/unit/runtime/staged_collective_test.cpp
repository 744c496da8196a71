// Collectives for a far device over collectives of the host: the copies there and back, and their order.
#include "runtime/staged_collective.h"

#include "support/catch.h"
#include "support/collective_cases.h"
#include "support/fake_device.h"
#include "support/thread_world.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("device memory through host memory, on any number of ranks") {
  for (const int ranks : {1, 2, 3, 4}) {
    INFO(ranks << " ranks");
    CHECK_NOTHROW(run_ranks(ranks, [](ThreadRank& self) {
      FakeDevice device(true);
      const auto comm = make_staged_collective(device, self.comm);
      CollectiveCases(device, *comm).all();
    }));
  }
}

TEST_CASE("host tensors go straight to the host's collective") {
  run_ranks(2, [](ThreadRank& self) {
    FakeDevice device(true);
    const auto comm = make_staged_collective(device, self.comm);
    Tensor t = Tensor::from<float>({1.0F}, {1});
    comm->all_reduce(t, ReduceOp::sum);
    PLSC_CHECK(t.data<float>()[0] == 2.0F);
    PLSC_CHECK(device.largest_copy == 0);
  });
}

TEST_CASE("one rank on a far device: gathers are copies on the device") {
  FakeDevice device(true);
  const auto comm = make_device_single_collective(device);
  CHECK_NOTHROW(CollectiveCases(device, *comm).all());
}
