// `data.train: synthetic`: random pixels and labels, made in memory when asked for (benchmarks).
#pragma once
#include <memory>

#include "data/source.h"

namespace plsc {

/// data.synthetic images of data.image_size and data.channels; image i has label i mod classes. A function of the seed.
std::unique_ptr<DataSource> make_synthetic_source(const DataConfig& config, uint64_t seed);

}  // namespace plsc
