// The parity cases on the CPU, on one thread, on two, and on more than there is work for.
#include "cases.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

template <class Cases>
void on_threads(const Cases& cases) {
  for (int threads : {1, 2, 5}) {
    INFO(threads << " threads");
    Backend backend = make_cpu_backend(threads);
    cases(backend);
  }
}

/// bf16 runs everywhere, slowly where there are no instructions for it, as long as oneDNN has an implementation
/// (AVX-512); elsewhere the trainer refuses it and these cases do too.
template <class Cases>
void with_types(const Cases& cases) {
  on_threads([&](Backend& backend) {
    cases(backend, Dtype::f32);
    if (backend.device->supports(Dtype::bf16)) cases(backend, Dtype::bf16);
  });
}

}  // namespace

TEST_CASE("cpu: convolution") {
  with_types([](Backend& backend, Dtype dtype) { conv_cases(backend, dtype); });
}
TEST_CASE("cpu: linear layer") { on_threads(linear_cases); }
TEST_CASE("cpu: pooling") { with_types(pool_cases); }
TEST_CASE("cpu: gradients in double are the same on any number of threads") {
  std::vector<std::vector<double>> first;
  on_threads([&](Backend& backend) {
    const auto got = exact_sum_cases(backend);
    if (first.empty()) first = got;
    CHECK(got == first);
  });
}
TEST_CASE("cpu: ops repeat bit for bit") { with_types(repeat_cases); }

// These are the project's own kernels: bf16 needs no instruction.
TEST_CASE("cpu: batch norm statistics") {
  on_threads([](Backend& backend) {
    norm_statistics_cases(backend, Dtype::f32);
    norm_statistics_cases(backend, Dtype::bf16);
  });
}
TEST_CASE("cpu: batch norm forward and backward") {
  on_threads([](Backend& backend) {
    norm_apply_cases(backend, Dtype::f32);
    norm_apply_cases(backend, Dtype::bf16);
  });
}
TEST_CASE("cpu: batch norm gradients are differences") { on_threads(norm_difference_cases); }
TEST_CASE("cpu: conversion, addition, dropout") {
  on_threads([](Backend& backend) {
    elementwise_cases(backend, Dtype::f32);
    elementwise_cases(backend, Dtype::bf16);
  });
}
TEST_CASE("cpu: SGD and gradient norms") { on_threads(optimizer_cases); }
TEST_CASE("cpu: AdamW, LARS and LAMB") { on_threads(update_cases); }
TEST_CASE("cpu: sparse sums of gradients") { on_threads(compress_cases); }
TEST_CASE("cpu: image normalisation") {
  on_threads([](Backend& backend) {
    image_cases(backend, Dtype::f32);
    image_cases(backend, Dtype::bf16);
  });
}

}  // namespace plsc::test
