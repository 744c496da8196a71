// Which records of a .rec file are samples, and where they stand: from the .idx beside it, or from one scan of the
// file.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/log.h"
#include "data/recordio.h"

namespace plsc {

/// Offsets of up to 2^42 bytes (all multiples of 4) in 5 bytes each.
class PackedOffsets {
 public:
  int64_t size() const { return static_cast<int64_t>(low_.size()); }
  int64_t operator[](int64_t i) const {
    const auto k = static_cast<size_t>(i);
    return (static_cast<int64_t>(high_[k]) << 32 | low_[k]) * 4;
  }
  void push_back(int64_t offset);
  /// Entry i becomes what entry order[i] was.
  void reorder(const std::vector<int64_t>& order);
  void keep(int64_t begin, int64_t end);

 private:
  std::vector<uint32_t> low_;
  std::vector<uint8_t> high_;
};

/// The samples of one .rec file in the order of their keys. InsightFace's header record (key 0: several labels, no
/// image) and its identity records are no samples; in files without them, as im2rec writes, every record is one.
class RecordIndex {
 public:
  /// Reads `train.idx` beside `train.rec` where there is one and holds it against the file; scans the file where there
  /// is none (every frame's header is read: minutes for tens of millions; progress goes to `log` when not null).
  /// Where `damage` is given, a damaged record found by the scan is described there and skipped; else it throws.
  static RecordIndex open(const RecordFile& file, Log* log, std::vector<std::string>* damage = nullptr,
                          bool ignore_idx = false);

  int64_t size() const { return offsets_.size(); }
  RecordPlace place(int64_t i) const;
  /// Bytes from record i to the next in the file where that is likely its own extent; 0: unknown.
  int64_t extent(int64_t i) const;
  /// InsightFace's identity records: one a class. 0: none.
  int64_t identities() const { return identities_; }
  /// 1 + the largest label where a scan has seen them all; -1: not known.
  int64_t classes_seen() const { return classes_seen_; }

 private:
  void read_idx(const RecordFile& file, const std::string& idx_path);
  void check_idx(const RecordFile& file, const std::string& idx_path, int64_t last) const;
  void drop_header_and_identities(const RecordFile& file);
  int64_t first_identity(const RecordFile& file, int64_t claimed) const;
  void scan(const RecordFile& file, Log* log, std::vector<std::string>* damage);
  void note_scanned(const RecordFile& file, RecordPlace place, const RecordPeek& peek);
  void add(int64_t key, int64_t offset);
  void sort_by_key(const std::string& path, bool must_differ);
  int64_t key(int64_t i) const { return keys_.empty() ? first_key_ + i : keys_[static_cast<size_t>(i)]; }
  /// The first entry whose key is not less.
  int64_t lower_bound(int64_t wanted) const;

  PackedOffsets offsets_;
  std::vector<int64_t> keys_;  // empty where they are first_key_, first_key_ + 1, ...
  int64_t first_key_ = 0;
  int64_t identities_ = 0;
  int64_t classes_seen_ = -1;
  bool header_met_ = false;  // by the scan
};

/// "train.idx" for "train.rec".
std::string sibling_path(const std::string& rec_path, const std::string& extension);

}  // namespace plsc
