// Files: reading whole, writing atomically, locking. Every error names the path and the system's reason.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plsc {

/// An open file descriptor, closed by the destructor. Reads and writes are complete or throw Error naming the path.
class File {
 public:
  static File open_read(const std::string& path);
  static File create(const std::string& path);  // truncates what was there
  static File append(const std::string& path);  // creates it where it is not there
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  int64_t size() const;
  /// As many bytes at `offset` as there are, at most `out.size()`: less only at the end of the file.
  size_t read_some(int64_t offset, std::span<std::byte> out) const;
  /// Exactly `out.size()` bytes at `offset`; a shorter file is an Error that says how many there were.
  void read_at(int64_t offset, std::span<std::byte> out) const;
  void write(std::span<const std::byte> data);
  /// As much of `data` as the system takes now; less where the disk is full, and then errno says so.
  size_t write_some(std::span<const std::byte> data);
  void sync();
  /// Closes and reports what close(2) reports (a full disk may show only here).
  void close();
  const std::string& path() const { return path_; }

 private:
  File(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;
};

std::string read_text(const std::string& path);
std::vector<uint8_t> read_bytes(const std::string& path);

/// A file that is written beside its name and takes it when it is whole: a reader sees the old file or the new one,
/// after a crash too. Without `publish` nothing stays.
class AtomicFile {
 public:
  /// Begins `path`.tmp.<pid>. Error where `path` is there and no plain file.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Gathered into writes of a MiB.
  void write(std::span<const std::byte> data);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Writes what is gathered, fsyncs, renames, fsyncs the folder. Nothing may be written after it.
  void publish();
  const std::string& path() const { return path_; }

 private:
  void flush();
  std::string path_, temporary_;
  File file_;
  std::vector<std::byte> buffer_;
  bool published_ = false;
};

void write_text_atomically(const std::string& path, std::string_view text);
/// fsync on a folder, so that names in it survive a crash.
void sync_folder(const std::string& path);

/// An exclusive advisory lock on a file, released by the destructor or the end of the process.
class FileLock {
 public:
  /// Throws Error naming the holder (host and process, as the file says) when another process has it.
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace plsc
