// RecordIO frames: see recordio.h for the format.
#include "data/recordio.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace plsc {
namespace {

static_assert(std::endian::native == std::endian::little, "RecordIO is read as it lies in the file");

constexpr int64_t kFrameBytes = 8;
// A window holds blocks of these sizes. A header in every kDenseBytes is what reading all of them in large blocks takes
// about as long for as reading the headers alone: 16 us at 500 MB/s, or at half a millisecond on 32 threads.
constexpr int64_t kSmallestWindow = int64_t{4} << 10, kLargestWindow = int64_t{4} << 20, kDenseBytes = int64_t{8} << 10;

int64_t padded(int64_t bytes) { return (bytes + 3) / 4 * 4; }

template <class T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

RecordHeader load_header(const uint8_t* p) {
  return {load<uint32_t>(p), load<float>(p + 4), load<uint64_t>(p + 8), load<uint64_t>(p + 16)};
}

}  // namespace

int64_t record_label(const RecordHeader& header, float first_label, const std::string& where) {
  if (header.id2 != 0 && header.id2 <= (uint64_t{1} << 53) && static_cast<float>(header.id2 - 1) == first_label) {
    return static_cast<int64_t>(header.id2 - 1);
  }
  if (!(first_label >= 0) || first_label != std::floor(first_label) || first_label > 2147483647.0f) {
    fail("{}: the label is {}; expected a class number 0, 1, ...", where, first_label);
  }
  return static_cast<int64_t>(first_label);
}

RecordFile::RecordFile(const std::string& path) : file_(File::open_read(path)), size_(file_.size()) {}

std::string RecordFile::where(RecordPlace place) const {
  if (place.key < 0) return fmt::format("{}, offset {}", file_.path(), place.offset);
  return fmt::format("{}, offset {}, key {}", file_.path(), place.offset, place.key);
}

void RecordFile::fetch(int64_t offset, std::span<std::byte> out, RecordWindow& w) const {
  const auto wanted = static_cast<int64_t>(out.size());
  if (offset < w.begin_ || offset + wanted > w.begin_ + static_cast<int64_t>(w.bytes_.size())) {
    if (!w.fixed_ && w.served_ > 0) {
      const bool dense = w.served_ / 2 * kDenseBytes >= w.block_;  // two requests a record: its frame, its header
      w.block_ = std::clamp(dense ? w.block_ * 4 : w.block_ / 4, kSmallestWindow, kLargestWindow);
    }
    w.bytes_.resize(static_cast<size_t>(std::max(wanted, std::min(w.block_, size_ - offset))));
    w.begin_ = offset;
    w.served_ = 0;
    file_.read_at(offset, w.bytes_);
  }
  ++w.served_;
  std::memcpy(out.data(), w.bytes_.data() + (offset - w.begin_), out.size());
}

RecordFile::Part RecordFile::part(int64_t offset, RecordPlace place, RecordWindow& window) const {
  if (offset < 0 || offset > size_ - kFrameBytes) {
    fail("{}: the record is cut off: its frame needs bytes {} to {}, and the file ends at {}", where(place), offset,
         offset + kFrameBytes, size_);
  }
  uint8_t frame[kFrameBytes];
  fetch(offset, std::as_writable_bytes(std::span(frame)), window);
  const auto magic = load<uint32_t>(frame), word = load<uint32_t>(frame + 4);
  if (magic != kRecordMagic) {
    fail("{}: the record is corrupt: found {:#010x} at offset {}, expected the magic number {:#010x}", where(place),
         magic, offset, kRecordMagic);
  }
  Part p;
  p.flag = word >> 29;
  p.length = word & kMaxRecordPart;
  p.payload = offset + kFrameBytes;
  p.next = p.payload + padded(p.length);
  if (p.flag > 3) fail("{}: the record is corrupt: its part flag is {}, expected 0 to 3", where(place), p.flag);
  if (p.payload + p.length > size_) {
    fail("{}: the record is cut off: it needs bytes up to {}, and the file ends at {}", where(place),
         p.payload + p.length, size_);
  }
  p.next = std::min(p.next, size_);  // a last record without its padding is whole all the same
  return p;
}

