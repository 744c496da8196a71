// How fast this rank's device multiplies and copies, measured for a fraction of a second each: for the doctor and for a
// plan. The device's memory that they take goes back to it with Device::trim.
#pragma once
#include "runtime/context.h"

namespace plsc {

/// FLOP a second of a product of two square matrices, at the size that the device needs to be busy: in fp32 (TF32 where
/// the backend was made so), and in bf16 or f16, which the device must support.
double fp32_product_rate(Context& context);
double half_product_rate(Context& context, Dtype type);
/// Bytes copied a second within a CPU's memory; reading and writing move twice as many.
double host_copy_rate(Device& device);

}  // namespace plsc
