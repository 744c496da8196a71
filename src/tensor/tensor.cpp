#include "tensor/tensor.h"

#include <cstdlib>
#include <new>

#include "base/clock.h"

namespace plsc {
namespace {

class HostAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    const size_t rounded = (bytes + 63) / 64 * 64;
    void* data = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
    if (data == nullptr) {
      fail_hint("lower train.batch_size, or use more ranks", "out of host memory: asked for {}",
                human_bytes(static_cast<double>(bytes)));
    }
    return data;
  }
  void release(void* data, size_t) noexcept override { std::free(data); }
  bool is_host() const override { return true; }
};

}  // namespace

Allocator& host_allocator() {
  static HostAllocator allocator;
  return allocator;
}

Tensor::Tensor(Allocator& allocator, Shape shape, Dtype dtype)
    : shape_(shape), dtype_(dtype), on_host_(allocator.is_host()) {
  const size_t size = bytes();
  data_ = allocator.allocate(size);
  storage_ = std::shared_ptr<void>(data_, [&allocator, size](void* p) { allocator.release(p, size); });
}

Tensor Tensor::reshape(Shape shape) const {
  PLSC_CHECK(shape.elements() == elements(), "{} as {}", shape_.text(), shape.text());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  PLSC_CHECK(shape_.size() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0], "rows [{}, {}) of {}", begin,
             begin + count, shape_.text());
  std::array<int64_t, Shape::kMaxDims> dims{};
  int64_t stride = 1;
  for (int i = 0; i < shape_.size(); ++i) {
    dims[static_cast<size_t>(i)] = i == 0 ? count : shape_[i];
    if (i > 0) stride *= shape_[i];
  }
  return slice(begin * stride, Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(shape_.size()))));
}

Tensor Tensor::slice(int64_t offset, Shape shape) const {
  PLSC_CHECK(offset >= 0 && offset + shape.elements() <= elements(), "{} at {} of {}", shape.text(), offset,
             shape_.text());
  Tensor t = *this;
  t.data_ = static_cast<std::byte*>(data_) + static_cast<size_t>(offset) * dtype_size(dtype_);
  t.shape_ = shape;
  return t;
}

std::string Shape::text() const {
  std::string out = "(";
  for (int i = 0; i < count_; ++i) out += (i ? ", " : "") + std::to_string(dims_[static_cast<size_t>(i)]);
  return out + ")";
}

}  // namespace plsc
