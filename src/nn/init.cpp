#include "nn/init.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "kernels/math/normal.h"

namespace plsc {
namespace {

/// N(0, spread) or U(-spread, spread).
struct Distribution {
  bool normal = true;
  double spread = 0;
};

int64_t receptive_field(const Param& p) {
  return p.value.shape().size() == 4 ? p.value.dim(2) * p.value.dim(3) : int64_t{1};
}

Distribution distribution_of(const Param& p, InitScheme scheme, int64_t fan_in) {
  const double fan_out = static_cast<double>(p.value.dim(0) * receptive_field(p));
  const bool conv = p.value.shape().size() == 4;
  if (p.kind == ParamKind::weight) {
    if (conv && scheme == InitScheme::arcface_torch) return {true, 0.1};
    if (conv || scheme == InitScheme::plsc) return {true, std::sqrt(2.0 / fan_out)};
  } else if (scheme == InitScheme::plsc) {
    return {false, 0.0};
  }
  return {false, 1.0 / std::sqrt(static_cast<double>(fan_in))};
}

void draw(const Distribution& d, uint64_t seed, uint64_t index, int64_t begin, int64_t end, float* out) {
  for (int64_t block = begin; block < end; block += 4) {
    const auto bits = math::random4(seed, math::Draw::weight_init, index, static_cast<uint64_t>(block / 4));
    const math::Normal4 normal = d.normal ? math::normal4(bits) : math::Normal4{};
    for (int64_t i = block; i < std::min(block + 4, end); ++i) {
      const auto lane = static_cast<size_t>(i - block);
      const double unit = d.normal ? normal.x[lane] : 2.0 * math::to_open_unit(bits.x[lane]) - 1.0;
      out[i] = static_cast<float>(d.spread * unit);
    }
  }
}

}  // namespace

void draw_weights(Context& context, const std::vector<Param*>& params, InitScheme scheme, const WantedParams& wanted) {
  Device& device = context.device();
  int64_t fan_in = 1;  // a bias has that of the weight before it
  for (size_t index = 0; index < params.size(); ++index) {
    Param& p = *params[index];
    if (p.kind != ParamKind::weight && p.kind != ParamKind::bias) continue;
    if (p.kind == ParamKind::weight) fan_in = p.value.dim(1) * receptive_field(p);
    if (wanted && !wanted(p)) continue;
    const Distribution d = distribution_of(p, scheme, fan_in);
    Tensor values = device.is_host() ? p.value : Tensor(host_allocator(), p.value.shape(), Dtype::f32);
    const int64_t n = values.elements(), blocks = (n + 3) / 4;
    parallel_ranges(blocks, device.threads(), [&](int64_t begin, int64_t end, int) {
      draw(d, context.seed, index, begin * 4, std::min(end * 4, n), values.data<float>());
    });
    if (!device.is_host()) device.copy(values, p.value);
  }
}

}  // namespace plsc
