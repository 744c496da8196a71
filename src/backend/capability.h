// What GPUs can, by their compute capability (90 for 9.0).
#pragma once

namespace plsc {

/// From which on they have fast products of a type.
inline constexpr int kFp16Capability = 70, kBf16Capability = 80, kTf32Capability = 80;

}  // namespace plsc
