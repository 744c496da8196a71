// A .rec file as a source of samples: see record_source.h.
#include "data/record_source.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/threads.h"
#include "data/image_files.h"
#include "data/progress.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLabelsAtOnce = 1024;  // between two looks at what the other threads have found

/// The labels of samples [begin, end), read on several threads, each of which goes through a part of its own:
/// `use(part, i, label)`, or `use(part, i, error)` where there is none that can be read. False ends its part.
struct LabelWalk {
  const RecordFile& file;
  const RecordIndex& index;
  std::function<bool(int part, int64_t i, int64_t label)> use;
  std::function<void(int part, const Error& error)> unreadable;
  std::string what;  // for the progress line

  /// They wait for the disk: more of them than cores.
  static int threads() { return std::clamp(available_cores() * 2, 8, 32); }

  void run(int64_t begin, int64_t end, Log* log) const {
    Progress progress(log, what, end - begin);
    parallel_ranges(end - begin, threads(), [&](int64_t from, int64_t to, int part) {
      RecordWindow window;
      for (int64_t i = begin + from; i < begin + to; ++i) {
        if ((i - begin - from) % kLabelsAtOnce == kLabelsAtOnce - 1) progress.add(kLabelsAtOnce);
        const RecordPlace place = index.place(i);
        int64_t label = 0;
        try {
          const RecordPeek peek = file.peek(place, window);
          label = record_label(peek.header, peek.first_label, file.where(place));
        } catch (const Error& error) {
          if (unreadable) unreadable(part, error);
          continue;
        }
        if (!use(part, i, label)) return;
      }
    });
  }
};

/// 1 + the largest label, from the headers of all records. What cannot be read is passed over here, as in the scan of a
/// file without .idx: data.on_error decides when it is read.
int64_t count_classes(const RecordFile& file, const RecordIndex& index, Log* log) {
  std::vector<int64_t> most(static_cast<size_t>(LabelWalk::threads()), 0);
  std::vector<std::string> errors(most.size());
  LabelWalk{file, index,
            [&](int part, int64_t, int64_t label) {
              int64_t& classes = most[static_cast<size_t>(part)];
              classes = std::max(classes, label + 1);
              return true;
            },
            [&](int part, const Error& error) {
              std::string& first = errors[static_cast<size_t>(part)];
              if (first.empty()) first = error.what();
            },
            "reading the labels of " + file.path() + " (no `property` file says how many classes)"}
      .run(0, index.size(), log);
  const int64_t classes = *std::max_element(most.begin(), most.end());
  const auto error = std::find_if(errors.begin(), errors.end(), [](const std::string& e) { return !e.empty(); });
  if (classes == 0 && error != errors.end()) throw Error(*error);
  return classes;
}

/// One name a line, as plsc-data pack writes them; none where the file is absent or of another number of classes.
std::vector<std::string> read_class_names(const std::string& path, int64_t classes) {
  if (!fs::exists(path)) return {};
  const std::string text = read_text(path);
  std::vector<std::string> names;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (static_cast<int64_t>(names.size()) != classes) names.clear();
  return names;
}

class RecordSource final : public DataSource {
 public:
  RecordSource(const std::string& path, Log* log) : file_(path), index_(RecordIndex::open(file_, log)) {
    classes_ = std::max({property_classes(path), index_.identities(), index_.classes_seen()});
    if (classes_ <= 0) classes_ = count_classes(file_, index_, log);
    names_ = read_class_names(sibling_path(path, ".classes"), classes_);
  }

  int64_t size() const override { return index_.size(); }
  int64_t classes() const override { return classes_; }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::string name(int64_t index) const override { return fmt::format("{}", index_.place(index).key); }
  std::string description() const override {
    return fmt::format("{}: {} images of {} classes", file_.path(), size(), classes_);
  }

  int64_t label(int64_t index) const override {
    const RecordPlace place = index_.place(index);
    const RecordPeek peek = file_.peek(place);
    return checked(record_label(peek.header, peek.first_label, file_.where(place)), place);
  }

  int64_t first_label_beyond(int64_t classes, int64_t begin, int64_t end, Log* log) const override {
    if (classes >= classes_) return -1;
    std::vector<int64_t> found(static_cast<size_t>(LabelWalk::threads()), -1);
    std::atomic<int64_t> lowest{end};  // what lies behind it need not be read
    LabelWalk{file_,
              index_,
              [&](int part, int64_t i, int64_t label) {
                if (label < classes) return i < lowest;
                found[static_cast<size_t>(part)] = i;
                for (int64_t now = lowest; i < now && !lowest.compare_exchange_weak(now, i);) {
                }
                return false;
              },
              {},
              fmt::format("reading the labels of {} (head.classes: {}, fewer than the {} of the data)", file_.path(),
                          classes, classes_)}
        .run(begin, end, log);
    const auto first = std::find_if(found.begin(), found.end(), [](int64_t i) { return i >= 0; });
    return first == found.end() ? -1 : *first;
  }

  RawSample read(int64_t index) const override {
    const RecordPlace place = index_.place(index);
    RawSample sample;
    sample.where = file_.where(place);
    std::vector<uint8_t> payload = file_.read(place, index_.extent(index));
    const ParsedRecord record = file_.parse(payload, place);
    if (record.image.empty()) fail("{}: the record holds no image", sample.where);
    sample.label = checked(record_label(record.header, record.labels[0], sample.where), place);
    payload.erase(payload.begin(), payload.end() - static_cast<int64_t>(record.image.size()));
    sample.encoded = std::move(payload);
    return sample;
  }

 private:
  int64_t checked(int64_t label, RecordPlace place) const {
    if (label < classes_) return label;
    fail_hint("correct the .property file beside it (or `property`), or remove it: the classes are then counted",
              "{}: the label {} is out of range: the data has {} classes, 0 to {}", file_.where(place), label, classes_,
              classes_ - 1);
  }

  RecordFile file_;
  RecordIndex index_;
  int64_t classes_ = 0;
  std::vector<std::string> names_;
};

}  // namespace

int64_t property_classes(const std::string& rec_path) {
  std::string path = sibling_path(rec_path, ".property");
  if (!fs::exists(path)) path = (fs::path(rec_path).parent_path() / "property").string();
  if (!fs::exists(path)) return 0;
  const std::string text = read_text(path);
  int64_t classes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), classes);
  if (error != std::errc() || classes < 1 || classes >= kMaxClasses ||
      (end != text.data() + text.size() && *end != ',' && *end != '\n' && *end != '\r')) {
    fail_hint("remove the file: the classes are then counted", "{}: found '{}', expected `classes,height,width`", path,
              text.substr(0, text.find('\n')));
  }
  return classes;
}

std::unique_ptr<DataSource> open_record_source(const std::string& path, Log* log) {
  return std::make_unique<RecordSource>(path, log);
}

}  // namespace plsc