std::vector<RecordFile::Part> RecordFile::parts(RecordPlace place, RecordWindow& window) const {
  std::vector<Part> found{part(place.offset, place, window)};
  if (found[0].flag == 0) return found;
  if (found[0].flag != 1) {
    fail("{}: the record is corrupt: it begins with part flag {}, the middle of another record", where(place),
         found[0].flag);
  }
  while (found.back().flag != 3) {
    found.push_back(part(found.back().next, place, window));
    if (found.back().flag != 2 && found.back().flag != 3) {
      fail("{}: the record is corrupt: part {} has flag {}, expected 2 or 3", where(place), found.size() - 1,
           found.back().flag);
    }
  }
  return found;
}

std::vector<uint8_t> RecordFile::read(RecordPlace place, int64_t expected) const {
  // Where the extent is known one read fetches frame and payload; the frame is then checked like any other.
  if (expected > kFrameBytes && expected <= (int64_t{16} << 20) && place.offset >= 0 &&
      place.offset <= size_ - expected) {
    std::vector<uint8_t> bytes(static_cast<size_t>(expected));
    file_.read_at(place.offset, std::as_writable_bytes(std::span(bytes)));
    const auto word = load<uint32_t>(bytes.data() + 4);
    const int64_t length = word & kMaxRecordPart;
    if (load<uint32_t>(bytes.data()) == kRecordMagic && (word >> 29) == 0 && length <= expected - kFrameBytes) {
      bytes.erase(bytes.begin(), bytes.begin() + kFrameBytes);
      bytes.resize(static_cast<size_t>(length));
      return bytes;
    }
  }
  RecordWindow frames(kFrameBytes);
  const std::vector<Part> all = parts(place, frames);
  int64_t total = 4 * static_cast<int64_t>(all.size() - 1);
  for (const Part& p : all) total += p.length;
  std::vector<uint8_t> payload(static_cast<size_t>(total));
  size_t at = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i > 0) {
      std::memcpy(payload.data() + at, &kRecordMagic, 4);
      at += 4;
    }
    const auto length = static_cast<size_t>(all[i].length);
    if (length > 0) file_.read_at(all[i].payload, std::as_writable_bytes(std::span(payload).subspan(at, length)));
    at += length;
  }
  return payload;
}

RecordPeek RecordFile::peek(RecordPlace place) const {
  RecordWindow frame_and_header(64);
  return peek(place, frame_and_header);
}

RecordPeek RecordFile::peek(RecordPlace place, RecordWindow& window) const {
  const std::vector<Part> all = parts(place, window);
  RecordPeek peek;
  peek.next = all.back().next;
  int64_t payload = 4 * static_cast<int64_t>(all.size() - 1);
  for (const Part& p : all) payload += p.length;
  std::vector<uint8_t> head;
  if (const int64_t want = std::min(payload, kRecordHeaderBytes + 4); all[0].length >= want) {
    head.resize(static_cast<size_t>(want));
    fetch(all[0].payload, std::as_writable_bytes(std::span(head)), window);
  } else {
    head = read(place);  // the header itself holds the magic number
  }
  if (payload < kRecordHeaderBytes) {
    fail("{}: the record is corrupt: {} bytes, too few for its header of {}", where(place), payload,
         kRecordHeaderBytes);
  }
  peek.header = load_header(head.data());
  peek.image_bytes = payload - kRecordHeaderBytes - 4 * int64_t{peek.header.flag};
  if (peek.image_bytes < 0) {
    fail("{}: the record is corrupt: its header says {} labels, and only {} bytes follow", where(place),
         peek.header.flag, payload - kRecordHeaderBytes);
  }
  peek.first_label = peek.header.flag > 0 ? load<float>(head.data() + kRecordHeaderBytes) : peek.header.label;
  return peek;
}

