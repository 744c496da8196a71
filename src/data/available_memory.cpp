// How much memory is free, in the node and in the control group that a container is.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <optional>

#include "base/files.h"
#include "data/pixel_cache.h"

namespace plsc {
namespace {

std::optional<int64_t> leading_number(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  if (error != std::errc()) return {};
  return value;
}

/// Files of /proc and /sys have no size: read_text may find them empty, so read what comes.
std::string read_virtual(const std::string& path) {
  if (!std::filesystem::exists(path)) return {};
  const File file = File::open_read(path);
  std::string text(16384, '\0');
  text.resize(file.read_some(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::optional<int64_t> group_memory() {
  for (const auto& [limit, used] :
       {std::pair{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        std::pair{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const auto most = leading_number(read_virtual(limit)), now = leading_number(read_virtual(used));
    if (most && now) return std::max<int64_t>(0, *most - *now);
  }
  return {};
}

}  // namespace

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  const std::string info = read_virtual("/proc/meminfo");
  const std::string key = "MemAvailable:";
  if (const auto at = info.find(key); at != std::string::npos) {
    if (const auto kib = leading_number(std::string_view(info).substr(at + key.size()))) available = *kib * 1024;
  }
  if (const auto group = group_memory()) available = std::min(available, *group);
  return available;
}

}  // namespace plsc
