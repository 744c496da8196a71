// The parity cases of convolutions and linear layers on CUDA: with algorithms by the clock and by rule.
#include "conv_backend.h"
#include "parity/backend/cases.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("cuda: convolution") {
  const bool deterministic = GENERATE(false, true);
  Backend backend = conv_backend({.deterministic = deterministic});
  conv_cases(backend, Dtype::f32);
  // cuDNN's filters have the activations' type: that is what a pass's weight gradient is rounded to.
  if (backend.device->supports(Dtype::bf16)) conv_cases(backend, Dtype::bf16, Dtype::bf16);
  conv_cases(backend, Dtype::f16, Dtype::f16);
}

TEST_CASE("cuda: linear layer") {
  Backend backend = conv_backend();
  linear_cases(backend);
}
