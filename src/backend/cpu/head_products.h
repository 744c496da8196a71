// The matrix products of one tile of class centres, by oneDNN. One object serves one thread: its primitives are made
// for a single thread, because tiles, not products, are what the threads share out.
#pragma once
#include <functional>
#include <map>
#include <memory>

#include "backend/cpu/dnnl_exec.h"

namespace plsc {

/// S samples, D columns, R rows of a tile. w (R, D), x (S, D) and g (R, S) are fp32 or bf16, results are fp32.
class TileProducts {
 public:
  TileProducts(Allocator& memory, int64_t samples, int64_t columns, Dtype compute);

  /// The first two products are made this many rows at a time, which must divide R; 0: all at once. oneDNN's kernels
  /// for AVX2 sum a row in another order where it is among the last few, or in a large product: rows of products of one
  /// size have one order wherever they are. (With AVX-512 and oneDNN 2.6 sums were equal in any case.)
  void set_rows_at_once(int64_t rows) { at_once_ = rows; }

  /// dots (R, S) = w x^T
  void dots(int64_t rows, const void* w, const void* x, float* dots);
  /// u (R, D) = g x
  void row_gradient(int64_t rows, const void* g, const void* x, float* u);
  /// dx (S, D) += g^T w
  void add_sample_gradient(int64_t rows, const void* g, const void* w, float* dx);

 private:
  enum class Product { dots, row_gradient, sample_gradient };
  DnnlPrimitive& prepared(Product product, int64_t rows);
  /// to (R, to_columns) = from (R, from_columns) times x
  struct Rows {
    const void* from;
    int64_t from_columns;
    float* to;
    int64_t to_columns;
  };
  void multiply(Product product, int64_t rows, const Rows& r, const void* x);
  std::unique_ptr<DnnlPrimitive> make(Product product, int64_t rows) const;

  DnnlRuntime runtime_;
  int64_t samples_, columns_;
  dnnl::memory::data_type type_;
  int64_t at_once_ = 0;
  std::map<std::pair<Product, int64_t>, std::unique_ptr<DnnlPrimitive>> primitives_;
};

}  // namespace plsc
