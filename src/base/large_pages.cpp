// mmap, with advice that a system is free to ignore: madvise(MADV_HUGEPAGE), mbind(MPOL_INTERLEAVE).
#include "base/large_pages.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"

namespace plsc {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr const char* kNodes = "/sys/devices/system/node";

size_t whole_pages(size_t bytes) { return (std::max<size_t>(bytes, 1) + kLargePage - 1) / kLargePage * kLargePage; }

/// Whether a list such as "0-3,8" has one of the cores.
bool has_one_of(const std::string& list, const std::vector<int>& cores) {
  std::istringstream in(list);
  for (std::string range; std::getline(in, range, ',');) {
    int first = 0, last = 0;
    char dash = 0;
    std::istringstream text(range);
    if (!(text >> first)) continue;
    if (!(text >> dash >> last)) last = first;
    if (std::ranges::any_of(cores, [&](int core) { return core >= first && core <= last; })) return true;
  }
  return false;
}

/// Pages of [data, data + bytes) that are made from now on come from these nodes in turn. Without privileges for it, or
/// with one node, nothing changes.
void interleave(void* data, size_t bytes, const std::vector<int>& nodes) {
  constexpr int kMostNodes = 1024, kBits = 8 * sizeof(unsigned long);  // of the kernel's masks
  constexpr int kInterleave = 3;                                       // MPOL_INTERLEAVE of linux/mempolicy.h
  if (nodes.size() < 2 || nodes.back() >= kMostNodes) return;
  std::array<unsigned long, kMostNodes / kBits> mask{};
  for (const int node : nodes) mask[static_cast<size_t>(node / kBits)] |= 1UL << (node % kBits);
  syscall(SYS_mbind, data, bytes, kInterleave, mask.data(), static_cast<unsigned long>(kMostNodes), 0U);
}

/// Makes the pages of [begin, begin + bytes).
void populate(std::byte* begin, size_t bytes) {
  if (bytes == 0 || ::madvise(begin, bytes, MADV_POPULATE_WRITE) == 0) return;
  if (errno == ENOMEM || errno == EHWPOISON)
    fail("{} more of host memory are not to be had: {}", human_bytes(static_cast<double>(bytes)), strerror(errno));
  constexpr size_t kSmallPage = 4096;  // a kernel before 5.14
  for (size_t at = 0; at < bytes; at += kSmallPage) *static_cast<volatile std::byte*>(begin + at) = std::byte{0};
}

}  // namespace

std::vector<int> nodes_of_cores(const std::vector<int>& cores, const std::string& root) {
  namespace fs = std::filesystem;
  std::vector<int> nodes;
  std::error_code none;
  for (fs::directory_iterator it(root, none), end; !none && it != end; it.increment(none)) {
    const std::string name = it->path().filename().string();
    if (name.size() < 5 || name.rfind("node", 0) != 0 || name.find_first_not_of("0123456789", 4) != std::string::npos)
      continue;
    std::ifstream file(it->path() / "cpulist");
    std::string list;
    if (std::getline(file, list) && has_one_of(list, cores)) nodes.push_back(std::stoi(name.substr(4)));
  }
  std::ranges::sort(nodes);
  return nodes;
}

void* map_large(size_t bytes, const std::string& what) {
  const size_t size = whole_pages(bytes);
  const int64_t left = available_memory();
  if (static_cast<int64_t>(size) > left) {
    fail_hint("use bf16 (head.store.dtype, head.store.momentum), more ranks on more hosts, or fewer classes",
              "{} need {} of host memory, of which {} are left here", what, human_bytes(static_cast<double>(bytes)),
              human_bytes(static_cast<double>(left)));
  }
  // One large page more, so that the first one can begin on its own boundary.
  void* mapped =
      ::mmap(nullptr, size + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    fail("{}: cannot map {} of host memory: {}", what, human_bytes(static_cast<double>(bytes)), strerror(errno));
  }
  auto* first = static_cast<std::byte*>(mapped);
  const size_t in_front = (kLargePage - reinterpret_cast<uintptr_t>(first) % kLargePage) % kLargePage;
  auto* data = first + in_front;
  if (in_front > 0) ::munmap(first, in_front);
  if (in_front < kLargePage) ::munmap(data + size, kLargePage - in_front);
  ::madvise(data, size, MADV_HUGEPAGE);
  try {
    interleave(data, size, nodes_of_cores(affinity_cores(), kNodes));
    parallel_ranges(static_cast<int64_t>(size / kLargePage), available_cores(), [&](int64_t begin, int64_t end, int) {
      populate(data + static_cast<size_t>(begin) * kLargePage, static_cast<size_t>(end - begin) * kLargePage);
    });
  } catch (...) {
    ::munmap(data, size);
    throw;
  }
  return data;
}

void unmap_large(void* data, size_t bytes) noexcept { ::munmap(data, whole_pages(bytes)); }

}  // namespace plsc
