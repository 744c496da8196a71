// What the stand-in reads in the environment.
#include <cstdlib>

#include "runtime.h"
#include "standin_test.h"

using namespace plsc::standin;

namespace {

/// A variable of the environment, for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    const char* former = std::getenv(name);
    if (former != nullptr) former_ = former;
    setenv(name, value, 1);
  }
  ~Variable() {
    if (former_) {
      setenv(name_, former_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> former_;
};

}  // namespace

TEST_CASE("stand-in: options of the environment") {
  {
    const Variable devices("PLSC_STANDIN_DEVICES", "4"), visible("CUDA_VISIBLE_DEVICES", "1,3"),
        capability("PLSC_STANDIN_CAPABILITY", "7.5"), memory("PLSC_STANDIN_MEMORY", "64MiB"),
        seed("PLSC_STANDIN_SEED", "17"), idle("PLSC_STANDIN_IDLE_MS", "-1"), guards("PLSC_STANDIN_GUARDS", "1"),
        leaks("PLSC_STANDIN_LEAKS", "1"), protect("PLSC_STANDIN_PROTECT", "0"),
        fault("PLSC_STANDIN_NCCL", "hang:rank=2:call=10");
    const Options options = options_from_environment();
    CHECK(options.devices == 4);
    CHECK_FALSE(options.old_driver);
    CHECK(options.visible == "1,3");
    CHECK(options.capability_major == 7);
    CHECK(options.capability_minor == 5);
    CHECK(options.memory == 64 << 20);
    CHECK(options.seed == 17);
    CHECK(options.idle_ms == -1);
    CHECK(options.check_guards);
    CHECK(options.report_leaks);
    CHECK_FALSE(options.protect);
    REQUIRE(options.nccl_fault);
    CHECK(options.nccl_fault->kind == NcclFault::Kind::hang);
    CHECK(options.nccl_fault->rank == 2);
    CHECK(options.nccl_fault->call == 10);
  }
  const Variable devices("PLSC_STANDIN_DEVICES", "old-driver"), memory("PLSC_STANDIN_MEMORY", "3GiB"),
      fault("PLSC_STANDIN_NCCL", "error:rank=0:call=1");
  const Options options = options_from_environment();
  CHECK(options.old_driver);
  CHECK(options.memory == size_t{3} << 30);
  REQUIRE(options.nccl_fault);
  CHECK(options.nccl_fault->kind == NcclFault::Kind::error);
}
