// Opening what data.train names: one source of several paths.
#include "data/source.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>

#include "base/error.h"
#include "data/image_files.h"
#include "data/record_source.h"
#include "data/synthetic.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

/// Several sources end to end. Labels of sources that name their classes go by name; the others keep their numbers.
class MergedSource final : public DataSource {
 public:
  explicit MergedSource(std::vector<std::unique_ptr<DataSource>> parts, bool by_name) : parts_(std::move(parts)) {
    for (const auto& part : parts_) {
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + part->size());
      classes_ = std::max(classes_, part->classes());
    }
    if (by_name) merge_names();
  }

  int64_t size() const override { return ends_.back(); }
  int64_t classes() const override { return classes_; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::string name(int64_t index) const override {
    const auto [part, at] = find(index);
    return parts_[part]->name(at);
  }
  int64_t label(int64_t index) const override {
    const auto [part, at] = find(index);
    return mapped(part, parts_[part]->label(at));
  }
  int64_t first_label_beyond(int64_t classes, int64_t begin, int64_t end, Log* log) const override {
    if (!maps_.empty()) return DataSource::first_label_beyond(classes, begin, end, log);
    for (size_t part = 0; part < parts_.size(); ++part) {
      const int64_t first = part == 0 ? 0 : ends_[part - 1];
      const int64_t from = std::max(begin, first) - first, to = std::min(end, ends_[part]) - first;
      if (from >= to || parts_[part]->classes() <= classes) continue;
      const int64_t found = parts_[part]->first_label_beyond(classes, from, to, log);
      if (found >= 0) return first + found;
    }
    return -1;
  }
  RawSample read(int64_t index) const override {
    const auto [part, at] = find(index);
    RawSample sample = parts_[part]->read(at);
    sample.label = mapped(part, sample.label);
    return sample;
  }
  std::string description() const override {
    std::string text = fmt::format("{} images of {} classes in {} parts", size(), classes_, parts_.size());
    for (size_t i = 0; i < parts_.size(); ++i) text += (i == 0 ? ": " : "; ") + parts_[i]->description();
    return text;
  }

 private:
  std::pair<size_t, int64_t> find(int64_t index) const {
    const auto part = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
    return {part, index - (part == 0 ? 0 : ends_[part - 1])};
  }
  int64_t mapped(size_t part, int64_t label) const {
    return maps_.empty() || label < 0 ? label : maps_[part][static_cast<size_t>(label)];
  }

  void merge_names() {
    std::map<std::string, int64_t> number;
    for (const auto& part : parts_) {
      for (const std::string& n : part->class_names()) number[n] = 0;
    }
    for (auto& [n, value] : number) {
      value = static_cast<int64_t>(names_.size());
      names_.push_back(n);
    }
    for (const auto& part : parts_) {
      maps_.emplace_back();
      for (const std::string& n : part->class_names()) maps_.back().push_back(number[n]);
    }
    classes_ = static_cast<int64_t>(names_.size());
  }

  std::vector<std::unique_ptr<DataSource>> parts_;
  std::vector<int64_t> ends_;
  std::vector<std::vector<int64_t>> maps_;  // of each part: its labels to ours; empty: labels are kept
  std::vector<std::string> names_;
  int64_t classes_ = 0;
};

std::unique_ptr<DataSource> open_one(const std::string& path, Log* log) {
  if (!fs::exists(path)) {
    fail_hint("relative paths start at the working folder", "{}: no such file or folder, expected data", path);
  }
  if (fs::is_directory(path)) return make_file_source(scan_image_folder(path, log));
  const std::string extension = fs::path(path).extension().string();
  if (extension == ".rec") return open_record_source(path, log);
  if (extension == ".idx" || extension == ".bin" || is_image_name(path)) {
    fail("{}: expected a .rec file, an image folder or a list file", path);
  }
  return make_file_source(read_list_file(path));
}

}  // namespace

int64_t DataSource::first_label_beyond(int64_t classes, int64_t begin, int64_t end, Log*) const {
  for (int64_t i = begin; i < end; ++i) {
    if (label(i) >= classes) return i;
  }
  return -1;
}

std::unique_ptr<DataSource> open_source(const std::vector<std::string>& paths, Log* log) {
  if (paths.empty()) fail("no data: expected a .rec file, an image folder or a list file");
  std::vector<std::unique_ptr<DataSource>> parts;
  for (const std::string& path : paths) parts.push_back(open_one(path, log));
  if (parts.size() == 1) return std::move(parts[0]);

  // Names are merged where all parts have them (folders; .rec files packed from folders). Numbers cannot be merged
  // with a folder's names, nor labelled data with unlabelled.
  const auto named = [](const auto& part) { return !part->class_names().empty(); };
  const auto labelled = [](const auto& part) { return part->classes() > 0; };
  const auto all_folders = std::all_of(paths.begin(), paths.end(), [](auto& p) { return fs::is_directory(p); });
  const auto any_folder = std::any_of(paths.begin(), paths.end(), [](auto& p) { return fs::is_directory(p); });
  for (size_t i = 1; i < parts.size(); ++i) {
    if (labelled(parts[i]) != labelled(parts[0])) {
      fail("{} {} labels and {} {}: they cannot be read as one", paths[0], labelled(parts[0]) ? "has" : "lacks",
           paths[i], labelled(parts[i]) ? "has" : "lacks");
    }
  }
  const bool by_name = all_folders && std::all_of(parts.begin(), parts.end(), named);
  if (any_folder && !all_folders && labelled(parts[0])) {
    fail_hint("plsc-data pack makes a .rec of a folder",
              "{}: a folder numbers its classes by name: it cannot be mixed "
              "with files that hold numbers",
              paths[0]);
  }
  return std::make_unique<MergedSource>(std::move(parts), by_name);
}

std::unique_ptr<DataSource> open_source(const DataConfig& config, uint64_t seed, Log* log) {
  const bool synthetic = std::find(config.train.begin(), config.train.end(), "synthetic") != config.train.end();
  if (!synthetic) return open_source(config.train, log);
  if (config.train.size() > 1) fail("data.train: `synthetic` stands alone, found {} entries", config.train.size());
  return make_synthetic_source(config, seed);
}

}  // namespace plsc
