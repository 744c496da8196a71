// `data.cache: decoded`: decoded images in memory, one segment a node, shared by the local ranks.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/log.h"

namespace plsc {

struct PixelCacheOptions {
  std::string key;  // the same on all local ranks of a job, no other job's; empty: memory of this rank alone
  int local_ranks = 1;
  int64_t limit = 0;  // bytes a node; 0: half of the memory that is free now
  int64_t samples = 0, sample_bytes = 0;
};

/// Filled by whoever decodes an image first (each sample comes once in an epoch over all ranks, so filling at the
/// start would gain nothing); the pages are taken as they fill. Where the limit does not hold all samples, the first
/// `capacity` are kept. Thread-safe, and safe between ranks: a sample is seen whole or not at all.
///
/// The segment is a memfd: it has no name and ends with the last rank, however that ends. The ranks find it through a
/// small file in /dev/shm that holds the creator's process and descriptor and is removed as soon as all local ranks are
/// attached; one left behind by a crash is recognised by its released lock and taken over.
class PixelCache {
 public:
  /// Throws Error where ranks of one node cannot share memory (different PID namespaces).
  static std::unique_ptr<PixelCache> open(const PixelCacheOptions& options);
  ~PixelCache();
  PixelCache(const PixelCache&) = delete;
  PixelCache& operator=(const PixelCache&) = delete;

  /// True where sample `index` is there: fills pixels and label.
  bool get(int64_t index, std::span<uint8_t> pixels, int64_t& label) const;
  void put(int64_t index, std::span<const uint8_t> pixels, int64_t label);

  int64_t capacity() const { return capacity_; }
  /// "cache: 23.1 MiB for 24000 of 24000 decoded images, shared by 2 ranks"
  std::string description() const;

 private:
  struct Header;
  explicit PixelCache(const PixelCacheOptions& options) : options_(options) {}
  void create_private();
  void share();
  void join(int fd, const std::string& path);
  void create_shared(int fd, const std::string& path);
  void attach(const std::string& path);
  void map(int fd, int64_t bytes);
  void lay_out(int64_t capacity);
  int64_t affordable() const;

  PixelCacheOptions options_;
  int64_t capacity_ = 0;
  uint8_t* base_ = nullptr;
  int64_t mapped_ = 0;
  uint8_t* states_ = nullptr;
  int64_t* labels_ = nullptr;
  uint8_t* pixels_ = nullptr;
  int memory_fd_ = -1, meeting_fd_ = -1;
};

}  // namespace plsc
