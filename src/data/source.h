// Where images come from: RecordIO, image folders, list files, or made in memory. Random access by index.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "config/config.h"

namespace plsc {

/// One stored sample: still encoded (JPEG, PNG, ...), or decoded pixels where a source makes them.
struct RawSample {
  std::vector<uint8_t> encoded;  // empty when `pixels` holds (H, W, C) RGB or grey
  std::vector<uint8_t> pixels;
  int64_t label = -1;  // -1: has none
  std::string where;   // "train.rec, offset 123456, key 42" or the file's path: for messages
};

/// Thread-safe for reading. Reading a damaged sample throws Error that names it.
class DataSource {
 public:
  virtual ~DataSource() = default;
  virtual int64_t size() const = 0;
  virtual RawSample read(int64_t index) const = 0;
  /// The label alone, cheaply: from memory, or by one small read of a record's header. -1: none.
  virtual int64_t label(int64_t index) const = 0;
  /// The first sample of [begin, end) whose label is not below `classes`; -1: all are. Quicker than `label` for many.
  /// Samples whose label cannot be read are passed over: whoever reads them meets the error.
  virtual int64_t first_label_beyond(int64_t classes, int64_t begin, int64_t end, Log* log) const;
  /// Number of classes: 1 + the largest label, or what the source's own header says. 0: no labels.
  virtual int64_t classes() const = 0;
  /// Names of the classes where the source knows them (folder names), else empty.
  virtual const std::vector<std::string>& class_names() const = 0;
  /// What identifies sample `index` to a user: a relative path, or a record's key.
  virtual std::string name(int64_t index) const = 0;
  virtual std::string description() const = 0;
};

/// .rec file, image folder (class a sub-folder; or images alone, without labels), list file ("path label" or "path"),
/// or "synthetic". Several paths are one source: labels of folders are merged by class name, of .rec and lists kept.
/// A labelled folder cannot be mixed with .rec or list files: names and numbers do not merge.
/// `log` shows the progress of long scans; null: none. Throws Error for missing, empty or damaged data.
std::unique_ptr<DataSource> open_source(const DataConfig& config, uint64_t seed, Log* log = nullptr);
std::unique_ptr<DataSource> open_source(const std::vector<std::string>& paths, Log* log = nullptr);

/// Encoded images in memory (a verification .bin). `labels` may be empty: none.
std::unique_ptr<DataSource> make_memory_source(std::vector<std::vector<uint8_t>> images, std::vector<int64_t> labels,
                                               const std::string& description);
/// Image files by path, as they are (no existence check before the first read). `labels` may be empty: none.
std::unique_ptr<DataSource> make_path_source(const std::vector<std::string>& paths, std::vector<int64_t> labels,
                                             const std::string& description);

}  // namespace plsc
