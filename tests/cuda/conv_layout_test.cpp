// The layouts' kernels against plain loops: sizes of 0 and 1, below and beyond a tile, a block and a grid, and
// addresses that are not aligned to vectors.
#include "backend/cuda/cuda_device.h"
#include "kernels/cuda/layout.h"
#include "parity/backend/values.h"

using namespace plsc;
using namespace plsc::test;
using kernels::cuda::MatrixBatch;

namespace {

template <class From, class To>
void check_transpose(CudaDevice& device, const MatrixBatch& s, Dtype from, Dtype to, int64_t offset) {
  const Shape shape{s.batch * s.rows * s.columns + offset};
  const Values in = random_values(shape, 1, from), old = random_values(shape, 2, to);
  for (bool accumulate : {false, true}) {
    if (accumulate && to != Dtype::f32) continue;
    INFO(s.batch << " of " << s.rows << " x " << s.columns << ", " << dtype_name(from) << " to " << dtype_name(to)
                 << ", offset " << offset << ", accumulate " << accumulate);
    const Tensor source = upload(device, in, shape, from), target = upload(device, old, shape, to);
    transpose(s, static_cast<const From*>(source.raw()) + offset, static_cast<To*>(target.raw()) + offset, accumulate,
              device.compute_stream());
    Values expected = old;
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t i = 0; i < s.rows; ++i)
        for (int64_t j = 0; j < s.columns; ++j) {
          const auto at = static_cast<size_t>(offset + (b * s.columns + j) * s.rows + i);
          const double value = in[static_cast<size_t>(offset + (b * s.rows + i) * s.columns + j)];
          // One addition in fp32, and its rounding, where the kernel does the same.
          expected[at] = accumulate ? static_cast<double>(static_cast<float>(old[at]) + static_cast<float>(value))
                                    : static_cast<double>(rounded(value, to));
        }
    REQUIRE(download(device, target) == expected);
  }
}

}  // namespace

TEST_CASE("layout: transposition") {
  CudaDevice device{CudaOptions{}};
  const MatrixBatch shapes[] = {{1, 0, 5},  {1, 1, 1},  {0, 3, 3},   {2, 3, 9},    {5, 33, 31}, {3, 9, 64},
                                {1, 64, 1}, {1, 1, 63}, {2, 1, 301}, {70, 100, 9}, {1, 32, 32}, {4, 65, 97}};
  for (const MatrixBatch& s : shapes) {
    for (int64_t offset : {0, 1}) {
      check_transpose<float, float>(device, s, Dtype::f32, Dtype::f32, offset);
      check_transpose<float, __half>(device, s, Dtype::f32, Dtype::f16, offset);
      check_transpose<float, __nv_bfloat16>(device, s, Dtype::f32, Dtype::bf16, offset);
      check_transpose<__half, float>(device, s, Dtype::f16, Dtype::f32, offset);
      check_transpose<__nv_bfloat16, float>(device, s, Dtype::bf16, Dtype::f32, offset);
    }
  }
}

TEST_CASE("layout: more tiles than a grid has blocks") {
  CudaDevice device{CudaOptions{}};
  // A launch has at most 8192 of them (kernels/cuda/launch.h).
  check_transpose<float, float>(device, {8200, 2, 2}, Dtype::f32, Dtype::f32, 0);
}

TEST_CASE("layout: bias") {
  CudaDevice device{CudaOptions{}};
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {3, 5}, {33, 257}, {100, 1}, {64, 32}, {0, 4}};
  for (const auto& [rows, columns] : shapes) {
    INFO(rows << " x " << columns);
    const Shape shape{rows, columns};
    const Values y = random_values(shape, 1, Dtype::f32), bias = random_values({columns}, 2, Dtype::f32);
    const Tensor ty = upload(device, y, shape), tb = upload(device, bias, {columns});
    kernels::cuda::add_bias(tb.data<float>(), rows, columns, ty.data<float>(), device.compute_stream());
    Values added = y, sums(bias.size());
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t column = i % static_cast<size_t>(columns);
      added[i] = static_cast<double>(static_cast<float>(y[i]) + static_cast<float>(bias[column]));
      sums[column] += y[i];
    }
    CHECK(download(device, ty) == added);

    const Tensor dy = upload(device, y, shape), result = upload(device, bias, {columns});
    const Tensor scratch = device.tensor({kernels::cuda::bias_gradient_scratch(rows, columns) + 1}, Dtype::f64);
    for (bool accumulate : {true, false}) {
      kernels::cuda::bias_gradient(
          {dy.data<float>(), rows, columns, scratch.data<double>(), result.data<float>(), accumulate},
          device.compute_stream());
      // Summed in double and rounded once.
      require_close(download(device, result), accumulate ? moved(sums, 1, bias) : sums, 1e-7, 1e-7);
    }
  }
}
