// From a batch's bytes to the network's input tensor: the one place where data.normalize is applied.
#pragma once
#include "config/config.h"
#include "runtime/context.h"

namespace plsc {

/// bytes (N, H, W, C) u8 on the host -> (N, H, W, C) of the context's activation type on its device.
/// flip (N) u8 mirrors image i where nonzero; undefined mirrors none.
Tensor to_network_input(Context& context, const DataConfig& data, const Tensor& bytes, const Tensor& flip);
/// The same into a tensor that is there.
void to_network_input(Context& context, const DataConfig& data, const Tensor& bytes, const Tensor& flip, Tensor& y);

}  // namespace plsc
