// Writes a NumPy .npy file (format 1.0, little-endian float32, C order) row by row, so that it need not fit in memory.
#pragma once
#include <string>

#include "base/files.h"
#include "tensor/tensor.h"

namespace plsc {

class NpyWriter {
 public:
  /// A file for an array of `shape`; it appears at `path` only when it is finished.
  NpyWriter(const std::string& path, Shape shape);

  /// The next rows, (n, ...) fp32 on the host.
  void append(const Tensor& rows);
  /// All rows must have been appended.
  void finish();

 private:
  AtomicFile file_;
  Shape shape_;
  int64_t rows_ = 0;
};

}  // namespace plsc
