// The segments of a GPU's arena: cudaMalloc and cudaFree.
#pragma once
#include <memory>

#include "backend/arena.h"

namespace plsc {

/// Of the calling thread's current device, which whoever takes and gives back has set.
std::unique_ptr<SegmentSource> make_device_segments();

}  // namespace plsc
