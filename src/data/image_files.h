// Image files by path: what image folders and list files become. Paths and labels lie packed: tens of millions fit.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/source.h"

namespace plsc {

/// Strings end to end in one buffer.
class StringTable {
 public:
  int64_t size() const { return static_cast<int64_t>(ends_.size()); }
  std::string_view operator[](int64_t i) const {
    const size_t k = static_cast<size_t>(i);
    const size_t begin = k == 0 ? 0 : ends_[k - 1];
    return std::string_view(text_).substr(begin, ends_[k] - begin);
  }
  void push_back(std::string_view s) {
    text_ += s;
    ends_.push_back(text_.size());
  }

 private:
  std::string text_;
  std::vector<size_t> ends_;
};

/// Files under one root. `labels` is empty where there are none.
struct ImageFiles {
  std::string root;   // joined with each path; empty: paths are complete
  StringTable paths;  // relative to root
  std::vector<int32_t> labels;
  std::vector<std::string> class_names;  // of labels, where known
  std::string description;
};

/// The largest label that sources keep, exclusive.
constexpr int64_t kMaxClasses = int64_t{1} << 31;

std::unique_ptr<DataSource> make_file_source(ImageFiles files);

/// An image folder: each sub-folder with images in it (at any depth) is a class, numbered in bytewise order of the
/// names; a folder with images alone has no labels. Other files are counted and ignored. Throws Error where nothing is
/// an image.
ImageFiles scan_image_folder(const std::string& folder, Log* log);

/// A list file: `path label` or `path` a line, separated by a tab or blanks (paths may hold blanks: the label is the
/// last field), '#' begins a comment line; relative paths start at the list's folder. All lines have labels, or none
/// has.
ImageFiles read_list_file(const std::string& path);

/// By its extension, whatever its case.
bool is_image_name(std::string_view name);

}  // namespace plsc
