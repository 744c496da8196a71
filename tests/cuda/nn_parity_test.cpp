// The parity cases of batch norm, pooling and the elementwise ops on CUDA.
#include "nn_backend.h"
#include "parity/backend/cases.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

const Dtype kTypes[] = {Dtype::f32, Dtype::bf16, Dtype::f16};

template <class Cases>
void with_types(const Cases& cases) {
  NnBackend test;
  for (const Dtype dtype : kTypes) cases(test.backend, dtype);
}

}  // namespace

TEST_CASE("cuda: pooling") { with_types(pool_cases); }
TEST_CASE("cuda: batch norm statistics") { with_types(norm_statistics_cases); }
TEST_CASE("cuda: batch norm forward and backward") { with_types(norm_apply_cases); }
TEST_CASE("cuda: batch norm of more than one turn of a grid", "[large]") { with_types(norm_large_cases); }
TEST_CASE("cuda: batch norm gradients are differences") {
  NnBackend test;
  norm_difference_cases(test.backend);
}
TEST_CASE("cuda: conversion, addition, dropout") { with_types(elementwise_cases); }
TEST_CASE("cuda: ops repeat bit for bit") { with_types(repeat_cases); }

}  // namespace plsc::test
