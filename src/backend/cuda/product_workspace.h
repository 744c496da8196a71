// The scratch memory of cuBLASLt's products: its size alone, without CUDA, so that a plan knows it anywhere.
#pragma once
#include <cstddef>

namespace plsc {

/// Bytes: one for the products of a stream.
inline constexpr size_t kProductWorkspace = size_t{32} << 20;

}  // namespace plsc
