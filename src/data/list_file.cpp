// Reading a list file: "path label" or "path" a line.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/files.h"
#include "data/image_files.h"

namespace plsc {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view s) {
  const auto begin = s.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(kBlanks) - begin + 1);
}

struct Line {
  std::string_view path;
  std::optional<int64_t> label;
};

/// The last field is a label where it is a whole number and something stands before it.
Line parse_line(std::string_view line) {
  const auto cut = line.find_last_of(" \t");
  if (cut == std::string_view::npos) return {line, {}};
  const std::string_view field = line.substr(cut + 1);
  int64_t label = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), label);
  if (error == std::errc::result_out_of_range) label = kMaxClasses;
  if (error == std::errc::invalid_argument || end != field.data() + field.size()) return {line, {}};
  return {trimmed(line.substr(0, cut)), label};
}

}  // namespace

ImageFiles read_list_file(const std::string& path) {
  const std::string text = read_text(path);
  ImageFiles files;
  files.root = std::filesystem::path(path).parent_path().string();
  int64_t number = 0, labels = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trimmed(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    ++number;
    if (line.empty() || line.front() == '#') continue;
    const Line parsed = parse_line(line);
    if (line.find('\0') != std::string_view::npos || parsed.path.size() > 4096) {
      fail("{}:{}: this is not a list of images: expected `path label` or `path` a line", path, number);
    }
    if (parsed.label && (*parsed.label < 0 || *parsed.label >= kMaxClasses)) {
      fail("{}:{}: the label of {} is {}, expected 0 to {}", path, number, parsed.path,
           line.substr(line.find_last_of(" \t") + 1), kMaxClasses - 1);
    }
    if (parsed.label) ++labels;
    files.paths.push_back(parsed.path);
    if (labels != 0 && labels != files.paths.size()) {
      fail("{}:{}: '{}' {} a label, the lines before it {}: expected one on all lines or on none", path, number, line,
           parsed.label ? "has" : "lacks", parsed.label ? "lack it" : "have one");
    }
    if (parsed.label) files.labels.push_back(static_cast<int32_t>(*parsed.label));
  }
  if (files.paths.size() == 0) fail("{}: the list is empty, expected `path label` or `path` a line", path);
  files.description = fmt::format("list {}: {} images", path, files.paths.size());
  return files;
}

}  // namespace plsc
