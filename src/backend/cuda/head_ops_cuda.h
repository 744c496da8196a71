// The head's passes on a GPU.
#pragma once
#include <memory>

#include "backend/head_ops.h"
#include "kernels/math/step_state.h"

namespace plsc {

class CudaDevice;
struct CudaRuntime;

struct CudaHeadOptions {
  /// Rows of a tile; 0: as many as the second-level cache holds.
  int64_t tile_rows = 0;
};

/// The device, its runtime and the state, which is device memory, must outlive the ops. Nothing here waits for the
/// device, but for SampledRows::get where the number of rows is not known yet (head_sample_cuda.h).
std::unique_ptr<HeadOps> make_cuda_head_ops(CudaDevice& device, const CudaRuntime& runtime, math::StepState* state,
                                            const CudaHeadOptions& options = {});

}  // namespace plsc
