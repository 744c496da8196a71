// What is found on a machine, and in one line why nothing can be used.
#include <cstdlib>

#include "backend/backend.h"
#include "standin_test.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

/// A variable of the environment, for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("probe: the GPUs that this process sees") {
  standin::TestMachine machine;
  machine.change([](standin::Options& options) {
    options.devices = 3;
    options.capability_major = 8;
    options.capability_minor = 6;
    options.memory = size_t{24} << 30;
  });
  const CudaProbe probe = probe_cuda();
  CHECK(probe.built);
  CHECK(probe.problem.empty());
  REQUIRE(probe.gpus.size() == 3);
  for (const CudaProbe::Gpu& gpu : probe.gpus) {
    CHECK(gpu.name == "stand-in");
    CHECK(gpu.capability == 86);
    CHECK(gpu.memory == int64_t{24} << 30);
    CHECK(gpu.id.size() == 32);
  }
  CHECK(probe.gpus[0].id != probe.gpus[1].id);
  // The same card keeps its name under another number.
  machine.change([](standin::Options& options) { options.visible = "2"; });
  const CudaProbe one = probe_cuda();
  REQUIRE(one.gpus.size() == 1);
  CHECK(one.gpus[0].id == probe.gpus[2].id);
}

TEST_CASE("probe: no GPU") {
  standin::TestMachine machine;
  const Variable visible("CUDA_VISIBLE_DEVICES", nullptr);
  machine.change([](standin::Options& options) { options.devices = 0; });
  const CudaProbe probe = probe_cuda();
  CHECK(probe.built);
  CHECK(probe.gpus.empty());
  CHECK(probe.problem == "this machine has no GPU");
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("probe: a GPU that CUDA_VISIBLE_DEVICES hides") {
  standin::TestMachine machine;
  const Variable visible("CUDA_VISIBLE_DEVICES", "");
  machine.change([](standin::Options& options) { options.visible = ""; });
  CHECK(probe_cuda().problem == "CUDA_VISIBLE_DEVICES='' leaves no GPU");
}

TEST_CASE("probe: a driver that is too old") {
  standin::TestMachine machine;
  machine.change([](standin::Options& options) { options.old_driver = true; });
  const CudaProbe probe = probe_cuda();
  CHECK(contains_all(probe.problem, {"supports CUDA 11.4", fmt::format("built with CUDA {}.", CUDART_VERSION / 1000),
                                     "newer driver"}));
  CHECK(probe.problem.find('\n') == std::string::npos);
}

}  // namespace plsc::test
