// The decoded cache: see pixel_cache.h for how ranks share it.
#include "data/pixel_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

namespace plsc {

struct PixelCache::Header {
  uint64_t samples, sample_bytes;
  int64_t capacity;
  uint32_t attached;  // local ranks so far; by atomic_ref
};

namespace {

constexpr int64_t kHeaderBytes = 64;
constexpr uint8_t kReady = 1;

int64_t rounded_up(int64_t n) { return (n + 63) / 64 * 64; }

int64_t segment_bytes(int64_t capacity, int64_t sample_bytes) {
  return kHeaderBytes + rounded_up(capacity) + rounded_up(8 * capacity) + capacity * sample_bytes;
}

[[noreturn]] void fail_sharing(const std::string& what) {
  fail_hint("set data.cache: none, or run one rank on each node", "data.cache: decoded: cannot {}: {}", what,
            std::strerror(errno));
}

/// Locks of the open file (not of the process), released when its last descriptor closes: byte 0 is held while
/// meeting, byte 1 for as long as the creator lives.
struct flock byte_lock(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool creator_lives(int fd) {
  struct flock lock = byte_lock(F_WRLCK, 1);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/// FNV-1a: names a file, nothing more.
uint64_t hash_text(const std::string& text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

std::string meeting_path(const std::string& key) {
  const std::string name = fmt::format("plsc-cache-{}-{:016x}", ::getuid(), hash_text(key));
  const char* shm = "/dev/shm";
  const std::filesystem::path folder =
      ::access(shm, W_OK | X_OK) == 0 ? std::filesystem::path(shm) : std::filesystem::temp_directory_path();
  return (folder / name).string();
}

/// The meeting file, locked; made anew where it was removed between opening and locking.
int open_meeting(const std::string& path) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) fail_sharing("open " + path);
    struct flock lock = byte_lock(F_WRLCK, 0);
    int result = 0;
    while ((result = ::fcntl(fd, F_OFD_SETLKW, &lock)) != 0 && errno == EINTR) {
    }
    struct stat info {};
    if (result != 0 || ::fstat(fd, &info) != 0) {
      ::close(fd);
      fail_sharing("lock " + path);
    }
    if (info.st_nlink > 0) return fd;
    ::close(fd);
  }
}

}  // namespace

std::unique_ptr<PixelCache> PixelCache::open(const PixelCacheOptions& options) {
  PLSC_CHECK(options.samples > 0 && options.sample_bytes > 0 && options.local_ranks > 0);
  std::unique_ptr<PixelCache> cache(new PixelCache(options));
  if (options.local_ranks == 1 || options.key.empty()) {
    cache->create_private();
  } else {
    cache->share();
  }
  return cache;
}

PixelCache::~PixelCache() {
  // A creator that leaves before all have come takes its meeting file along.
  if (meeting_fd_ >= 0) {
    const std::string path = meeting_path(options_.key);
    struct stat mine {
    }, there{};
    if (::fstat(meeting_fd_, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
        mine.st_dev == there.st_dev) {
      ::unlink(path.c_str());
    }
    ::close(meeting_fd_);
  }
  if (base_ != nullptr) ::munmap(base_, static_cast<size_t>(mapped_));
  if (memory_fd_ >= 0) ::close(memory_fd_);
}

int64_t PixelCache::affordable() const {
  int64_t limit = options_.limit > 0 ? options_.limit : available_memory() / 2;
  if (options_.key.empty()) limit /= options_.local_ranks;
  const int64_t each = options_.sample_bytes + 9;  // pixels, label, state
  return std::clamp<int64_t>((limit - kHeaderBytes - 128) / each, 0, options_.samples);
}

void PixelCache::map(int fd, int64_t bytes) {
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED | MAP_NORESERVE;
  void* memory = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, flags, fd, 0);
  if (memory == MAP_FAILED) fail_sharing("map " + human_bytes(static_cast<double>(bytes)));
  base_ = static_cast<uint8_t*>(memory);
  mapped_ = bytes;
}

void PixelCache::lay_out(int64_t capacity) {
  capacity_ = capacity;
  states_ = base_ + kHeaderBytes;
  labels_ = reinterpret_cast<int64_t*>(states_ + rounded_up(capacity));
  pixels_ = reinterpret_cast<uint8_t*>(labels_) + rounded_up(8 * capacity);
}

void PixelCache::create_private() {
  const int64_t capacity = affordable();
  map(-1, segment_bytes(capacity, options_.sample_bytes));
  lay_out(capacity);
}

void PixelCache::share() {
  const std::string path = meeting_path(options_.key);
  const int fd = open_meeting(path);
  try {
    if (creator_lives(fd)) {
      join(fd, path);
    } else {
      create_shared(fd, path);
    }
    attach(path);
  } catch (...) {
    if (meeting_fd_ != fd) ::close(fd);
    throw;
  }
  if (meeting_fd_ != fd) {
    ::close(fd);  // releases byte 0
    return;
  }
  struct flock unlock = byte_lock(F_UNLCK, 0);
  ::fcntl(fd, F_OFD_SETLK, &unlock);
}

void PixelCache::create_shared(int fd, const std::string& path) {
  const int64_t capacity = affordable(), bytes = segment_bytes(capacity, options_.sample_bytes);
  memory_fd_ = ::memfd_create("plsc-cache", MFD_CLOEXEC);
  if (memory_fd_ < 0 || ::ftruncate(memory_fd_, bytes) != 0) {
    fail_sharing("make " + human_bytes(static_cast<double>(bytes)) + " of shared memory");
  }
  map(memory_fd_, bytes);
  lay_out(capacity);
  *reinterpret_cast<Header*>(base_) = {static_cast<uint64_t>(options_.samples),
                                       static_cast<uint64_t>(options_.sample_bytes), capacity, 0};
  const std::string text = fmt::format("{} {}\n", ::getpid(), memory_fd_);
  struct flock lock = byte_lock(F_WRLCK, 1);
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    fail_sharing("write " + path);
  }
  meeting_fd_ = fd;  // kept open: its lock says that this process lives
}

