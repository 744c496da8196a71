#include "backend/cpu/conv_weight_sums.h"

#include "backend/cpu/parts.h"
#include "kernels/cpu/exact_sum.h"

namespace plsc {
namespace {

void* image_of(const Tensor& t, int64_t batch, int64_t image) {
  return static_cast<std::byte*>(t.raw()) + t.bytes() / static_cast<size_t>(batch) * static_cast<size_t>(image);
}

}  // namespace

Tensor ConvWeightSums::sum_images(OneImage& image, const Tensor& x, const Tensor& dy, int64_t batch, int64_t begin,
                                  int64_t end) const {
  const int64_t elements = elements_of(image.gradient);
  Tensor sum(runtime_.allocator, {elements}, Dtype::f64), one(runtime_.allocator, {elements}, Dtype::f32);
  if (!runtime_.computes) return sum;
  std::fill_n(sum.data<double>(), elements, 0.0);
  const OneThreadPrimitives guard;  // some kernels look again, and here may be one part for all threads
  for (int64_t i = begin; i < end; ++i) {
    image.primitive.run({{DNNL_ARG_SRC, image_of(x, batch, i)},
                         {DNNL_ARG_DIFF_WEIGHTS, one.raw()},
                         {DNNL_ARG_DIFF_DST, image_of(dy, batch, i)}});
    kernels::add_exactly(one.data<float>(), sum.data<double>(), elements);
  }
  return sum;
}

void ConvWeightSums::find_places(const dnnl::memory::desc& user) {
  // oneDNN tells where its layout has an element by reordering a tensor of places: two digits, each exact in fp32.
  constexpr int64_t kBase = 4096;
  const int64_t given = elements_of(images_[0].gradient), elements = elements_of(user);
  PLSC_CHECK(given < kBase * kBase * kBase);
  Tensor digits(runtime_.allocator, {given}, Dtype::f32), reordered(runtime_.allocator, {elements}, Dtype::f32);
  if (!runtime_.computes) return;
  DnnlReorder to_user(runtime_, images_[0].gradient, user);
  places_.assign(static_cast<size_t>(elements), 0);
  for (const int64_t weight : {kBase, int64_t{1}}) {
    for (int64_t i = 0; i < given; ++i) {
      digits.data<float>()[i] = static_cast<float>(weight == 1 ? i % kBase : i / kBase);
    }
    to_user.run(digits.raw(), reordered.raw());
    for (size_t i = 0; i < places_.size(); ++i) {
      places_[i] += weight * static_cast<int64_t>(reordered.data<float>()[i]);
    }
  }
}

void ConvWeightSums::run(const Tensor& x, const Tensor& dy, int64_t batch, Tensor& dweight, bool accumulate) {
  const int parts = parts_for(batch, 1, runtime_.threads);
  std::vector<Tensor> sums(static_cast<size_t>(parts));
  parallel_ranges(batch, parts, [&](int64_t begin, int64_t end, int part) {
    const auto p = static_cast<size_t>(part);
    sums[p] = sum_images(images_[p], x, dy, batch, begin, end);
  });
  if (!runtime_.computes) return;
  double* to = dweight.data<double>();
  for_parts(static_cast<int64_t>(places_.size()), kElementsPerPart, runtime_.threads,
            [&](int64_t begin, int64_t end, int) {
              for (int64_t i = begin; i < end; ++i) {
                double sum = accumulate ? to[i] : 0;
                for (const Tensor& part : sums) sum += part.data<double>()[places_[static_cast<size_t>(i)]];
                to[i] = sum;
              }
            });
}

}  // namespace plsc
