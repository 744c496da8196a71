// `data.train: synthetic`: random pixels and labels, made in memory when asked for.
#include "data/synthetic.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

class SyntheticSource final : public DataSource {
 public:
  SyntheticSource(const DataConfig& config, uint64_t seed)
      : config_(config.synthetic), bytes_(config.image_size[0] * config.image_size[1] * config.channels), seed_(seed) {}

  int64_t size() const override { return config_.images; }
  int64_t classes() const override { return config_.classes; }
  const std::vector<std::string>& class_names() const override { return no_names_; }
  std::string name(int64_t index) const override { return fmt::format("synthetic {}", index); }
  std::string description() const override {
    return fmt::format("synthetic: {} random images of {} classes", config_.images, config_.classes);
  }
  int64_t label(int64_t index) const override { return index % config_.classes; }

  RawSample read(int64_t index) const override {
    RawSample sample;
    sample.label = label(index);
    sample.where = name(index);
    sample.pixels.resize(static_cast<size_t>(bytes_));
    for (int64_t at = 0; at < bytes_; at += 16) {
      const math::Random4 r =
          math::random4(seed_, math::Draw::synthetic, static_cast<uint64_t>(index), static_cast<uint64_t>(at / 16));
      std::memcpy(sample.pixels.data() + at, r.x, static_cast<size_t>(std::min<int64_t>(16, bytes_ - at)));
    }
    return sample;
  }

 private:
  SyntheticConfig config_;
  int64_t bytes_;
  uint64_t seed_;
  std::vector<std::string> no_names_;
};

}  // namespace

std::unique_ptr<DataSource> make_synthetic_source(const DataConfig& config, uint64_t seed) {
  if (config.synthetic.classes < 1 || config.synthetic.images < 1) {
    fail("data.synthetic: found {} classes and {} images, expected at least one of each", config.synthetic.classes,
         config.synthetic.images);
  }
  return std::make_unique<SyntheticSource>(config, seed);
}

}  // namespace plsc
