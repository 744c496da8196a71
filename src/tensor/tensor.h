// A tensor: a typed, shaped, contiguous view of storage on some device. No arithmetic here; see backend/.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace plsc {

/// Where storage comes from. A Device is one; `host_allocator()` is plain host memory.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// At least `bytes` bytes aligned to 64, uninitialised. Throws Error when there is no memory.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) noexcept = 0;
  /// True where the host may read and write the memory directly.
  virtual bool is_host() const = 0;
};

/// Host memory, 64-byte aligned. Stateless, so one object serves all.
Allocator& host_allocator();

/// Copies share storage, as in every framework that users know: an activation has several readers (the next
/// convolution's weight gradient, a residual branch) and must live until the last of them is done. That is the
/// reason for the one shared_ptr of the project's core.
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised storage from `allocator`, which must outlive the tensor.
  Tensor(Allocator& allocator, Shape shape, Dtype dtype);
  /// A host tensor with the given values.
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape) {
    PLSC_CHECK(static_cast<int64_t>(values.size()) == shape.elements(), "{} values for {}", values.size(),
               shape.text());
    Tensor t(host_allocator(), shape, DtypeOf<T>::value);
    std::copy(values.begin(), values.end(), t.data<T>());
    return t;
  }

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t elements() const { return shape_.elements(); }
  Dtype dtype() const { return dtype_; }
  size_t bytes() const { return static_cast<size_t>(elements()) * dtype_size(dtype_); }
  bool on_host() const { return on_host_; }

  /// The elements; the type must be the tensor's. Whether the host may touch them is `on_host()`.
  template <class T>
  T* data() const {
    PLSC_CHECK(DtypeOf<T>::value == dtype_, "a {} tensor read as {}", dtype_name(dtype_),
               dtype_name(DtypeOf<T>::value));
    return static_cast<T*>(data_);
  }
  void* raw() const { return data_; }
  template <class T>
  std::span<T> span() const {
    PLSC_CHECK(on_host_);
    return {data<T>(), static_cast<size_t>(elements())};
  }
  template <class T>
  std::vector<T> values() const {
    auto s = span<T>();
    return {s.begin(), s.end()};
  }

  /// The same storage under another shape of as many elements.
  Tensor reshape(Shape shape) const;
  /// Rows [begin, begin + count) of the outermost dimension, sharing storage.
  Tensor rows(int64_t begin, int64_t count) const;
  /// `shape` elements that start `offset` elements into this tensor, sharing storage.
  Tensor slice(int64_t offset, Shape shape) const;

 private:
  std::shared_ptr<void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  Dtype dtype_ = Dtype::f32;
  bool on_host_ = true;
};

}  // namespace plsc
