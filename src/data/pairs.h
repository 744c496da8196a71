// Verification pairs: which two images of a folder show the same class. Reads our own text format and LFW's pairs.txt.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/source.h"

namespace plsc {

/// Pairs of images; each image stands once in `paths`, however many pairs it is in.
struct PairList {
  struct Pair {
    int64_t a = 0, b = 0;  // indices into paths
    bool same = false;
  };
  std::vector<std::string> paths;  // ready to open: the folder is joined already. make_path_source takes them
  std::vector<Pair> pairs;         // in the order of the file: the folds of a verification are contiguous in it
};

/// Two formats, told apart by their fields:
///   ours: `path_a <tab or space> path_b <tab or space> 0|1` a line, paths relative to `folder`, '#' begins a comment
///   line; LFW's pairs.txt: an optional first line of counts, then `name n1 n2` (same) or `name1 n1 name2 n2` (not the
///   same), which stand for folder/name/name_0001.jpg (or .png, ...).
/// Throws Error naming file and line for a line that is neither, and for an image that does not exist.
PairList load_pairs(const std::string& file, const std::string& folder);

/// `count` pairs of labelled samples, alternately of the same class and of two (so that every fold is half and half),
/// no pair twice: a function of (labels, seed) alone. Indices are into `labels`. Throws Error where the labels cannot
/// give as many different pairs.
std::vector<PairList::Pair> choose_pairs(const std::vector<int64_t>& labels, int64_t count, uint64_t seed);

/// Our text format; names[i] is the path, relative to the folder, of image i. Written atomically.
void save_pairs(const std::string& file, const std::vector<std::string>& names,
                const std::vector<PairList::Pair>& pairs, const std::string& comment);

}  // namespace plsc