void PixelCache::join(int fd, const std::string& path) {
  std::array<char, 64> text{};
  int pid = 0, memory = 0;
  if (::pread(fd, text.data(), text.size() - 1, 0) <= 0 || std::sscanf(text.data(), "%d %d", &pid, &memory) != 2) {
    errno = EINVAL;
    fail_sharing("read " + path);
  }
  const std::string segment = fmt::format("/proc/{}/fd/{}", pid, memory);
  memory_fd_ = ::open(segment.c_str(), O_RDWR | O_CLOEXEC);
  if (memory_fd_ < 0) fail_sharing("open the shared memory of process " + std::to_string(pid));
  struct stat info {};
  Header header{};
  if (::fstat(memory_fd_, &info) != 0 || info.st_size < kHeaderBytes ||
      ::pread(memory_fd_, &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) ||
      header.samples != static_cast<uint64_t>(options_.samples) ||
      header.sample_bytes != static_cast<uint64_t>(options_.sample_bytes) || header.capacity < 0 ||
      header.capacity > options_.samples || info.st_size != segment_bytes(header.capacity, options_.sample_bytes)) {
    fail("data.cache: decoded: the shared memory of process {} holds other data than this rank's {} images of {} bytes",
         pid, options_.samples, options_.sample_bytes);
  }
  map(memory_fd_, info.st_size);
  lay_out(header.capacity);
}

void PixelCache::attach(const std::string& path) {
  const std::atomic_ref<uint32_t> attached(reinterpret_cast<Header*>(base_)->attached);
  if (attached.fetch_add(1) + 1 >= static_cast<uint32_t>(options_.local_ranks)) ::unlink(path.c_str());
}

bool PixelCache::get(int64_t index, std::span<uint8_t> pixels, int64_t& label) const {
  if (index >= capacity_) return false;
  if (std::atomic_ref<uint8_t>(states_[index]).load(std::memory_order_acquire) != kReady) return false;
  std::memcpy(pixels.data(), pixels_ + index * options_.sample_bytes, pixels.size());
  label = labels_[index];
  return true;
}

void PixelCache::put(int64_t index, std::span<const uint8_t> pixels, int64_t label) {
  if (index >= capacity_) return;
  // Between epochs two ranks may hold the same sample at once: the first to claim it writes.
  uint8_t empty = 0;
  const std::atomic_ref<uint8_t> state(states_[index]);
  if (!state.compare_exchange_strong(empty, 2, std::memory_order_acquire)) return;
  std::memcpy(pixels_ + index * options_.sample_bytes, pixels.data(), pixels.size());
  labels_[index] = label;
  state.store(kReady, std::memory_order_release);
}

std::string PixelCache::description() const {
  std::string text = fmt::format("cache: {} for {} of {} decoded images", human_bytes(static_cast<double>(mapped_)),
                                 capacity_, options_.samples);
  if (options_.local_ranks > 1 && !options_.key.empty())
    text += fmt::format(", shared by {} ranks", options_.local_ranks);
  if (capacity_ < options_.samples) {
    text += options_.limit > 0 ? "; the rest exceeds data.cache_limit" : "; the rest exceeds half of the free memory";
    text += " and is decoded every time";
  }
  return text;
}

}  // namespace plsc
