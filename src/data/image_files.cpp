// A source over image files, and the source over images in memory.
#include "data/image_files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <span>

#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

class FileSource final : public DataSource {
 public:
  explicit FileSource(ImageFiles files) : files_(std::move(files)) {
    for (const int32_t label : files_.labels) classes_ = std::max<int64_t>(classes_, int64_t{label} + 1);
    classes_ = std::max(classes_, static_cast<int64_t>(files_.class_names.size()));
  }

  int64_t size() const override { return files_.paths.size(); }
  int64_t classes() const override { return classes_; }
  const std::vector<std::string>& class_names() const override { return files_.class_names; }
  std::string name(int64_t index) const override { return std::string(files_.paths[index]); }
  std::string description() const override { return files_.description; }
  int64_t label(int64_t index) const override {
    return files_.labels.empty() ? -1 : files_.labels[static_cast<size_t>(index)];
  }

  RawSample read(int64_t index) const override {
    RawSample sample;
    sample.where = (std::filesystem::path(files_.root) / files_.paths[index]).string();
    sample.label = label(index);
    sample.encoded = read_bytes(sample.where);
    if (sample.encoded.empty()) fail("{}: the file is empty, expected an image", sample.where);
    return sample;
  }

 private:
  ImageFiles files_;
  int64_t classes_ = 0;
};

class MemorySource final : public DataSource {
 public:
  MemorySource(std::vector<std::vector<uint8_t>> images, std::vector<int64_t> labels, std::string description)
      : images_(std::move(images)), labels_(std::move(labels)), description_(std::move(description)) {
    for (const int64_t label : labels_) classes_ = std::max(classes_, label + 1);
  }

  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  int64_t classes() const override { return classes_; }
  const std::vector<std::string>& class_names() const override { return no_names_; }
  std::string name(int64_t index) const override { return fmt::format("image {}", index); }
  std::string description() const override { return description_; }
  int64_t label(int64_t index) const override { return labels_.empty() ? -1 : labels_[static_cast<size_t>(index)]; }
  RawSample read(int64_t index) const override {
    return {images_[static_cast<size_t>(index)], {}, label(index), description_ + ", " + name(index)};
  }

 private:
  std::vector<std::vector<uint8_t>> images_;
  std::vector<int64_t> labels_;
  std::vector<std::string> no_names_;
  std::string description_;
  int64_t classes_ = 0;
};

void check_labels(const std::vector<int64_t>& labels, size_t samples, const std::string& description) {
  PLSC_CHECK(labels.empty() || labels.size() == samples, "{}: {} labels for {} samples", description, labels.size(),
             samples);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= kMaxClasses) {
      fail("{}: sample {} has the label {}, expected 0 to {}", description, i, labels[i], kMaxClasses - 1);
    }
  }
}

}  // namespace

bool is_image_name(std::string_view name) {
  static constexpr std::array<std::string_view, 12> kExtensions{"jpg",  "jpeg", "png", "bmp", "webp", "tif",
                                                                "tiff", "ppm",  "pgm", "pbm", "pnm",  "jp2"};
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  std::string extension(name.substr(dot + 1));
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

std::unique_ptr<DataSource> make_file_source(ImageFiles files) {
  return std::make_unique<FileSource>(std::move(files));
}

std::unique_ptr<DataSource> make_memory_source(std::vector<std::vector<uint8_t>> images, std::vector<int64_t> labels,
                                               const std::string& description) {
  check_labels(labels, images.size(), description);
  return std::make_unique<MemorySource>(std::move(images), std::move(labels), description);
}

std::unique_ptr<DataSource> make_path_source(const std::vector<std::string>& paths, std::vector<int64_t> labels,
                                             const std::string& description) {
  check_labels(labels, paths.size(), description);
  ImageFiles files;
  for (const std::string& path : paths) files.paths.push_back(path);
  files.labels.assign(labels.begin(), labels.end());
  files.description = description;
  return make_file_source(std::move(files));
}

}  // namespace plsc
