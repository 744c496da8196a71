// What no function of sizes says of a GPU that a dry run plays.
#pragma once
#include <cstdint>

namespace plsc {

struct GpuTraits {
  int64_t cache = int64_t{50} << 20;  // bytes of second-level cache, which the head's tiles are cut by: an H100's
  bool bf16 = true;                   // has products of it; the head's are in fp32 without
};

}  // namespace plsc
