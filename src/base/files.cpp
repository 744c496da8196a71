// POSIX files behind base/files.h: complete reads and writes, atomic replacement, advisory locks.
#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/host.h"

namespace plsc {
namespace {

// Linux transfers at most 0x7ffff000 bytes a call; a round smaller number keeps the loops plain.
constexpr size_t kMaxTransfer = size_t{1} << 30;

[[noreturn]] void fail_system(const char* verb, const std::string& path, int code) {
  const std::string message = fmt::format("cannot {} {}: {}", verb, path, std::strerror(code));
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      throw Error(message, "free some space, or choose another place for `output`");
    case ENOENT:
      throw Error(message, "check the path; relative paths start at the working folder");
    case EBUSY:
      throw Error(message,
                  "something is mounted on it: mount its folder in place of the file, or choose another place for "
                  "`output`");
    case EROFS:
      throw Error(message, "the file system is read-only: choose another place for `output`");
    case EACCES:
    case EPERM:
      throw Error(message, "check the permissions of the file and of its folder");
    case EMFILE:
      throw Error(message, "raise the limit of open files (ulimit -n)");
    default:
      throw Error(message);
  }
}

int open_or_fail(const char* verb, const std::string& path, int flags) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd >= 0) return fd;
    if (errno != EINTR) fail_system(verb, path, errno);
  }
}

void sync_or_fail(int fd, const std::string& path) {
  // Some file systems have no fsync for folders (EINVAL): nothing to wait for there.
  if (::fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) fail_system("flush to disk", path, errno);
}

/// Both kinds of lock belong to the open file, not to the process; the second serves file systems without flock.
int try_lock(int fd) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
  if (errno != ENOLCK && errno != ENOTSUP && errno != ENOSYS) return errno;
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &whole) == 0 ? 0 : errno;
}

std::string holder_text(int fd) {
  std::array<char, 256> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  std::string holder(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  holder.erase(holder.find_last_not_of(" \n") + 1);
  return holder.empty() ? "another process" : holder;
}

std::string own_text() { return fmt::format("process {} on host {}\n", ::getpid(), this_host()); }

}  // namespace

File File::open_read(const std::string& path) {
  File file(path, open_or_fail("open", path, O_RDONLY));
  struct stat info {};
  if (::fstat(file.fd_, &info) != 0) fail_system("open", path, errno);
  if (S_ISDIR(info.st_mode)) fail("cannot read {}: it is a folder, expected a file", path);
  return file;
}

File File::create(const std::string& path) {
  return File(path, open_or_fail("create", path, O_WRONLY | O_CREAT | O_TRUNC));
}

File File::append(const std::string& path) {
  return File(path, open_or_fail("open", path, O_WRONLY | O_CREAT | O_APPEND));
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File::File(File&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

int64_t File::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail_system("ask the size of", path_, errno);
  return info.st_size;
}

size_t File::read_some(int64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd_, out.data() + done, std::min(out.size() - done, kMaxTransfer),
                              static_cast<off_t>(offset + static_cast<int64_t>(done)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system("read", path_, errno);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void File::read_at(int64_t offset, std::span<std::byte> out) const {
  const size_t got = read_some(offset, out);
  if (got == out.size()) return;
  fail_hint("the file is cut short: copy or write it again",
            "{}: {} bytes wanted at offset {}, but only {} are there (the file has {})", path_, out.size(), offset, got,
            size());
}

void File::write(std::span<const std::byte> data) {
  if (write_some(data) < data.size()) fail_system("write", path_, errno);
}

size_t File::write_some(std::span<const std::byte> data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::write(fd_, data.data() + done, std::min(data.size() - done, kMaxTransfer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void File::sync() { sync_or_fail(fd_, path_); }

void File::close() {
  if (fd_ < 0) return;
  // Linux frees the descriptor whatever close returns, so it is never called twice.
  if (::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail_system("finish writing", path_, errno);
}

namespace {

/// The whole file into a container of bytes. Files of /proc and /sys report a size of 0, and a file may grow while it
/// is read: so the size is a first guess, and the end is where a read returns less than was asked for.
template <class Container>
Container read_whole(const std::string& path) {
  const File file = File::open_read(path);
  Container content;
  size_t done = 0;
  for (size_t room = static_cast<size_t>(file.size()) + 1;; room = done + 65536) {
    content.resize(room);
    done += file.read_some(static_cast<int64_t>(done), std::as_writable_bytes(std::span(content).subspan(done)));
    if (done < room) break;
  }
  content.resize(done);
  return content;
}

}  // namespace

std::string read_text(const std::string& path) { return read_whole<std::string>(path); }
std::vector<uint8_t> read_bytes(const std::string& path) { return read_whole<std::vector<uint8_t>>(path); }

namespace {

constexpr size_t kGathered = size_t{1} << 20;

/// A rename would put a plain file in the place of a device, and fail at a folder only when all is written.
const std::string& plain_or_new(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    fail("cannot write {}: it is {}, expected a file or nothing", path,
         S_ISDIR(info.st_mode) ? "a folder" : "a device");
  }
  return path;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path)
    : path_(plain_or_new(path)),
      temporary_(fmt::format("{}.tmp.{}", path, ::getpid())),
      file_(File::create(temporary_)) {}

AtomicFile::~AtomicFile() {
  if (!published_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> data) {
  if (buffer_.size() + data.size() > kGathered) flush();
  if (data.size() > kGathered) return file_.write(data);
  buffer_.insert(buffer_.end(), data.begin(), data.end());
}

void AtomicFile::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

void AtomicFile::publish() {
  PLSC_CHECK(!published_, "{}", path_);
  flush();
  file_.sync();
  file_.close();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_system("replace", path_, errno);
  published_ = true;
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  sync_folder(folder.empty() ? "." : folder);
}

void write_text_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.publish();
}

void sync_folder(const std::string& path) {
  const int fd = open_or_fail("open", path, O_RDONLY | O_DIRECTORY);
  try {
    sync_or_fail(fd, path);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
}

FileLock::FileLock(const std::string& path) : fd_(open_or_fail("open the lock", path, O_RDWR | O_CREAT)) {
  const int code = try_lock(fd_);
  if (code == 0) {
    const std::string text = own_text();
    // What the file says is for people alone; the lock holds whether or not it can be written (a full disk).
    const bool written =
        ::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
    static_cast<void>(written);
    return;
  }
  const std::string holder = holder_text(fd_);
  ::close(std::exchange(fd_, -1));
  if (code == EWOULDBLOCK || code == EAGAIN || code == EACCES) {
    fail_hint("wait for it or stop it, or choose another place", "{} is in use by {}", path, holder);
  }
  fail_system("lock", path, code);
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace plsc
