#include "backend/cpu/conv_weight_gemm.h"

#include <cstring>

#include "backend/cpu/parts.h"

namespace plsc {
namespace {

constexpr int64_t kWindowBytes = int64_t{64} << 20;

int64_t pixels(const ConvSpec& s) { return s.out_height() * s.out_width(); }
int64_t window(const ConvSpec& s) { return s.kernel * s.kernel * s.in_channels; }

/// How many images' windows fit into kWindowBytes, as a divisor of the batch.
int64_t images_at_once(const ConvSpec& s) {
  const int64_t one = pixels(s) * window(s) * static_cast<int64_t>(dtype_size(s.dtype));
  int64_t images = s.batch;
  while (images > 1 && (s.batch % images != 0 || images * one > kWindowBytes)) --images;
  return images;
}

// In bf16 the product is dy^T windows: (O, rows) x (rows, K*K*I). In fp32 its transpose is faster.
bool transposed(const ConvSpec& s) { return s.dtype == Dtype::f32; }

dnnl::memory::desc matrix(int64_t rows, int64_t columns, Dtype dtype, dnnl::memory::format_tag tag) {
  return {{rows, columns}, dnnl_type(dtype), tag};
}

DnnlPrimitive product(const DnnlRuntime& runtime, const ConvSpec& s, bool add) {
  using tag = dnnl::memory::format_tag;
  const int64_t rows = images_at_once(s) * pixels(s), w = window(s), o = s.out_channels;
  const dnnl_shim::SrcWeightsDst d =
      transposed(s) ? dnnl_shim::SrcWeightsDst{matrix(w, rows, s.dtype, tag::ba), matrix(rows, o, s.dtype, tag::ab),
                                               matrix(w, o, Dtype::f32, tag::ab)}
                    : dnnl_shim::SrcWeightsDst{matrix(o, rows, s.dtype, tag::ba), matrix(rows, w, s.dtype, tag::ab),
                                               matrix(o, w, Dtype::f32, tag::ab)};
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

/// The product is a weight with the window's order (kernel row, kernel column, input channel).
dnnl::memory::desc weight(const ConvSpec& s, dnnl::memory::format_tag tag) {
  return {{s.out_channels, s.in_channels, s.kernel, s.kernel}, dnnl::memory::data_type::f32, tag};
}

/// The windows of one row of the output, outside of the image zero.
void row_windows(const ConvSpec& s, const std::byte* image, int64_t oh, std::byte* out) {
  const auto pixel = static_cast<size_t>(s.in_channels) * dtype_size(s.dtype);
  for (int64_t ow = 0; ow < s.out_width(); ++ow) {
    for (int64_t kh = 0; kh < s.kernel; ++kh) {
      for (int64_t kw = 0; kw < s.kernel; ++kw, out += pixel) {
        const int64_t h = oh * s.stride - s.pad + kh, w = ow * s.stride - s.pad + kw;
        if (h < 0 || h >= s.height || w < 0 || w >= s.width) {
          std::memset(out, 0, pixel);
        } else {
          std::memcpy(out, image + static_cast<size_t>(h * s.width + w) * pixel, pixel);
        }
      }
    }
  }
}

}  // namespace

bool ConvWeightGemm::preferred(const ConvSpec& s) {
  if (images_at_once(s) < std::min<int64_t>(s.batch, 8)) return false;  // products of a few rows do not pay
  if (s.dtype == Dtype::bf16) return pixels(s) <= (s.stride > 1 ? 196 : 64) || (s.kernel == 1 && s.stride > 1);
  return s.stride > 1 && pixels(s) <= 49;
}

ConvWeightGemm::ConvWeightGemm(const DnnlRuntime& runtime, const ConvSpec& spec)
    : runtime_(runtime),
      spec_(spec),
      images_(images_at_once(spec)),
      gradient_(runtime,
                weight(spec, transposed(spec) ? dnnl::memory::format_tag::hwio : dnnl::memory::format_tag::ohwi),
                weight(spec, dnnl::memory::format_tag::oihw)),
      first_(product(runtime, spec, false)),
      next_(product(runtime, spec, true)) {}

const void* ConvWeightGemm::windows(const Tensor& x, int64_t first_image, Tensor& hold) const {
  const ConvSpec& s = spec_;
  const int64_t bytes = static_cast<int64_t>(dtype_size(s.dtype));
  const int64_t image = s.height * s.width * s.in_channels * bytes, row = s.out_width() * window(s) * bytes;
  const auto* from = static_cast<const std::byte*>(x.raw()) + first_image * image;
  if (s.kernel == 1 && s.stride == 1 && s.pad == 0) return from;
  if (!hold.defined()) hold = runtime_.scratch(static_cast<size_t>(images_ * s.out_height() * row));
  auto* to = static_cast<std::byte*>(hold.raw());
  const int64_t rows = images_ * s.out_height();
  for_parts(rows, std::max<int64_t>(kBytesPerPart / row, 1), runtime_.threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      row_windows(s, from + r / s.out_height() * image, r % s.out_height(), to + r * row);
    }
  });
  return to;
}

void ConvWeightGemm::run(const Tensor& x, const Tensor& dy, Tensor& dweight, bool accumulate) {
  const int64_t dy_image = pixels(spec_) * spec_.out_channels * static_cast<int64_t>(dtype_size(spec_.dtype));
  Tensor hold, product_hold;
  void* target = gradient_.target(dweight, accumulate, product_hold);
  for (int64_t image = 0; image < spec_.batch; image += images_) {
    void* x_windows = const_cast<void*>(windows(x, image, hold));
    void* dy_rows = static_cast<std::byte*>(dy.raw()) + image * dy_image;
    DnnlPrimitive& primitive = image == 0 ? first_ : next_;
    primitive.run({{DNNL_ARG_SRC, transposed(spec_) ? x_windows : dy_rows},
                   {DNNL_ARG_WEIGHTS, transposed(spec_) ? dy_rows : x_windows},
                   {DNNL_ARG_DST, target}});
  }
  gradient_.finish(target, dweight, accumulate);
}

}  // namespace plsc
