// Scanning an image folder: classes are sub-folders.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/threads.h"
#include "data/image_files.h"
#include "data/progress.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

/// What lies below one class folder, relative to the root; sorted, so that the order does not depend on the disk.
struct Found {
  std::vector<std::string> images;
  int64_t others = 0;
};

constexpr int kMaxDepth = 16;  // a link that leads back up ends here

void collect(const fs::path& folder, const std::string& prefix, int depth, Found& found) {
  if (depth > kMaxDepth) fail("{}: folders more than {} deep (a link that leads back up?)", folder.string(), kMaxDepth);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory()) {
      collect(entry.path(), prefix + name + "/", depth + 1, found);
    } else if (is_image_name(name)) {
      found.images.push_back(prefix + name);
    } else {
      ++found.others;
    }
  }
}

/// Calls collect for every class folder, on several threads: a million folders take minutes on a network disk.
std::vector<Found> collect_classes(const fs::path& root, const std::vector<std::string>& names, Log* log) {
  std::vector<Found> found(names.size());
  Progress progress(log, "listing " + root.string(), static_cast<int64_t>(names.size()));
  const int threads = names.size() < 64 ? 1 : std::min(16, available_cores() * 2);  // they wait for the disk
  parallel_ranges(static_cast<int64_t>(names.size()), threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto k = static_cast<size_t>(i);
      collect(root / names[k], names[k] + "/", 1, found[k]);
      std::sort(found[k].images.begin(), found[k].images.end());
      progress.add();
    }
  });
  return found;
}

std::string describe(const ImageFiles& files, int64_t others, int64_t loose, size_t empty) {
  std::string text = fmt::format("folder {}: {} images", files.root, files.paths.size());
  if (!files.class_names.empty()) text += fmt::format(" of {} classes", files.class_names.size());
  std::vector<std::string> notes;
  if (others > 0) notes.push_back(fmt::format("{} other files ignored", others));
  if (loose > 0) notes.push_back(fmt::format("{} images outside of any class folder ignored", loose));
  if (empty > 0) notes.push_back(fmt::format("{} folders without images ignored", empty));
  for (size_t i = 0; i < notes.size(); ++i) text += (i == 0 ? " (" : ", ") + notes[i];
  return notes.empty() ? text : text + ")";
}

ImageFiles scan(const std::string& folder, Log* log) {
  std::vector<std::string> names;
  Found top;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory()) {
      names.push_back(name);
    } else if (is_image_name(name)) {
      top.images.push_back(name);
    } else {
      ++top.others;
    }
  }
  std::sort(names.begin(), names.end());
  std::sort(top.images.begin(), top.images.end());

  ImageFiles files;
  files.root = folder;
  std::vector<Found> found = collect_classes(folder, names, log);
  int64_t others = top.others;
  size_t empty = 0;
  for (size_t c = 0; c < names.size(); ++c) {
    others += found[c].others;
    if (found[c].images.empty()) {
      ++empty;
      continue;
    }
    const auto label = static_cast<int32_t>(files.class_names.size());
    files.class_names.push_back(names[c]);
    for (const std::string& path : found[c].images) {
      files.paths.push_back(path);
      files.labels.push_back(label);
    }
    found[c] = {};
  }
  const bool unlabelled = files.class_names.empty();
  if (unlabelled) {
    for (const std::string& path : top.images) files.paths.push_back(path);
  }
  if (files.paths.size() == 0) {
    fail_hint("expected folder/class/image.jpg, or images alone; images are known by their extensions (jpg, png, ...)",
              "{}: no image in it ({} other files, {} folders)", folder, others, names.size());
  }
  files.description = describe(files, others, unlabelled ? 0 : static_cast<int64_t>(top.images.size()), empty);
  return files;
}

}  // namespace

ImageFiles scan_image_folder(const std::string& folder, Log* log) {
  try {
    return scan(folder, log);
  } catch (const fs::filesystem_error& error) {
    fail("cannot list {}: {}", error.path1().string(), error.code().message());
  }
}

}  // namespace plsc
