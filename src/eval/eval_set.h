// One set of eval.sets, opened: its images, and the pairs or the labels that they are scored by.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/pairs.h"
#include "data/source.h"

namespace plsc {

struct EvalSet {
  std::string name, kind;
  std::unique_ptr<DataSource> source;
  DataConfig data;                    // how its images are read
  std::vector<PairList::Pair> pairs;  // verification: indices into source
  std::vector<int64_t> class_of;      // classification: label of the set -> class of the head; empty: the same
};

/// Throws Error for a missing or damaged file, naming it. `class_names`: the head's classes by id where they have names
/// (folders): labels of a folder then follow the names, and a name that the head does not know is an Error.
EvalSet open_eval_set(const EvalSetConfig& config, const DataConfig& data, const std::vector<std::string>& class_names);

}  // namespace plsc
