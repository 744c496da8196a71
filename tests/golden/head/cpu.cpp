// These cases run on the CPU.
#include "support/head_context_cpu.h"

namespace plsc::test {

std::unique_ptr<HeadContextOwner> make_head_context(int threads) { return std::make_unique<CpuHeadContext>(threads); }

}  // namespace plsc::test
