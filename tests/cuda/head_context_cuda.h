// A rank of the head on CUDA.
#pragma once
#include "support/head_context.h"

namespace plsc {
struct CudaRuntime;
}

namespace plsc::test {

class CudaHeadOwner : public HeadContextOwner {
 public:
  virtual const CudaRuntime& runtime() = 0;
};
/// `tile_rows`: see CudaHeadOptions.
std::unique_ptr<CudaHeadOwner> make_cuda_head_context(int64_t tile_rows);

}  // namespace plsc::test
