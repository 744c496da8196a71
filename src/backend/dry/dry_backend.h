// A backend that computes nothing: the same network, head and training step run on it in a moment, and leave behind how
// much memory they took, what they would have computed, and how much they would have moved. What comes of a step is 0.
#pragma once
#include <functional>

#include "backend/backend.h"
#include "backend/dry/op_memory.h"
#include "backend/dry/tally.h"

namespace plsc {

struct DryOptions {
  DeviceKind kind = DeviceKind::cpu;
  int threads = 1;  // of a CPU
  GpuTraits gpu;
  /// Rows of this rank that a sampled step takes: no label is looked at.
  std::function<int64_t(const SampleRows&)> active_rows;
};

/// The tally outlives the backend, whose device is a DryDevice.
Backend make_dry_backend(const DryOptions& options, DryTally& tally);

}  // namespace plsc
