// Ends a test program for a real GPU with the status that says "skipped" where there is none.
#define CATCH_CONFIG_EXTERNAL_INTERFACES  // of Catch2 2: listeners
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "support/catch.h"

namespace plsc::test {
namespace {

#if __has_include(<catch2/catch_all.hpp>)
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

class GpuOnly : public Listener {
 public:
  using Listener::Listener;
  void testRunStarting(const Catch::TestRunInfo&) override {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return;
    std::puts("skipped: this machine has no GPU");
    std::fflush(stdout);
    std::_Exit(77);
  }
};

CATCH_REGISTER_LISTENER(GpuOnly)

}  // namespace
}  // namespace plsc::test
