// Files in blocks of 16 MiB, each with a checksum (XXH3, 64 bits): written once from front to back, read in ranges.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"

namespace plsc {

constexpr int64_t kBlockBytes = int64_t{16} << 20;

inline int64_t block_count(int64_t bytes, int64_t block_bytes) { return (bytes + block_bytes - 1) / block_bytes; }

uint64_t checksum(std::span<const std::byte> bytes);
/// 16 hexadecimal digits.
std::string checksum_text(uint64_t value);

/// Writes a new file and computes the checksums on the way. What was written is lost unless `finish` returns.
class BlockWriter {
 public:
  explicit BlockWriter(const std::string& path);
  ~BlockWriter();
  void write(std::span<const std::byte> bytes);
  /// Flushes to the disk and closes. The checksum of each block.
  std::vector<uint64_t> finish();
  int64_t bytes() const { return bytes_; }

 private:
  struct Hash;
  File file_;
  std::unique_ptr<Hash> hash_;
  int64_t bytes_ = 0;
  std::vector<uint64_t> checksums_;
};

/// What a file should hold. No checksums: nothing is known about its content.
struct BlockFile {
  std::string path;
  int64_t bytes = 0;
  int64_t block_bytes = kBlockBytes;
  std::vector<uint64_t> checksums;
};

/// The block that was read last, kept because small tensors lie many in one block.
struct BlockCache {
  std::string path;
  int64_t index = -1;
  std::vector<std::byte> bytes;
};

/// Exactly out.size() bytes at `offset`. Every block that is touched is checked as a whole; DamagedError names the
/// file, the block and both checksums, or what the system says of its reading. Needs memory for one block beside `out`.
void read_checked(const BlockFile& file, int64_t offset, std::span<std::byte> out, BlockCache& cache);

/// Reads and checks every block.
void verify_blocks(const BlockFile& file, BlockCache& cache);

}  // namespace plsc
