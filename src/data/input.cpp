#include "data/input.h"

#include <algorithm>

namespace plsc {

Tensor to_network_input(Context& context, const DataConfig& data, const Tensor& bytes, const Tensor& flip) {
  Tensor y = context.device().tensor(bytes.shape(), context.activations);
  to_network_input(context, data, bytes, flip, y);
  return y;
}

void to_network_input(Context& context, const DataConfig& data, const Tensor& bytes, const Tensor& flip, Tensor& y) {
  ImageNormalize args;
  args.bytes = bytes;
  args.flip = flip;
  for (size_t c = 0; c < args.mean.size(); ++c) {
    args.mean[c] = static_cast<float>(data.mean[std::min(c, data.mean.size() - 1)]);
    args.std[c] = static_cast<float>(data.std[std::min(c, data.std.size() - 1)]);
  }
  args.y = y;
  context.backend.image->normalize(args);
}

}  // namespace plsc
