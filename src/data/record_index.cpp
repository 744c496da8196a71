// The index of a .rec file: see record_index.h.
#include "data/record_index.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "data/progress.h"

namespace plsc {
namespace {

/// Reads a text file of "key\toffset" lines piece by piece: tens of millions of lines need not lie in memory.
class IdxReader {
 public:
  explicit IdxReader(const std::string& path) : file_(File::open_read(path)), size_(file_.size()) {}

  bool next(int64_t& key, int64_t& offset) {
    std::string_view line;
    while (next_line(line)) {
      ++number_;
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
      const char* const end = line.data() + line.size();
      const auto k = std::from_chars(line.data(), end, key);
      const char* p = k.ptr;
      while (p < end && (*p == '\t' || *p == ' ')) ++p;
      const auto o = std::from_chars(p, end, offset);
      if (k.ec != std::errc() || p == k.ptr || o.ec != std::errc() || o.ptr != end || key < 0 || offset < 0) {
        fail("{}:{}: found '{}', expected `key<tab>offset`", file_.path(), number_, line.substr(0, 60));
      }
      return true;
    }
    return false;
  }

 private:
  bool next_line(std::string_view& line) {
    for (;;) {
      const auto newline = buffer_.find('\n', begin_);
      if (newline != std::string::npos || (at_ == size_ && begin_ < buffer_.size())) {
        const size_t end = newline == std::string::npos ? buffer_.size() : newline;
        line = std::string_view(buffer_).substr(begin_, end - begin_);
        begin_ = std::min(end + 1, buffer_.size());
        return true;
      }
      if (at_ == size_) return false;
      buffer_.erase(0, begin_);
      begin_ = 0;
      const auto take = static_cast<size_t>(std::min<int64_t>(size_ - at_, int64_t{1} << 20));
      const size_t had = buffer_.size();
      if (had > 4096) fail("{}:{}: a line without end, expected `key<tab>offset`", file_.path(), number_ + 1);
      buffer_.resize(had + take);
      file_.read_at(at_, std::as_writable_bytes(std::span(buffer_).subspan(had)));
      at_ += static_cast<int64_t>(take);
    }
  }

  File file_;
  int64_t size_ = 0, at_ = 0, number_ = 0;
  std::string buffer_;
  size_t begin_ = 0;
};

}  // namespace

std::string sibling_path(const std::string& rec_path, const std::string& extension) {
  return std::filesystem::path(rec_path).replace_extension(extension).string();
}

void PackedOffsets::push_back(int64_t offset) {
  PLSC_CHECK(offset >= 0 && offset % 4 == 0 && offset / 4 < int64_t{1} << 40, "offset {}", offset);
  low_.push_back(static_cast<uint32_t>(offset / 4));
  high_.push_back(static_cast<uint8_t>(offset / 4 >> 32));
}

void PackedOffsets::reorder(const std::vector<int64_t>& order) {
  PackedOffsets sorted;
  sorted.low_.reserve(low_.size());
  sorted.high_.reserve(high_.size());
  for (int64_t i : order) sorted.push_back((*this)[i]);
  *this = std::move(sorted);
}

void PackedOffsets::keep(int64_t begin, int64_t end) {
  low_.erase(low_.begin() + end, low_.end());
  low_.erase(low_.begin(), low_.begin() + begin);
  high_.erase(high_.begin() + end, high_.end());
  high_.erase(high_.begin(), high_.begin() + begin);
}

RecordIndex RecordIndex::open(const RecordFile& file, Log* log, std::vector<std::string>* damage, bool ignore_idx) {
  if (file.size() == 0) fail("{}: the file is empty, expected RecordIO records", file.path());
  RecordIndex index;
  const std::string idx = sibling_path(file.path(), ".idx");
  if (!ignore_idx && std::filesystem::exists(idx)) {
    index.read_idx(file, idx);
    index.drop_header_and_identities(file);
  } else {
    index.scan(file, log, damage);
  }
  if (index.size() == 0) fail("{}: no record holds an image", file.path());
  return index;
}

RecordPlace RecordIndex::place(int64_t i) const {
  PLSC_CHECK(i >= 0 && i < size(), "sample {} of {}", i, size());
  return {offsets_[i], key(i)};
}

int64_t RecordIndex::extent(int64_t i) const {
  if (i + 1 >= size()) return 0;
  return std::max<int64_t>(0, offsets_[i + 1] - offsets_[i]);
}

int64_t RecordIndex::lower_bound(int64_t wanted) const {
  if (keys_.empty()) return std::clamp<int64_t>(wanted - first_key_, 0, size());
  return std::lower_bound(keys_.begin(), keys_.end(), wanted) - keys_.begin();
}

void RecordIndex::add(int64_t key, int64_t offset) {
  const int64_t n = size();
  if (n == 0) first_key_ = key;
  if (keys_.empty() && key != first_key_ + n) {
    keys_.resize(static_cast<size_t>(n));
    std::iota(keys_.begin(), keys_.end(), first_key_);
    keys_.push_back(key);
  } else if (!keys_.empty()) {
    keys_.push_back(key);
  }
  offsets_.push_back(offset);
}

void RecordIndex::sort_by_key(const std::string& path, bool must_differ) {
  if (keys_.empty()) return;
  if (!std::is_sorted(keys_.begin(), keys_.end())) {
    std::vector<int64_t> order(keys_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return keys_[static_cast<size_t>(a)] < keys_[static_cast<size_t>(b)];
    });
    offsets_.reorder(order);
    std::sort(keys_.begin(), keys_.end());
  }
  if (const auto twice = std::adjacent_find(keys_.begin(), keys_.end()); must_differ && twice != keys_.end()) {
    fail_hint("without an .idx the .rec is scanned instead: move it away", "{}: key {} stands twice", path, *twice);
  }
  first_key_ = keys_.front();
  if (keys_.back() - keys_.front() == size() - 1) {
    keys_.clear();
    keys_.shrink_to_fit();
  }
}

