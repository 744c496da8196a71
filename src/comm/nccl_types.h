// What NCCL calls our types and reductions. Of src/comm/nccl.cpp alone.
#pragma once
#include <nccl.h>

#include "comm/collective.h"

namespace plsc::nccl {

inline ncclDataType_t nccl_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return ncclFloat32;
    case Dtype::f64:
      return ncclFloat64;
    case Dtype::i64:
      return ncclInt64;
    case Dtype::i32:
      return ncclInt32;
    case Dtype::u8:
      return ncclUint8;
    case Dtype::bf16:
      return ncclBfloat16;
    case Dtype::f16:
      return ncclFloat16;
  }
  return ncclUint8;
}

inline ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::sum ? ncclSum : op == ReduceOp::max ? ncclMax : ncclMin;
}

}  // namespace plsc::nccl
