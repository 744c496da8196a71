// The training data and the evaluation sets as this host sees them: opened, counted, some hundred images decoded.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "app/doctor/probes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "config/step_map.h"
#include "data/loader.h"
#include "data/source.h"
#include "eval/eval_set.h"

namespace plsc::doctor {
namespace {

namespace fs = std::filesystem;

constexpr double kAnswerSeconds = 10;  // whether paths are there, and a first byte of each
constexpr double kDecodeSeconds = 1.5;
constexpr int64_t kImages = 400;    // are decoded at most, from all over the data
constexpr int64_t kEvalImages = 8;  // of each evaluation set

struct Opened {
  int64_t samples = 0, classes = 0;
  double bytes = 0;  // of files; folders are not counted
  double rate = 0;   // images a second of one core, read and decoded
  std::string description;
  std::string damaged;  // the first image that cannot be read
  std::string beyond;   // a label that head.classes does not hold
  std::vector<std::string> class_names;
};

/// Of the files among them.
double bytes_of(const std::vector<std::string>& paths) {
  double bytes = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    if (fs::is_regular_file(path, error)) bytes += static_cast<double>(fs::file_size(path, error));
  }
  return bytes;
}

/// Decodes images from all over the source; returns the rate, or names the first that cannot be read.
double decode_some(const DataSource& source, const DataConfig& data, int64_t most, std::string& damaged) {
  std::vector<uint8_t> pixels(static_cast<size_t>(data.image_size[0] * data.image_size[1] * data.channels));
  const int64_t count = std::min(most, source.size());
  int64_t done = 0;
  const Stopwatch watch;
  for (; done < count && watch.seconds() < kDecodeSeconds; ++done) {
    try {
      decode_image(source.read(done * source.size() / count), data, pixels);
    } catch (const std::exception& error) {
      if (damaged.empty()) damaged = error.what();
    }
  }
  return static_cast<double>(done) / std::max(watch.seconds(), 1e-9);
}

Opened open_training(const Config& config) {
  Opened opened;
  const auto source = open_source(config.data, config.seed);
  opened.samples = source->size();
  opened.classes = source->classes();
  opened.bytes = bytes_of(config.data.train);
  opened.description = source->description();
  opened.class_names = source->class_names();
  opened.rate = decode_some(*source, config.data, kImages, opened.damaged);
  if (config.head.classes > 0 && config.head.classes < opened.classes) {
    const int64_t i = source->first_label_beyond(config.head.classes, 0, source->size(), nullptr);
    if (i >= 0) {
      opened.beyond = fmt::format("sample '{}' has label {}, but head.classes is {}", source->name(i), source->label(i),
                                  config.head.classes);
    }
  }
  return opened;
}

Fact counted(const char* name, const std::string& text, double number, const std::string& unit = "") {
  Fact fact{"data", name, text, number, unit, Agreement::same};
  fact.odd = Grade::fail;  // other data on another host would train on samples that are not those of its labels
  return fact;
}

void judge_training(const Opened& found, const Config& config, int ranks, RankSheet& sheet) {
  sheet.add(counted("samples", "{} images", static_cast<double>(found.samples)));
  sheet.add(counted("classes", "{} classes", static_cast<double>(found.classes)));
  Fact bytes = counted("bytes", "", found.bytes, "B");
  bytes.shown = false;
  sheet.add(std::move(bytes));
  sheet.add({"data", "decode rate", "{} a core", found.rate, "images/s", Agreement::rate});
  if (found.classes == 0)
    sheet.fail("data", fmt::format("{}: the samples have no labels", found.description),
               "training needs a sub-folder a class, a list of \"path label\", or a labelled .rec");
  if (!found.beyond.empty())
    sheet.fail("data", found.beyond, "set head.classes: auto, or to the number of classes of the data");
  if (!found.damaged.empty() && config.data.on_error == "skip") {
    sheet.warn("data", found.damaged);
  } else if (!found.damaged.empty()) {
    sheet.fail_with("data", found.damaged);
  }
  try {
    const int64_t batch = decide_global_batch(config, ranks) * growth(config.train);
    if (found.samples < batch)
      sheet.fail(
          "data", fmt::format("{} samples are fewer than one global batch of {}", found.samples, batch),
          config.train.grow.factor > 0 ? "lower train.grow.factor or train.batch_size" : "lower train.batch_size");
  } catch (const Error& error) {
    sheet.fail_with("data", error.what());
  }
}

/// Reads a byte: a file system that hangs, or a file that may not be read, shows here.
void touch(const std::string& path) {
  std::byte first{};
  File::open_read(path).read_some(0, std::span(&first, 1));
}

/// True where the first of `paths` that is missing is told, or the file system does not answer.
bool missing(Patience& patience, const std::vector<std::string>& paths, const std::string& section, RankSheet& sheet) {
  const auto answer = patience.attempt<std::string>(kAnswerSeconds, [paths] {
    for (const std::string& path : paths) {
      if (path == "synthetic") continue;
      if (!fs::exists(path)) return path;
      if (!fs::is_directory(path)) touch(path);
    }
    return std::string();
  });
  if (answer.late) {
    sheet.fail(section, fmt::format("the file system of {} does not answer", paths[0]), "is its file server there?");
  } else if (!answer.value) {
    sheet.fail_with(section, answer.error);
  } else if (!answer.value->empty()) {
    sheet.fail(section, fmt::format("{}: no such file or folder", *answer.value),
               "relative paths start at the working folder; is the file system mounted on this host?");
  }
  return answer.late || !answer.value || !answer.value->empty();
}

void probe_eval(Patience& patience, const Config& config, const EvalSetConfig& set,
                const std::vector<std::string>& class_names, RankSheet& sheet) {
  std::vector<std::string> paths;
  for (const std::string* path : {&set.bin, &set.folder, &set.pairs, &set.data}) {
    if (!path->empty()) paths.push_back(*path);
  }
  if (paths.empty() || missing(patience, paths, "evaluation", sheet)) return;
  const double most = patience.left();
  const auto opened = patience.attempt<int64_t>(most, [config, set, class_names] {
    const EvalSet open = open_eval_set(set, config.data, class_names);
    std::string damaged;
    decode_some(*open.source, open.data, kEvalImages, damaged);
    if (!damaged.empty()) throw Error(damaged);
    return open.source->size();
  });
  if (opened.value) {
    sheet.add({"evaluation", set.name, set.name + ": {} images", static_cast<double>(*opened.value), "",
               Agreement::same, Grade::fail});
  } else if (opened.late) {
    sheet.warn("evaluation", fmt::format("{}: not opened within {:.0f} s", set.name, most));
  } else {
    sheet.fail_with("evaluation", set.name + ": " + opened.error);
  }
}

}  // namespace

std::optional<DataFound> probe_data(Patience& patience, const Config& config, int ranks, RankSheet& sheet) {
  std::optional<DataFound> found;
  std::vector<std::string> class_names;
  if (!missing(patience, config.data.train, "data", sheet)) {
    const double most = patience.left();
    const auto opened = patience.attempt<Opened>(most, [config] { return open_training(config); });
    if (opened.late) {
      sheet.warn("data", fmt::format("the data are not opened within {:.0f} s", most),
                 "a .rec without `property` is read through once; --limit gives it longer");
    } else if (!opened.value) {
      sheet.fail_with("data", opened.error);
    } else {
      judge_training(*opened.value, config, ranks, sheet);
      found = {opened.value->samples, opened.value->classes};
      class_names = opened.value->class_names;
    }
  }
  for (const EvalSetConfig& set : config.eval.sets) probe_eval(patience, config, set, class_names, sheet);
  return found;
}

}  // namespace plsc::doctor