ParsedRecord RecordFile::parse(std::span<const uint8_t> payload, RecordPlace place) const {
  const auto bytes = static_cast<int64_t>(payload.size());
  if (bytes < kRecordHeaderBytes) {
    fail("{}: the record is corrupt: {} bytes, too few for its header of {}", where(place), bytes, kRecordHeaderBytes);
  }
  ParsedRecord record;
  record.header = load_header(payload.data());
  const int64_t labels = 4 * int64_t{record.header.flag};
  if (labels > bytes - kRecordHeaderBytes) {
    fail("{}: the record is corrupt: its header says {} labels, and only {} bytes follow", where(place),
         record.header.flag, bytes - kRecordHeaderBytes);
  }
  if (labels == 0) {
    record.labels = {record.header.label};
  } else {
    record.labels.resize(record.header.flag);
    std::memcpy(record.labels.data(), payload.data() + kRecordHeaderBytes, static_cast<size_t>(labels));
  }
  record.image = payload.subspan(static_cast<size_t>(kRecordHeaderBytes + labels));
  return record;
}

bool RecordFile::plausible(int64_t offset) const {
  try {
    RecordWindow frames(kFrameBytes);
    const int64_t next = parts({offset}, frames).back().next;
    if (next == size_) return true;
    uint8_t magic[4];
    if (next > size_ - 4) return false;
    file_.read_at(next, std::as_writable_bytes(std::span(magic)));
    return load<uint32_t>(magic) == kRecordMagic;
  } catch (const Error&) {
    return false;
  }
}

int64_t RecordFile::resync(int64_t offset) const {
  constexpr int64_t kChunk = int64_t{1} << 20;
  std::vector<uint8_t> chunk;
  for (int64_t begin = padded(offset); begin + kFrameBytes <= size_; begin += kChunk) {
    chunk.resize(static_cast<size_t>(std::min(kChunk, size_ - begin)));
    file_.read_at(begin, std::as_writable_bytes(std::span(chunk)));
    for (size_t i = 0; i + 4 <= chunk.size(); i += 4) {
      const int64_t at = begin + static_cast<int64_t>(i);
      if (load<uint32_t>(chunk.data() + i) == kRecordMagic && plausible(at)) return at;
    }
  }
  return size_;
}

RecordWriter::RecordWriter(const std::string& path) : file_(path) {}

void RecordWriter::put(const void* data, size_t bytes) {
  file_.write({static_cast<const std::byte*>(data), bytes});
  offset_ += static_cast<int64_t>(bytes);
}

void RecordWriter::put_part(uint32_t cflag, std::span<const uint8_t> part) {
  const auto length = static_cast<int64_t>(part.size());
  if (length > kMaxRecordPart) fail("{}: a record of {} bytes: the format ends at 512 MiB", file_.path(), length);
  const uint32_t frame[2] = {kRecordMagic, cflag << 29 | static_cast<uint32_t>(length)};
  put(frame, sizeof frame);
  put(part.data(), part.size());
  const uint8_t zeros[4] = {};
  put(zeros, static_cast<size_t>(padded(length) - length));
}

int64_t RecordWriter::append_payload(std::span<const uint8_t> payload) {
  const int64_t begin = offset_;
  size_t done = 0;
  bool split = false;
  for (size_t i = 0; i + 4 <= payload.size(); i += 4) {
    if (load<uint32_t>(payload.data() + i) != kRecordMagic) continue;
    put_part(split ? 2 : 1, payload.subspan(done, i - done));
    split = true;
    done = i + 4;
  }
  put_part(split ? 3 : 0, payload.subspan(done));
  return begin;
}

int64_t RecordWriter::append(const RecordHeader& header, std::span<const float> labels,
                             std::span<const uint8_t> image) {
  PLSC_CHECK(header.flag == labels.size(), "flag {} with {} labels", header.flag, labels.size());
  std::vector<uint8_t> payload(static_cast<size_t>(kRecordHeaderBytes) + labels.size_bytes() + image.size());
  std::memcpy(payload.data(), &header.flag, 4);
  std::memcpy(payload.data() + 4, &header.label, 4);
  std::memcpy(payload.data() + 8, &header.id, 8);
  std::memcpy(payload.data() + 16, &header.id2, 8);
  if (!labels.empty()) std::memcpy(payload.data() + kRecordHeaderBytes, labels.data(), labels.size_bytes());
  if (!image.empty())
    std::memcpy(payload.data() + kRecordHeaderBytes + labels.size_bytes(), image.data(), image.size());
  return append_payload(payload);
}

}  // namespace plsc
