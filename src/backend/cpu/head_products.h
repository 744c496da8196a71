// The matrix products of one tile of class centres, by oneDNN. One object serves one thread: its primitives are made
// for a single thread, because tiles, not products, are what the threads share out.
#pragma once
#include <functional>
#include <map>
#include <memory>

#include "backend/cpu/dnnl_exec.h"

namespace plsc {

/// How the dot products read x. Where they read it as its transpose, their bits may depend on R: without AVX-512,
/// oneDNN sums the last few rows of some R in another order. (With AVX-512 and oneDNN 2.6 they were equal either way.)
enum class DotsRead { samples, columns };  // x (S, D), or a transposed copy of it (D, S)

/// S samples, D columns, R rows of a tile. w (R, D), x (S, D) and g (R, S) are fp32 or bf16, results are fp32.
class TileProducts {
 public:
  TileProducts(Allocator& memory, int64_t samples, int64_t columns, Dtype compute, DotsRead read = DotsRead::samples);

  /// dots (R, S) = w x^T, with x as `read` says.
  void dots(int64_t rows, const void* w, const void* x, float* dots);
  /// u (R, D) = g x
  void row_gradient(int64_t rows, const void* g, const void* x, float* u);
  /// dx (S, D) += g^T w
  void add_sample_gradient(int64_t rows, const void* g, const void* w, float* dx);

 private:
  enum class Product { dots, row_gradient, sample_gradient };
  DnnlPrimitive& prepared(Product product, int64_t rows);
  std::unique_ptr<DnnlPrimitive> make(Product product, int64_t rows) const;

  DnnlRuntime runtime_;
  int64_t samples_, columns_;
  dnnl::memory::data_type type_;
  DotsRead read_;
  std::map<std::pair<Product, int64_t>, std::unique_ptr<DnnlPrimitive>> primitives_;
};

}  // namespace plsc
