// Writing and reading files whose blocks carry checksums.
#include "checkpoint/block_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace plsc {
namespace {

constexpr const char* kUseAnother =
    "the file has changed since it was written (disk error, or edited): copy it again from a backup, or go on from an "
    "older checkpoint with --resume DIR";

int64_t block_length(const BlockFile& file, int64_t index) {
  return std::min(file.block_bytes, file.bytes - index * file.block_bytes);
}

void read_block(const BlockFile& file, const File& source, int64_t index, std::span<std::byte> out) {
  try {
    source.read_at(index * file.block_bytes, out);
  } catch (const Error& e) {  // a sector that the disk cannot read, a file that was cut short while it was read
    throw DamagedError(without_hint(e.what()), kUseAnother);
  }
  const uint64_t found = checksum(out), expected = file.checksums[static_cast<size_t>(index)];
  if (found != expected) {
    throw DamagedError(
        fmt::format("{}: damaged in block {} (bytes {} to {}): checksum {}, expected {}", file.path, index,
                    index * file.block_bytes, index * file.block_bytes + static_cast<int64_t>(out.size()) - 1,
                    checksum_text(found), checksum_text(expected)),
        kUseAnother);
  }
}

// The block in the cache, read unless it is there already.
std::span<const std::byte> cached_block(const BlockFile& file, int64_t index, BlockCache& cache) {
  if (cache.index != index || cache.path != file.path) {
    cache.index = -1;
    cache.bytes.resize(static_cast<size_t>(block_length(file, index)));
    read_block(file, File::open_read(file.path), index, cache.bytes);
    cache.path = file.path;
    cache.index = index;
  }
  return cache.bytes;
}

}  // namespace

uint64_t checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string checksum_text(uint64_t value) { return fmt::format("{:016x}", value); }

struct BlockWriter::Hash {
  Hash() : state(XXH3_createState()) {
    if (state == nullptr) fail("out of host memory for a checksum");
    restart();
  }
  ~Hash() { XXH3_freeState(state); }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  void restart() { XXH3_64bits_reset(state); }

  XXH3_state_t* state;
};

BlockWriter::BlockWriter(const std::string& path) : file_(File::create(path)), hash_(std::make_unique<Hash>()) {}
BlockWriter::~BlockWriter() = default;

void BlockWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const int64_t room = kBlockBytes - bytes_ % kBlockBytes;
    const auto piece = bytes.first(std::min(bytes.size(), static_cast<size_t>(room)));
    file_.write(piece);
    XXH3_64bits_update(hash_->state, piece.data(), piece.size());
    bytes_ += static_cast<int64_t>(piece.size());
    if (bytes_ % kBlockBytes == 0) {
      checksums_.push_back(XXH3_64bits_digest(hash_->state));
      hash_->restart();
    }
    bytes = bytes.subspan(piece.size());
  }
}

std::vector<uint64_t> BlockWriter::finish() {
  if (bytes_ % kBlockBytes != 0) checksums_.push_back(XXH3_64bits_digest(hash_->state));
  file_.sync();
  file_.close();
  return std::move(checksums_);
}

void read_checked(const BlockFile& file, int64_t offset, std::span<std::byte> out, BlockCache& cache) {
  const int64_t end = offset + static_cast<int64_t>(out.size());
  PLSC_CHECK(offset >= 0 && end <= file.bytes, "bytes [{}, {}) of {} in {}", offset, end, file.bytes, file.path);
  if (file.checksums.empty()) {
    if (!out.empty()) File::open_read(file.path).read_at(offset, out);
    return;
  }
  std::unique_ptr<File> source;  // for blocks that lie wholly in the range: read in place, without the cache
  while (!out.empty()) {
    const int64_t index = offset / file.block_bytes, within = offset % file.block_bytes;
    const int64_t length = block_length(file, index);
    const auto take = static_cast<size_t>(std::min(length - within, static_cast<int64_t>(out.size())));
    if (within == 0 && static_cast<int64_t>(take) == length) {
      if (source == nullptr) source = std::make_unique<File>(File::open_read(file.path));
      read_block(file, *source, index, out.first(take));
    } else {
      std::memcpy(out.data(), cached_block(file, index, cache).data() + within, take);
    }
    out = out.subspan(take);
    offset += static_cast<int64_t>(take);
  }
}

void verify_blocks(const BlockFile& file, BlockCache& cache) {
  for (int64_t i = 0; i < static_cast<int64_t>(file.checksums.size()); ++i) cached_block(file, i, cache);
}

}  // namespace plsc
