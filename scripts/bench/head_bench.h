// What bench_head measures the margin head against: its four matrix products alone, at the head's own shapes.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace plsc {

struct HeadBench {
  std::string device = "cpu", precision = "fp32", store = "fp32", update = "dense";
  std::string momentum = "fp32", tier = "device";
  int64_t classes = 1000000, columns = 512, batch = 128, steps = 3;
  double ratio = 1;  // of the classes that a step samples; 1: full softmax
  int threads = 1;   // on a CPU
  /// Rows of a tile, for the products alone. Empty: those that are likely on the device.
  std::vector<int64_t> tiles;
  /// Rows of the head's own tiles on a GPU; 0: as it chooses.
  int64_t head_tile = 0;

  bool on_gpu() const { return device == "cuda"; }
  Dtype compute() const { return precision == "bf16" ? Dtype::bf16 : Dtype::f32; }
  /// Cosines twice, the rows' gradient, the embeddings' gradient: 2 B D each for a row.
  double flop(int64_t rows) const {
    return 8.0 * static_cast<double>(batch) * static_cast<double>(rows) * static_cast<double>(columns);
  }
};

/// Seconds of the four products for `rows` class centres in tiles of `tile` rows: a part of the tiles is timed, and
/// scaled up. On a CPU each thread has its own tiles, on a GPU two slots take turns, both as in the head.
double time_cpu_products(const HeadBench& o, int64_t tile, int64_t rows);
double time_cuda_products(Backend& backend, const HeadBench& o, int64_t tile, int64_t rows);

/// The backend of the run: on a GPU with tiles of o.head_tile rows.
Backend make_head_backend(const HeadBench& o);
Backend make_cuda_head_backend(const HeadBench& o);

}  // namespace plsc
