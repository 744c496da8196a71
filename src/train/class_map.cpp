#include "train/class_map.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace plsc {
namespace {

constexpr int64_t kNone = -1;
constexpr size_t kMostNamed = 3;  // in an error

/// From what a mapping calls a class to its number.
class Numbers {
 public:
  Numbers(const ClassList& list, bool by_name) : list_(list), by_name_(by_name) {
    if (!by_name) return;
    for (size_t id = 0; id < list.names.size(); ++id) ids_.emplace(list.names[id], static_cast<int64_t>(id));
  }
  int64_t find(std::string_view word) const {
    if (by_name_) {
      const auto found = ids_.find(word);
      return found == ids_.end() ? kNone : found->second;
    }
    int64_t id = kNone;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    return error == std::errc() && end == word.data() + word.size() && id >= 0 && id < list_.count ? id : kNone;
  }
  std::string word(int64_t id) const { return by_name_ ? list_.names[static_cast<size_t>(id)] : std::to_string(id); }
  /// Ids that stand for a class: behind the names there are unused places.
  int64_t used() const { return by_name_ ? static_cast<int64_t>(list_.names.size()) : list_.count; }

 private:
  const ClassList& list_;
  bool by_name_;
  std::unordered_map<std::string_view, int64_t> ids_;
};

/// What becomes of each stored class: a class of this run, or nothing.
class Plan {
 public:
  Plan(const Numbers& stored, const Numbers& now, int64_t stored_count, int64_t now_count)
      : stored_(stored),
        now_(now),
        from_(static_cast<size_t>(now_count), kNone),
        told_(static_cast<size_t>(stored_count), 0) {}

  void read(const ClassMapping& mapping) {
    std::istringstream text(mapping.text);
    for (std::string line; std::getline(text, line);) {
      ++line_;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty() || line[0] == '#') continue;
      read_line(line, fmt::format("{}:{}", mapping.file, line_));
    }
  }

  /// Classes that the mapping says nothing of keep their name, or their number.
  void keep_others() {
    for (int64_t id = 0; id < stored_.used(); ++id) {
      if (told_[static_cast<size_t>(id)] > 0) continue;
      const int64_t to = now_.find(stored_.word(id));
      if (to == kNone || from_[static_cast<size_t>(to)] != kNone) {
        lost_.push_back(id);  // not there, or another class was given its place
      } else {
        from_[static_cast<size_t>(to)] = id;
      }
    }
    // Places that neither side has a name for.
    const auto stored_count = static_cast<int64_t>(told_.size()), now_count = static_cast<int64_t>(from_.size());
    for (int64_t id = std::max(stored_.used(), now_.used()); id < std::min(stored_count, now_count); ++id)
      from_[static_cast<size_t>(id)] = id;
  }

  const std::vector<int64_t>& lost() const { return lost_; }
  /// The stored class that was given the place of `id`, which is lost although this run has it, and by which line.
  std::optional<std::pair<int64_t, int64_t>> displaced(int64_t id) const {
    const int64_t to = now_.find(stored_.word(id));
    if (to == kNone) return {};
    const int64_t from = from_[static_cast<size_t>(to)];
    return std::pair(from, told_[static_cast<size_t>(from)]);
  }
  std::vector<int64_t> take() { return std::move(from_); }

 private:
  void read_line(const std::string& line, const std::string& where) {
    const size_t tab = line.find('\t');
    if (tab == std::string::npos) {
      fail_hint("write OLD<TAB>NEW, or OLD<TAB>- for a class to leave out", "{}: found '{}', expected two columns",
                where, line);
    }
    const std::string old_word = line.substr(0, tab), new_word = line.substr(tab + 1);
    const int64_t from = stored_.find(old_word);
    if (from == kNone) {
      fail_hint("the first column names classes of the checkpoint (plsc-train inspect, classes.txt)",
                "{}: the checkpoint has no class '{}'", where, old_word);
    }
    int64_t& told = told_[static_cast<size_t>(from)];
    if (told > 0) fail_hint("leave one of the two", "{}: line {} is of class '{}', too", where, told, old_word);
    told = line_;
    if (new_word == "-") return;
    const int64_t to = now_.find(new_word);
    if (to == kNone) {
      fail_hint("the second column names classes of data.train, or is - for a class to leave out",
                "{}: data.train has no class '{}'", where, new_word);
    }
    int64_t& place = from_[static_cast<size_t>(to)];
    if (place != kNone) {
      fail_hint("a class takes one centre: leave the other one out (OLD<TAB>-)",
                "{}: class '{}' already goes on from '{}', by line {}", where, new_word, stored_.word(place),
                told_[static_cast<size_t>(place)]);
    }
    place = from;
  }

  const Numbers &stored_, &now_;
  std::vector<int64_t> from_;
  std::vector<int64_t> told_;  // the line that says what becomes of a stored class; 0: none
  std::vector<int64_t> lost_;
  int64_t line_ = 0;  // that is read, from 1
};

std::string some_names(const std::vector<int64_t>& ids, const Numbers& numbers) {
  std::string text;
  for (size_t i = 0; i < std::min(ids.size(), kMostNamed); ++i)
    text += fmt::format("{}'{}'", i > 0 ? ", " : "", numbers.word(ids[i]));
  return ids.size() > kMostNamed ? text + ", ..." : text;
}

}  // namespace

std::string ClassMap::text() const {
  return fmt::format("{} classes -> {}: {} new, {} left out, {} with another number (matched by {})", stored, classes,
                     added, left, moved, by_name ? "name" : "number");
}

ClassMap map_classes(const ClassList& stored, const ClassList& now, const ClassMapArgs& args) {
  const bool by_name = !stored.names.empty() && !now.names.empty();
  if (args.mapping.file.empty() && stored.count == now.count && (!by_name || stored.names == now.names)) {
    return ClassMap::identity(now.count);
  }
  const Numbers before(stored, by_name), today(now, by_name);
  Plan plan(before, today, stored.count, now.count);
  plan.read(args.mapping);
  plan.keep_others();
  if (args.leaving == Leaving::error) {
    for (const int64_t id : plan.lost()) {
      const auto other = plan.displaced(id);
      if (!other) continue;
      fail_hint("say what becomes of it: OLD<TAB>NEW, or OLD<TAB>-",
                "{}:{}: class '{}' is to go on from '{}', but {} has a '{}' of its own", args.mapping.file,
                other->second, before.word(id), before.word(other->first), args.where, before.word(id));
    }
  }
  if (args.leaving == Leaving::error && !plan.lost().empty()) {
    fail_hint(
        "if they are meant to go, name them in a file (OLD<TAB>-, or OLD<TAB>NEW where they have another name) and set "
        "head.class_map; if not, look at data.train",
        "{} holds the centres of {} class(es) that this run does not have: {}", args.where, plan.lost().size(),
        some_names(plan.lost(), before));
  }
  ClassMap map{stored.count, now.count, plan.take(), 0, 0, 0, by_name};
  int64_t taken = 0;
  for (int64_t id = 0; id < now.count; ++id) {
    const int64_t from = map.from[static_cast<size_t>(id)];
    taken += from != kNone && from < before.used();
    map.added += from == kNone;
    map.moved += from != kNone && from != id;
  }
  map.left = before.used() - taken;
  if (map.added == 0 && map.left == 0 && map.moved == 0 && stored.count == now.count) map.from.clear();
  return map;
}

}  // namespace plsc
