#include "backend/cpu/conv_products.h"

#include <limits>

#include "backend/cpu/parts.h"

namespace plsc {
namespace {

using Tag = dnnl::memory::format_tag;

constexpr int64_t kWindowBytes = int64_t{64} << 20;
constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

int64_t pixels(const ConvSpec& s) { return s.out_height() * s.out_width(); }
int64_t window(const ConvSpec& s) { return s.kernel * s.kernel * s.in_channels; }

/// How many images' windows, as fp32, fit into kWindowBytes, as a divisor of the batch.
int64_t images_at_once(const ConvSpec& s) {
  const int64_t one = pixels(s) * window(s) * static_cast<int64_t>(sizeof(float));
  int64_t images = s.batch;
  while (images > 1 && (s.batch % images != 0 || images * one > kWindowBytes)) --images;
  return images;
}

/// Up to how many output pixels an image the product is the faster way, as measured with AVX-512 and AMX.
struct PixelLimits {
  int64_t forward = 0, data = 0, weight = 0;
};
PixelLimits pixel_limits(const ConvSpec& s) {
  if (s.dtype == Dtype::f32) return s.stride > 1 ? PixelLimits{4, 16, 49} : PixelLimits{};
  if (s.stride == 1) return {16, 49, 64};
  if (s.kernel == 1) return {49, kUnlimited, kUnlimited};
  return {49, 196, 196};
}

kernels::WindowShape window_shape(const ConvSpec& s) {
  return {s.height, s.width, s.in_channels, s.kernel, s.stride, s.pad, s.out_height(), s.out_width()};
}

dnnl::memory::desc matrix(int64_t rows, int64_t columns, Dtype dtype, Tag tag) {
  return {{rows, columns}, dnnl_type(dtype), tag};
}

/// Weights (O, I, K, K) stored in another order: hwio is the matrix (windows' columns, O), ohwi its transpose.
dnnl::memory::desc weights_as(const ConvSpec& s, Dtype dtype, Tag tag) {
  return {{s.out_channels, s.in_channels, s.kernel, s.kernel}, dnnl_type(dtype), tag};
}

DnnlPrimitive product(const DnnlRuntime& runtime, const dnnl_shim::SrcWeightsDst& d, bool add = false) {
  dnnl::primitive_attr attr = dnnl_attributes();
  if (add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  const auto desc = dnnl_shim::matmul(runtime.engine, d, attr);
  return {
      runtime, dnnl::matmul(desc), desc, {{DNNL_ARG_SRC, d.src}, {DNNL_ARG_WEIGHTS, d.weights}, {DNNL_ARG_DST, d.dst}}};
}

}  // namespace

bool ConvProducts::preferred(const ConvSpec& s, ConvPass pass) {
  if (s.fixed_order) return false;  // oneDNN chooses a product's order of sums by its rows
  if (images_at_once(s) < std::min<int64_t>(s.batch, 8)) return false;  // products of a few rows do not pay
  const PixelLimits limits = pixel_limits(s);
  return pixels(s) <= (pass == ConvPass::forward ? limits.forward
                       : pass == ConvPass::data  ? limits.data
                                                 : limits.weight);
}

ConvProducts::ConvProducts(const DnnlRuntime& runtime, const ConvSpec& spec)
    : runtime_(runtime),
      spec_(spec),
      shape_(window_shape(spec)),
      images_(images_at_once(spec)),
      rows_(images_ * pixels(spec)),
      window_(window(spec)) {}

ConvProducts::WeightedProduct ConvProducts::make_forward() const {
  const ConvSpec& s = spec_;
  return {
      {runtime_, weights_as(s, Dtype::f32, Tag::oihw), weights_as(s, s.dtype, Tag::hwio)},
      product(runtime_, {matrix(rows_, window_, s.dtype, Tag::ab), matrix(window_, s.out_channels, s.dtype, Tag::ab),
                         matrix(rows_, s.out_channels, s.dtype, Tag::ab)})};
}

ConvProducts::WeightedProduct ConvProducts::make_data() const {
  const ConvSpec& s = spec_;
  // fp32, because several windows' values are added up for one pixel.
  return {{runtime_, weights_as(s, Dtype::f32, Tag::oihw), weights_as(s, s.dtype, Tag::ohwi)},
          product(runtime_,
                  {matrix(rows_, s.out_channels, s.dtype, Tag::ab), matrix(s.out_channels, window_, s.dtype, Tag::ab),
                   matrix(rows_, window_, Dtype::f32, Tag::ab)})};
}

/// In bf16 dy^T windows: (O, rows) x (rows, window). In fp32 the transpose of that is faster.
DnnlPrimitive ConvProducts::gradient_product(bool add) const {
  const ConvSpec& s = spec_;
  if (s.dtype == Dtype::f32) {
    return product(runtime_,
                   {matrix(window_, rows_, s.dtype, Tag::ba), matrix(rows_, s.out_channels, s.dtype, Tag::ab),
                    matrix(window_, s.out_channels, Dtype::f32, Tag::ab)},
                   add);
  }
  return product(runtime_,
                 {matrix(s.out_channels, rows_, s.dtype, Tag::ba), matrix(rows_, window_, s.dtype, Tag::ab),
                  matrix(s.out_channels, window_, Dtype::f32, Tag::ab)},
                 add);
}

ConvProducts::GradientProduct ConvProducts::make_gradient() const {
  const auto given = weights_as(spec_, Dtype::f32, spec_.dtype == Dtype::f32 ? Tag::hwio : Tag::ohwi);
  return {{runtime_, given, weights_as(spec_, Dtype::f32, Tag::oihw)}, gradient_product(false), gradient_product(true)};
}

void* ConvProducts::images_of(const Tensor& t, int64_t first_image) const {
  return static_cast<std::byte*>(t.raw()) +
         t.bytes() / static_cast<size_t>(spec_.batch) * static_cast<size_t>(first_image);
}

void* ConvProducts::windows(const Tensor& x, int64_t first_image, Tensor& hold) const {
  if (spec_.kernel == 1 && spec_.stride == 1 && spec_.pad == 0) return images_of(x, first_image);
  const size_t element = dtype_size(spec_.dtype);
  if (!hold.defined()) hold = runtime_.scratch(static_cast<size_t>(rows_ * window_) * element);
  if (!runtime_.computes) return hold.raw();
  const auto* from = static_cast<const std::byte*>(images_of(x, first_image));
  auto* to = static_cast<std::byte*>(hold.raw());
  const int64_t image = static_cast<int64_t>(x.bytes()) / spec_.batch;
  const int64_t row = shape_.out_width * window_ * static_cast<int64_t>(element);
  for_parts(images_ * shape_.out_height, kBytesPerPart / row, runtime_.threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      kernels::copy_windows(shape_, element, from + r / shape_.out_height * image, r % shape_.out_height, to + r * row);
    }
  });
  return to;
}

