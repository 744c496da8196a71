// What bench_knn measures the class graph against: its matrix products alone.
#pragma once
#include <cstdint>
#include <string>

#include "backend/backend.h"

namespace plsc {

struct KnnBench {
  std::string device = "cpu", scoring = "fp32";
  int64_t classes = 300000, columns = 128, neighbours = 100;
  int threads = 1;  // on a CPU

  bool on_gpu() const { return device == "cuda"; }
  Dtype compute() const { return scoring == "bf16" ? Dtype::bf16 : Dtype::f32; }
};

/// FLOP a second of products (queries, D) x (D, keys) at the best of several tile sizes, by the backend's own calls.
double cpu_product_rate(const KnnBench& o);
double cuda_product_rate(Backend& backend, const KnnBench& o);

}  // namespace plsc
