// The search for nearest rows on a GPU.
#pragma once
#include <memory>

#include "backend/neighbour_ops.h"

namespace plsc {

struct CudaRuntime;

struct CudaNeighbourOptions {
  /// Queries that meet the keys together.
  int64_t query_rows = 2048;
  /// Keys of a tile; 0: as many as the second-level cache holds.
  int64_t tile_rows = 0;
};

/// The runtime must outlive the ops, and these their searches. Nothing here waits for the device.
std::unique_ptr<NeighbourOps> make_cuda_neighbour_ops(const CudaRuntime& runtime,
                                                      const CudaNeighbourOptions& options = {});

}  // namespace plsc
