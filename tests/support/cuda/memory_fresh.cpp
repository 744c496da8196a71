// Memory that nobody wrote yet: bytes of 0xFF. Large blocks take them from one file of such bytes, copied page by page
// when somebody writes, so that a large device costs only what is used of it.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "memory.h"

namespace plsc::standin {
namespace {

constexpr size_t kFile = size_t{16} << 20;
constexpr size_t kLarge = size_t{1} << 20;
constexpr size_t kPage = 4096;

/// The file, or a negative number where the system has no such files.
int make_file() {
  const int file = memfd_create("fresh device memory", MFD_CLOEXEC);
  if (file < 0) return file;
  const std::vector<std::byte> bytes(kLarge, std::byte{0xFF});
  for (size_t written = 0; written < kFile; written += kLarge) {
    if (write(file, bytes.data(), kLarge) == static_cast<ssize_t>(kLarge)) continue;
    close(file);
    return -1;
  }
  return file;
}

}  // namespace

void fill_fresh(std::byte* data, size_t bytes) {
  static const int file = make_file();
  size_t done = 0;
  if (bytes >= kLarge && file >= 0) {
    const size_t whole_pages = bytes / kPage * kPage;
    while (done < whole_pages) {
      const size_t part = std::min(kFile, whole_pages - done);
      const void* p = mmap(data + done, part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
      if (p == MAP_FAILED) break;
      done += part;
    }
  }
  std::memset(data + done, 0xFF, bytes - done);
}

}  // namespace plsc::standin
