// MXNet RecordIO: the frames of a .rec file and the header in front of each image, read and written as InsightFace
// does.
//
// A frame (little-endian): u32 0xced7230a, u32 (cflag << 29 | length), payload, zeros up to a multiple of 4.
// cflag 0: a whole record; 1, 2, 3: first, middle, last part of one whose payload holds the magic number at a multiple
// of 4: the writer cuts there and leaves the number out, the reader puts it back.
// Payload: u32 flag, f32 label, u64 id, u64 id2; flag > 0: that many f32 labels follow; then the encoded image.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace plsc {

constexpr uint32_t kRecordMagic = 0xced7230a;
constexpr int64_t kRecordHeaderBytes = 24;
constexpr int64_t kMaxRecordPart = (int64_t{1} << 29) - 1;

/// MXNet's IRHeader. Our writer stores label + 1 in id2: a float does not hold every label above 2^24.
struct RecordHeader {
  uint32_t flag = 0;  // number of labels that follow; 0: `label` is the only one
  float label = 0;
  uint64_t id = 0, id2 = 0;
};

/// Where a record stands, for reading it and for naming it. key -1: not known.
struct RecordPlace {
  int64_t offset = 0;
  int64_t key = -1;
};

/// A record without its image.
struct RecordPeek {
  RecordHeader header;
  float first_label = 0;    // what counts: the first of several
  int64_t image_bytes = 0;  // 0: InsightFace's header and identity records
  int64_t next = 0;         // offset of the record that follows
};

/// A record's payload, taken apart. `image` points into the payload.
struct ParsedRecord {
  RecordHeader header;
  std::vector<float> labels;  // header.label alone where flag is 0
  std::span<const uint8_t> image;
};

/// The label of a record as a class number: id2 - 1 where id2 agrees with the float label (files of other writers may
/// hold anything in id2), the float label elsewhere. Throws Error for a label that is negative or not a whole number.
int64_t record_label(const RecordHeader& header, float first_label, const std::string& where);

/// A block of the file around the header read last, for one thread that goes through the headers of a file in order.
/// Where records are small it grows, so that one read fetches thousands of headers; where they are large it shrinks, so
/// that the images are not read along.
class RecordWindow {
 public:
  RecordWindow() = default;

 private:
  friend class RecordFile;
  explicit RecordWindow(int64_t block) : block_(block), fixed_(true) {}
  int64_t begin_ = 0, block_ = int64_t{64} << 10;
  int64_t served_ = 0;  // requests since the last read
  bool fixed_ = false;
  std::vector<std::byte> bytes_;
};

/// Random access to the records of one file, from any number of threads. Nothing in the file is trusted: every length
/// is held against the file's before memory is taken. Errors name file, offset and key.
class RecordFile {
 public:
  explicit RecordFile(const std::string& path);
  int64_t size() const { return size_; }
  const std::string& path() const { return file_.path(); }
  /// "train.rec, offset 123456, key 42"
  std::string where(RecordPlace place) const;

  /// The payload, its parts joined. `expected`: bytes that the whole record takes in the file where the caller knows
  /// it (one read instead of two); 0: unknown.
  std::vector<uint8_t> read(RecordPlace place, int64_t expected = 0) const;
  /// Header and extent alone. With a window: for one record of many in the order of the file.
  RecordPeek peek(RecordPlace place) const;
  RecordPeek peek(RecordPlace place, RecordWindow& window) const;
  /// Throws Error where the payload is too short for what its header says.
  ParsedRecord parse(std::span<const uint8_t> payload, RecordPlace place) const;
  /// The next offset from `offset` on (a multiple of 4) where a whole record seems to begin; size() where none does.
  int64_t resync(int64_t offset) const;

 private:
  struct Part {
    uint32_t flag = 0;
    int64_t length = 0, payload = 0, next = 0;  // payload and next: offsets in the file
  };
  void fetch(int64_t offset, std::span<std::byte> out, RecordWindow& window) const;
  Part part(int64_t offset, RecordPlace place, RecordWindow& window) const;
  /// All parts of the record at `place`, checked to be in sequence.
  std::vector<Part> parts(RecordPlace place, RecordWindow& window) const;
  bool plausible(int64_t offset) const;

  File file_;
  int64_t size_ = 0;
};

/// Appends records to a new file, which appears under its name when it is whole.
class RecordWriter {
 public:
  explicit RecordWriter(const std::string& path);
  /// The offset at which the record begins. `labels` go in where header.flag says so.
  int64_t append(const RecordHeader& header, std::span<const float> labels, std::span<const uint8_t> image);
  /// A payload as it is, cut where it holds the magic number.
  int64_t append_payload(std::span<const uint8_t> payload);
  /// Without it nothing stays.
  void publish() { file_.publish(); }

 private:
  void put(const void* data, size_t bytes);
  void put_part(uint32_t cflag, std::span<const uint8_t> part);

  AtomicFile file_;
  int64_t offset_ = 0;
};

}  // namespace plsc
