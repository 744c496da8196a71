// Opening verification and classification sets.
#include "eval/eval_set.h"

#include <unordered_map>

#include "base/error.h"
#include "data/verification_bin.h"

namespace plsc {
namespace {

void open_bin(const std::string& path, EvalSet& set) {
  VerificationBin bin = load_verification_bin(path);
  for (size_t i = 0; i < bin.same.size(); ++i) {
    set.pairs.push_back({static_cast<int64_t>(2 * i), static_cast<int64_t>(2 * i + 1), bin.same[i] != 0});
  }
  set.source = make_memory_source(std::move(bin.images), {}, path);
  // As InsightFace does: images of another size are scaled, those of the network's size stay as they are.
  if (set.data.resize == "exact") set.data.resize = "fit_crop";
}

void require_both_kinds(const EvalSet& set, const std::string& where) {
  size_t same = 0;
  for (const auto& p : set.pairs) same += p.same ? 1 : 0;
  if (same == 0 || same == set.pairs.size()) {
    fail("{}: verification needs pairs of both kinds, found {} of the same class and {} of different ones", where, same,
         set.pairs.size() - same);
  }
}

// Labels of folders are positions in the sorted list of names: a set without some of the training classes counts
// differently, so names decide where both sides have them.
std::vector<int64_t> map_classes(const EvalSet& set, const std::vector<std::string>& class_names) {
  const std::vector<std::string>& own = set.source->class_names();
  std::vector<int64_t> class_of;
  if (own.empty() || class_names.empty()) return class_of;
  std::unordered_map<std::string, int64_t> ids;
  for (size_t i = 0; i < class_names.size(); ++i) ids.emplace(class_names[i], static_cast<int64_t>(i));
  for (const std::string& name : own) {
    const auto it = ids.find(name);
    if (it == ids.end()) {
      fail_hint("a classification set may hold classes of the training data only; for others use verification",
                "eval set '{}', {}: its class '{}' is not among the {} classes of the head", set.name,
                set.source->description(), name, class_names.size());
    }
    class_of.push_back(it->second);
  }
  return class_of;
}

}  // namespace

EvalSet open_eval_set(const EvalSetConfig& config, const DataConfig& data,
                      const std::vector<std::string>& class_names) {
  EvalSet set{config.name, config.kind, nullptr, data, {}, {}};
  if (config.kind == "classification") {
    set.source = open_source(std::vector<std::string>{config.data});
    if (set.source->classes() == 0) {
      fail_hint("use a folder of class folders, a list with labels, or a .rec",
                "eval set '{}', {}: its images have no labels", config.name, set.source->description());
    }
    set.class_of = map_classes(set, class_names);
  } else if (!config.bin.empty()) {
    open_bin(config.bin, set);
    require_both_kinds(set, config.bin);
  } else {
    PairList list = load_pairs(config.pairs, config.folder);
    set.pairs = std::move(list.pairs);
    set.source = make_path_source(list.paths, {}, config.folder);
    require_both_kinds(set, config.pairs);
  }
  return set;
}

}  // namespace plsc
