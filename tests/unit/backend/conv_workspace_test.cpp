// A strided 1x1 convolution of fewer than 16 channels made oneDNN 2.6 write beyond its workspace (conv_cpu.cpp).
// The process used to be aborted by the allocator here; there is no other sign of it.
#include "backend/backend.h"
#include "support/catch.h"

using namespace plsc;

TEST_CASE("a strided 1x1 convolution of few channels keeps to its workspace") {
  Backend backend = make_cpu_backend(2);
  for (const int64_t channels : {3, 8, 12}) {
    for (const int64_t batch : {1, 7, 15}) {
      const ConvSpec spec{batch, 24, 24, channels, 16, 1, 2, 0, Dtype::f32};
      const auto conv = backend.nn->make_conv(spec);
      const Tensor x = backend.device->zeros({batch, 24, 24, channels});
      const Tensor w = backend.device->zeros({16, channels, 1, 1});
      Tensor y = backend.device->zeros({batch, 12, 12, 16});
      Tensor dx = backend.device->zeros({batch, 24, 24, channels}), dw = backend.device->zeros({16, channels, 1, 1});
      conv->forward(x, w, y);
      conv->backward_data(y, w, dx);
      conv->backward_weight(x, y, dw, false);
      for (const float v : dw.span<float>()) REQUIRE(v == 0);
    }
  }
}