void ConvProducts::sum_windows(const Tensor& windows, int64_t first_image, Tensor& dx) const {
  if (!runtime_.computes) return;
  const int64_t row = shape_.width * shape_.channels, image = pixels(spec_) * window_;
  const auto* from = reinterpret_cast<const float*>(windows.raw());
  auto* to = static_cast<std::byte*>(images_of(dx, first_image));
  const int64_t grain = kElementsPerPart / row;
  for_parts(images_ * shape_.height, grain, runtime_.threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* of_image = from + r / shape_.height * image;
      if (spec_.dtype == Dtype::bf16) {
        kernels::sum_windows(shape_, of_image, r % shape_.height, reinterpret_cast<kernels::Bf16*>(to) + r * row);
      } else {
        kernels::sum_windows(shape_, of_image, r % shape_.height, reinterpret_cast<float*>(to) + r * row);
      }
    }
  });
}

void ConvProducts::forward(const Tensor& x, const Tensor& weight, Tensor& y) {
  if (!forward_) forward_.emplace(make_forward());
  Tensor hold, weight_hold;
  void* w = forward_->weights.prepare(weight, weight_hold);
  for (int64_t image = 0; image < spec_.batch; image += images_) {
    forward_->product.run(
        {{DNNL_ARG_SRC, windows(x, image, hold)}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, images_of(y, image)}});
  }
}

void ConvProducts::backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) {
  if (!data_) data_.emplace(make_data());
  Tensor weight_hold;
  const Tensor gradients = runtime_.scratch(static_cast<size_t>(rows_ * window_) * sizeof(float));
  void* w = data_->weights.prepare(weight, weight_hold);
  for (int64_t image = 0; image < spec_.batch; image += images_) {
    data_->product.run({{DNNL_ARG_SRC, images_of(dy, image)}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, gradients.raw()}});
    sum_windows(gradients, image, dx);
  }
}

void ConvProducts::backward_weight(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) {
  if (!gradient_) gradient_.emplace(make_gradient());
  Tensor hold, product_hold;
  void* target = gradient_->gradient.target(dweight, accumulate, product_hold);
  const bool windows_first = spec_.dtype == Dtype::f32;
  for (int64_t image = 0; image < spec_.batch; image += images_) {
    void *x_windows = windows(x, image, hold), *dy_rows = images_of(dy, image);
    DnnlPrimitive& primitive = image == 0 ? gradient_->first : gradient_->next;
    primitive.run({{DNNL_ARG_SRC, windows_first ? x_windows : dy_rows},
                   {DNNL_ARG_WEIGHTS, windows_first ? dy_rows : x_windows},
                   {DNNL_ARG_DST, target}});
  }
  gradient_->gradient.finish(target, dweight, accumulate);
}

}  // namespace plsc
