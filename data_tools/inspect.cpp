// plsc-data inspect: what a data set holds, and what in it is damaged.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/threads.h"
#include "commands.h"
#include "data/encode.h"
#include "data/loader.h"
#include "data/progress.h"
#include "data/record_index.h"
#include "data/source.h"
#include "data/verification_bin.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

struct InspectCommand {
  std::string input, sheet;
  bool verify = false;
  int64_t first = 5;
};

constexpr int64_t kSampled = 1000;  // images whose sizes are looked at without --verify
constexpr size_t kNamed = 50;       // damaged samples that are named

/// What is found while looking at images, from several threads.
class Findings {
 public:
  void image(const std::string& format, int64_t height, int64_t width, size_t bytes) {
    const std::lock_guard lock(mutex_);
    ++kinds_[fmt::format("{} {} x {}", format, height, width)];
    bytes_ += bytes;
    ++images_;
  }
  /// Each sample is named once, however often it is looked at; index -1: a place that is no sample.
  void damage(int64_t index, const std::string& message) {
    const std::lock_guard lock(mutex_);
    if (index < 0 || samples_.insert(index).second) damage_.push_back(message);
  }

  void print(int64_t total, Log& log) const {
    if (images_ > 0) {
      log.info(
          "sizes (height x width) of {} images, {} on average:", images_ == total ? "all" : std::to_string(images_),
          human_bytes(static_cast<double>(bytes_) / static_cast<double>(images_)));
      std::vector<std::pair<int64_t, std::string>> kinds;
      for (const auto& [kind, count] : kinds_) kinds.emplace_back(-count, kind);
      std::sort(kinds.begin(), kinds.end());
      for (size_t i = 0; i < std::min<size_t>(kinds.size(), 10); ++i) {
        log.info("  {:>10}  {}", -kinds[i].first, kinds[i].second);
      }
      if (kinds.size() > 10) log.info("  and {} other sizes", kinds.size() - 10);
    }
    for (size_t i = 0; i < std::min(damage_.size(), kNamed); ++i) log.error("{}", damage_[i]);
    if (damage_.size() > kNamed) log.error("and {} more", damage_.size() - kNamed);
  }

  size_t damaged() const { return damage_.size(); }

 private:
  std::mutex mutex_;
  std::map<std::string, int64_t> kinds_;
  std::vector<std::string> damage_;
  std::set<int64_t> samples_;
  uint64_t bytes_ = 0;
  int64_t images_ = 0;
};

/// Thrown out of decoding once the size is known.
struct SizeKnown {
  int64_t height, width;
};

void look_at(const DataSource& source, int64_t index, bool decode, Findings& findings) {
  try {
    const RawSample sample = source.read(index);
    const std::string format = image_format(sample.encoded);
    try {
      const SizeCheck stop = [&](int64_t h, int64_t w) {
        if (!decode) throw SizeKnown{h, w};
      };
      const Pixels pixels = decode_pixels(sample.encoded, 3, sample.where, stop);
      findings.image(format, pixels.height, pixels.width, sample.encoded.size());
    } catch (const SizeKnown& size) {
      findings.image(format, size.height, size.width, sample.encoded.size());
    }
  } catch (const Error& error) {
    findings.damage(index, error.what());
  }
}

/// Every image with --verify, a thousand spread over the set without.
void look_at_images(const DataSource& source, const InspectCommand& o, Findings& findings, Log& log) {
  const int64_t n = o.verify ? source.size() : std::min(source.size(), kSampled);
  Progress progress(&log, o.verify ? "decoding" : "looking at images", n);
  parallel_ranges(n, available_cores(), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      look_at(source, o.verify ? i : i * source.size() / n, o.verify, findings);
      progress.add();
    }
  });
}

void print_classes(const DataSource& source, Findings& findings, Log& log) {
  if (source.classes() < 1) return log.info("no labels");
  std::vector<std::atomic<int64_t>> count(static_cast<size_t>(source.classes()));
  Progress progress(&log, "reading labels", source.size());
  parallel_ranges(source.size(), available_cores(), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      try {
        ++count[static_cast<size_t>(source.label(i))];
      } catch (const Error& error) {
        findings.damage(i, error.what());
      }
      progress.add();
    }
  });
  std::vector<int64_t> sorted(count.begin(), count.end());
  std::sort(sorted.begin(), sorted.end());
  const auto empty = std::count(sorted.begin(), sorted.end(), 0);
  log.info("{} classes; images a class: {} to {}, median {}", source.classes(), sorted.front(), sorted.back(),
           sorted[sorted.size() / 2]);
  if (empty > 0) log.warn("{} classes have no image", empty);
}

