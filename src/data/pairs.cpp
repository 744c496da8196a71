// Reading and writing lists of verification pairs.
#include "data/pairs.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

struct Line {
  int64_t number = 0;
  std::vector<std::string_view> fields;
};

/// By tabs where the line has any (names may hold blanks), else by blanks.
std::vector<std::string_view> split(std::string_view line) {
  const std::string_view separators = line.find('\t') != std::string_view::npos ? "\t" : " ";
  std::vector<std::string_view> fields;
  size_t begin = 0;
  while (begin < line.size()) {
    const size_t end = std::min(line.find_first_of(separators, begin), line.size());
    if (end > begin) fields.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return fields;
}

std::vector<Line> read_lines(std::string_view text) {
  std::vector<Line> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    if (auto fields = split(line); !fields.empty()) lines.push_back({number, std::move(fields)});
  }
  return lines;
}

std::optional<int64_t> whole_number(std::string_view s) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error != std::errc() || end != s.data() + s.size()) return {};
  return value;
}

/// LFW's lines end in numbers that count images; ours have a path before the last field.
bool is_lfw(const std::vector<Line>& lines) {
  for (const Line& line : lines) {
    if (line.fields.size() == 4) return true;
    if (line.fields.size() != 3 || !whole_number(line.fields[1]) || !whole_number(line.fields[2])) {
      return &line == lines.data() && line.fields.size() <= 2 && whole_number(line.fields[0]).has_value();
    }
  }
  return !lines.empty();
}

/// Collects pairs, giving each path one index, and checks that its file is there.
class Collector {
 public:
  Collector(const std::string& file, const std::string& folder) : file_(file), folder_(folder) {}

  void add(const Line& line, const std::string& a, const std::string& b, bool same) {
    const int64_t first = index(line, a), second = index(line, b);
    list.pairs.push_back({first, second, same});
  }

  /// name/name_0001 with the extension that is there.
  std::string lfw_path(const Line& line, std::string_view name, std::string_view count) const {
    const auto n = whole_number(count);
    if (!n || *n < 0) bad(line);
    static constexpr std::array<const char*, 6> kExtensions{".jpg", ".png", ".jpeg", ".bmp", ".JPG", ".PNG"};
    const std::string stem = fmt::format("{}/{}_{:04d}", name, name, *n);
    for (const char* extension : kExtensions) {
      if (fs::exists(fs::path(folder_) / (stem + extension))) return stem + extension;
    }
    fail("{}:{}: there is no image {}.jpg (or .png, ...) in {}", file_, line.number, stem, folder_);
  }

  [[noreturn]] void bad(const Line& line) const {
    std::string text;
    for (const std::string_view field : line.fields) text += (text.empty() ? "" : " ") + std::string(field);
    fail("{}:{}: found '{}', expected `path path 0|1`, or LFW's `name n n` or `name n name n`", file_, line.number,
         text.substr(0, 200));
  }

  PairList list;

 private:
  int64_t index(const Line& line, const std::string& name) {
    const auto [at, fresh] = known_.try_emplace(name, static_cast<int64_t>(list.paths.size()));
    if (fresh) {
      const fs::path path = fs::path(folder_) / name;
      if (!fs::is_regular_file(path)) fail("{}:{}: there is no image {}", file_, line.number, path.string());
      list.paths.push_back(path.string());
    }
    return at->second;
  }

  const std::string& file_;
  const std::string& folder_;
  std::unordered_map<std::string, int64_t> known_;
};

void read_lfw(Collector& collector, const std::vector<Line>& lines) {
  for (const Line& line : lines) {
    const auto& f = line.fields;
    if (&line == lines.data() && f.size() <= 2 && whole_number(f[0])) continue;  // folds, pairs of a fold
    if (f.size() == 3) {
      collector.add(line, collector.lfw_path(line, f[0], f[1]), collector.lfw_path(line, f[0], f[2]), true);
    } else if (f.size() == 4) {
      collector.add(line, collector.lfw_path(line, f[0], f[1]), collector.lfw_path(line, f[2], f[3]), false);
    } else {
      collector.bad(line);
    }
  }
}

void read_ours(Collector& collector, const std::vector<Line>& lines) {
  for (const Line& line : lines) {
    const auto& f = line.fields;
    if (f.size() != 3 || (f[2] != "0" && f[2] != "1")) collector.bad(line);
    collector.add(line, std::string(f[0]), std::string(f[1]), f[2] == "1");
  }
}

}  // namespace

PairList load_pairs(const std::string& file, const std::string& folder) {
  if (!fs::is_directory(folder)) fail("{}: no such folder, expected the images of {}", folder, file);
  const std::string text = read_text(file);
  const std::vector<Line> lines = read_lines(text);
  Collector collector(file, folder);
  if (is_lfw(lines)) {
    read_lfw(collector, lines);
  } else {
    read_ours(collector, lines);
  }
  if (collector.list.pairs.empty()) fail("{}: holds no pair, expected `path path 0|1` a line", file);
  return std::move(collector.list);
}

void save_pairs(const std::string& file, const std::vector<std::string>& names,
                const std::vector<PairList::Pair>& pairs, const std::string& comment) {
  std::string text = "# " + comment + "\n# path <tab> path <tab> 1: same class, 0: not\n";
  for (const PairList::Pair& p : pairs) {
    const auto &a = names.at(static_cast<size_t>(p.a)), &b = names.at(static_cast<size_t>(p.b));
    if ((a + b).find_first_of("\t\n") != std::string::npos) fail("{}: a path with a tab in it: {} or {}", file, a, b);
    text += fmt::format("{}\t{}\t{}\n", a, b, p.same ? 1 : 0);
  }
  write_text_atomically(file, text);
}

}  // namespace plsc
