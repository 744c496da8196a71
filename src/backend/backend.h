// The compute seam as a whole. CPU and CUDA run the same head, trainer and checkpoint code; only these differ.
#pragma once
#include <memory>

#include "backend/device.h"
#include "backend/head_ops.h"
#include "backend/image_ops.h"
#include "backend/nn_ops.h"
#include "backend/optim_ops.h"

namespace plsc {

struct Backend {
  // The device comes first: it outlives the ops, which hold memory of it.
  std::unique_ptr<Device> device;
  std::unique_ptr<NnOps> nn;
  std::unique_ptr<HeadOps> head;
  std::unique_ptr<OptimOps> optim;
  std::unique_ptr<ImageOps> image;
};

/// oneDNN and our own kernels, on `threads` threads of this process.
Backend make_cpu_backend(int threads);

}  // namespace plsc
