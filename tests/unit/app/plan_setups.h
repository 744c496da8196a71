// What plans are made of in tests.
#pragma once
#include <string>
#include <vector>

#include "app/plan/plan.h"

namespace plsc::plan {

inline constexpr double kGb = 1e9;

inline bool begins_with(const std::string& text, const std::string& start) { return text.rfind(start, 0) == 0; }

/// A head of that many classes behind a tiny network.
inline Setup head_of(int64_t classes, int ranks, const std::vector<std::string>& overrides = {}) {
  Setup setup;
  setup.config =
      parse_config(
          "{output: none, device: cpu, data: {train: synthetic, image_size: [16, 16], channels: 1},"
          " model: {backbone: {kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}, embedding_size: 512},"
          " train: {batch_per_rank: 16}}",
          "test", overrides)
          .config;
  setup.ranks = ranks;
  setup.classes = classes;
  return setup;
}

inline Setup on_gpus(Setup setup) {
  setup.device = DeviceKind::cuda;
  return setup;
}

}  // namespace plsc::plan
