// The shape of a tensor: up to five dimensions, outermost first. Activations are (N, H, W, C).
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"

namespace plsc {

class Shape {
 public:
  static constexpr int kMaxDims = 5;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims) {
    PLSC_CHECK(dims.size() <= kMaxDims, "{} dimensions", dims.size());
    for (int64_t d : dims) {
      PLSC_CHECK(d >= 0, "a dimension of {}", d);
      dims_[static_cast<size_t>(count_++)] = d;
    }
  }

  int size() const { return count_; }
  int64_t operator[](int i) const {
    PLSC_CHECK(i >= 0 && i < count_, "dimension {} of {}", i, count_);
    return dims_[static_cast<size_t>(i)];
  }
  /// Product of the dimensions; 1 for a scalar (no dimension).
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < count_; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(count_)}; }
  bool operator==(const Shape& o) const {
    if (count_ != o.count_) return false;
    for (int i = 0; i < count_; ++i)
      if (dims_[static_cast<size_t>(i)] != o.dims_[static_cast<size_t>(i)]) return false;
    return true;
  }
  /// "(8, 112, 112, 64)"
  std::string text() const;

 private:
  std::array<int64_t, kMaxDims> dims_{};
  int count_ = 0;
};

}  // namespace plsc