void RecordIndex::read_idx(const RecordFile& file, const std::string& idx_path) {
  IdxReader reader(idx_path);
  int64_t key = 0, offset = 0, last = -1;
  while (reader.next(key, offset)) {
    if (offset % 4 != 0 || offset >= file.size()) {
      fail_hint("the .rec is cut short, or the .idx is of another file (without it the .rec is scanned)",
                "{}: key {} stands at offset {}: expected a multiple of 4 within the {} bytes of {}", idx_path, key,
                offset, file.size(), file.path());
    }
    last = std::max(last, offset);
    add(key, offset);
  }
  if (last < 0) fail_hint("without it the .rec is scanned instead", "{}: holds no entry", idx_path);
  check_idx(file, idx_path, last);
  sort_by_key(idx_path, true);
}

/// The record that the .idx names last must end with the file: a truncated .rec, or an .idx of another file, shows
/// here.
void RecordIndex::check_idx(const RecordFile& file, const std::string& idx_path, int64_t last) const {
  int64_t last_key = -1;
  for (int64_t i = size(); i-- > 0 && last_key < 0;) {
    if (offsets_[i] == last) last_key = key(i);
  }
  const RecordPeek peek = file.peek({last, last_key});
  if (peek.next != file.size()) {
    fail_hint("the .rec is cut short, or the .idx is of another file (without it the .rec is scanned)",
              "{}: its last record, key {}, ends at {}, but {} has {} bytes", idx_path, last_key, peek.next,
              file.path(), file.size());
  }
}

/// Where the images end, given the header record's claim. It is a float: above 2^24 it may be rounded, so the records
/// around it decide.
int64_t RecordIndex::first_identity(const RecordFile& file, int64_t claimed) const {
  const auto has_image = [&](int64_t k) {
    const int64_t i = lower_bound(k);
    return i < size() && key(i) == k && file.peek(place(i)).image_bytes > 0;
  };
  if (claimed < int64_t{1} << 24) return claimed;
  for (int64_t k = claimed + 16; k > claimed - 16; --k) {
    if (has_image(k - 1)) return k;
  }
  return claimed;
}

void RecordIndex::drop_header_and_identities(const RecordFile& file) {
  if (key(0) != 0) return;
  const RecordPeek peek = file.peek(place(0));
  if (peek.header.flag == 0 || peek.image_bytes > 0) return;  // im2rec: key 0 is a sample like all others
  if (!(peek.first_label >= 1) || peek.first_label > 9e15f) {
    fail("{}: InsightFace's header record says that the images are 1 to {} - 1", file.where(place(0)),
         peek.first_label);
  }
  const int64_t images_end = first_identity(file, static_cast<int64_t>(peek.first_label));
  const int64_t begin = lower_bound(1), end = lower_bound(images_end);
  identities_ = size() - end;
  if (!keys_.empty()) {
    keys_.erase(keys_.begin() + end, keys_.end());
    keys_.erase(keys_.begin(), keys_.begin() + begin);
  } else {
    first_key_ += begin;
  }
  offsets_.keep(begin, end);
}

/// One record that the scan met. Records without an image are InsightFace's header and identities.
void RecordIndex::note_scanned(const RecordFile& file, RecordPlace place, const RecordPeek& peek) {
  if (peek.image_bytes == 0 && peek.header.flag > 0) {
    // The header has the id 0; identity records carry their key, or the identity's number.
    ++identities_;
    if (peek.header.id == 0 && !header_met_) {
      header_met_ = true;
      --identities_;
    }
    return;
  }
  place.key = static_cast<int64_t>(peek.header.id & 0x7fffffffffffffff);
  try {
    classes_seen_ = std::max(classes_seen_, record_label(peek.header, peek.first_label, file.where(place)) + 1);
  } catch (const Error&) {
    // A label that is none is named when the record is read: data.on_error decides then.
  }
  add(place.key, place.offset);
}

void RecordIndex::scan(const RecordFile& file, Log* log, std::vector<std::string>* damage) {
  Progress progress(log, "scanning " + file.path() + " (it has no .idx)", file.size(), Progress::Unit::bytes);
  RecordWindow window;
  for (int64_t offset = 0; offset < file.size();) {
    try {
      const RecordPeek peek = file.peek({offset}, window);
      note_scanned(file, {offset}, peek);
      offset = peek.next;
    } catch (const Error& error) {
      if (damage == nullptr) throw;
      damage->push_back(error.what());
      offset = file.resync(offset + 4);
    }
    progress.set(offset);
  }
  if (size() == 0) return;
  // The id in the header is the key in InsightFace's files. Where ids repeat they are no keys: the order of the file
  // counts, and the position is the key.
  RecordIndex by_id = *this;
  by_id.sort_by_key(file.path(), false);
  if (std::adjacent_find(by_id.keys_.begin(), by_id.keys_.end()) == by_id.keys_.end()) {
    *this = std::move(by_id);
  } else {
    keys_.clear();
    first_key_ = 0;
  }
}

}  // namespace plsc