void print_first(const DataSource& source, int64_t count, Log& log) {
  for (int64_t i = 0; i < std::min(count, source.size()); ++i) {
    try {
      const RawSample sample = source.read(i);
      log.info("  {}: label {}, {} of {} bytes", sample.where, sample.label, image_format(sample.encoded),
               sample.encoded.size());
    } catch (const Error& error) {
      log.info("  {}", error.what());
    }
  }
}

/// Only what can be read: a sheet of a damaged set is wanted most.
void write_sheet(const DataSource& source, const std::string& path, Log& log) {
  std::vector<Pixels> tiles;
  for (int64_t i = 0; i < source.size() && tiles.size() < 100; ++i) {
    try {
      const RawSample sample = source.read(i);
      tiles.push_back(decode_pixels(sample.encoded, 3, sample.where));
    } catch (const Error&) {
      continue;
    }
  }
  if (tiles.empty()) fail("{}: no image can be read, so there is no sheet", source.description());
  const int64_t size = std::clamp<int64_t>(std::max(tiles[0].height, tiles[0].width), 32, 160);
  write_file_bytes(path, encode_png(contact_sheet(tiles, 10, size)));
  log.info("{}: the first {} images", path, tiles.size());
}

/// A .rec that cannot be opened: its frames one after another, whatever its .idx says. Names each damaged place and
/// goes on after it.
void scan_frames(const std::string& path, const std::string& why, Findings& findings, Log& log) {
  const RecordFile file(path);
  std::vector<std::string> damage;
  const RecordIndex index = RecordIndex::open(file, &log, &damage, true);
  log.info("{}: {} of records, of which {} images can be read", path, human_bytes(static_cast<double>(file.size())),
           index.size());
  for (const std::string& message : damage) findings.damage(-1, message);
  if (damage.empty() || damage[0] != why) findings.damage(-1, why);
  findings.print(0, log);
}

void inspect_source(const InspectCommand& o, Findings& findings, Log& log) {
  std::unique_ptr<DataSource> source;
  try {
    source = open_source(std::vector<std::string>{o.input}, &log);
  } catch (const Error& error) {
    if (fs::path(o.input).extension() != ".rec" || !fs::is_regular_file(o.input)) throw;
    return scan_frames(o.input, error.what(), findings, log);
  }
  log.info("{}", source->description());
  print_classes(*source, findings, log);
  print_first(*source, o.first, log);
  look_at_images(*source, o, findings, log);
  findings.print(source->size(), log);
  if (!o.sheet.empty()) write_sheet(*source, o.sheet, log);
}

void inspect_bin(const InspectCommand& o, Findings& findings, Log& log) {
  VerificationBin bin = load_verification_bin(o.input);
  const auto same = std::count(bin.same.begin(), bin.same.end(), 1);
  log.info("{}: {} pairs, {} of the same class", o.input, bin.same.size(), same);
  const auto source = make_memory_source(std::move(bin.images), {}, o.input);
  look_at_images(*source, o, findings, log);
  findings.print(source->size(), log);
  if (!o.sheet.empty()) write_sheet(*source, o.sheet, log);
}

void inspect(InspectCommand o, Log& log) {
  const fs::path path = o.input;
  if (path.extension() == ".idx") o.input = sibling_path(o.input, ".rec");
  if (path.filename() == "property" && fs::exists(path.parent_path() / "train.rec")) {
    o.input = (path.parent_path() / "train.rec").string();
  }
  Findings findings;
  if (path.extension() == ".bin") {
    inspect_bin(o, findings, log);
  } else {
    inspect_source(o, findings, log);
  }
  if (findings.damaged() > 0) fail("{}: {} damaged places", o.input, findings.damaged());
  log.info("{}",
           o.verify ? "every image was decoded: whole" : "nothing damaged was seen (--verify decodes every image)");
}

}  // namespace

void add_inspect_command(CLI::App& app, Log& log) {
  auto* command = app.add_subcommand("inspect", "say what a data set holds, and name what is damaged in it");
  auto o = std::make_shared<InspectCommand>();
  command->add_option("-i,--input", o->input, ".rec, verification .bin, image folder or list file")->required();
  command->add_flag("--verify", o->verify, "decode every image");
  command->add_option("--sheet", o->sheet, "write a PNG of the first hundred images");
  command->add_option("--first", o->first, "list so many of the first images")->capture_default_str();
  command->footer(
      "The exit status is 1 where anything is damaged.\n"
      "Example: plsc-data inspect --input data/train.rec --verify --sheet sheet.png");
  command->callback([o, &log] { inspect(*o, log); });
}

}  // namespace plsc
