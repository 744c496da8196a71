// Packing a source into .rec, .idx and property, and pairs into a verification .bin.
#pragma once
#include <cstdint>
#include <string>

#include "data/pairs.h"
#include "data/source.h"

namespace plsc {

struct PackOptions {
  std::string output;   // "folder/train.rec"; its .idx, .property and .classes are written beside it
  bool shuffle = true;  // mix the classes, for readers that go through the file in order
  uint64_t seed = 1;
  int quality = 0;  // JPEG quality 1 to 100 to encode again with; 0: the original bytes
};

struct PackResult {
  int64_t images = 0, classes = 0, bytes = 0;
};

/// Shuffled files have no header record (as InsightFace's own shuffle_rec.py writes them: every key is an image).
/// Unshuffled ones are grouped by class, with InsightFace's header record 0 and one identity record a class that names
/// its range of images. Every image's label + 1 stands in id2 too. Files appear under their names when they are whole.
/// The folder's `property`, which InsightFace reads, is written too, unless another .rec may depend on it.
PackResult pack_records(const DataSource& source, const PackOptions& options, Log* log);

/// The images of the pairs, in order, as InsightFace's verification .bin.
void pack_verification_bin(const PairList& pairs, const std::string& output);

}  // namespace plsc
