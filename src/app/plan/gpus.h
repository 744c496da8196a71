// GPUs that a plan can be made for by name.
#pragma once
#include <cstdint>
#include <string>

#include "app/plan/plan.h"

namespace plsc::plan {

/// What the datasheet says, per second, and the parts of it that a training reaches.
struct GpuModel {
  const char* name;
  int capability;           // 80: 8.0
  double memory;            // bytes, as such a GPU reports them
  int64_t cache;            // bytes of the second level
  double half, tf32, fp32;  // FLOP of dense matrix products
  double bandwidth;         // bytes of its memory
  double link;              // bytes by NVLink, one way
  double host;              // bytes by PCIe, one way
  double of_half;           // the part of `half` that a network reaches
  const char* where;        // of_half is from
};

/// Error with all names where there is none called so.
const GpuModel& gpu_model(const std::string& name);
/// What of it can be reached; of the network between hosts nothing is known. `tf32`: fp32 products are of that type.
Rates reached_rates(const GpuModel& gpu, bool tf32);
/// A line for each, and where the parts come from: for the help.
std::string gpu_table();

}  // namespace plsc::plan
