// The CPU as the device of the head's cases: include it in one file of an executable.
#pragma once
#include "support/cpu_context.h"
#include "support/head_context.h"

namespace plsc::test {

class CpuHeadContext final : public HeadContextOwner {
 public:
  explicit CpuHeadContext(int threads) : cpu_(threads) {}
  Context& context() override { return cpu_.context; }

 private:
  CpuContext cpu_;
};

}  // namespace plsc::test
