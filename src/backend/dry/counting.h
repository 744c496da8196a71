// What everybody needs who counts bytes and FLOP: in double, as they go beyond what an int64_t holds.
#pragma once
#include "tensor/tensor.h"

namespace plsc::counting {

inline constexpr double kValue = 4;  // bytes of an fp32 value

inline double number(int64_t n) { return static_cast<double>(n); }
inline double bytes_of(const Tensor& t) { return static_cast<double>(t.bytes()); }

}  // namespace plsc::counting
