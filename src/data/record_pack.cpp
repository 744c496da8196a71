// Packing: see record_pack.h.
#include "data/record_pack.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/error.h"
#include "base/files.h"
#include "base/threads.h"
#include "data/encode.h"
#include "data/image_files.h"
#include "data/permutation.h"
#include "data/progress.h"
#include "data/record_index.h"
#include "data/verification_bin.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPortion = 512;  // images read (and encoded) in parallel before they are written in order

std::vector<int64_t> packing_order(const DataSource& source, const PackOptions& options) {
  std::vector<int64_t> order(static_cast<size_t>(source.size()));
  if (options.shuffle) {
    const Permutation mixed(source.size(), options.seed, 0);
    for (int64_t i = 0; i < source.size(); ++i) order[static_cast<size_t>(i)] = mixed(i);
    return order;
  }
  std::iota(order.begin(), order.end(), 0);
  std::vector<int64_t> labels;  // once each: of a .rec they are read from the disk
  for (int64_t i = 0; i < source.size(); ++i) labels.push_back(source.label(i));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return labels[static_cast<size_t>(a)] < labels[static_cast<size_t>(b)];
  });
  return order;
}

/// "classes,height,width\n" as InsightFace has it, the size being that of the first image that can be decoded.
std::string property_of(const DataSource& source) {
  constexpr int64_t kTried = 16;
  std::string error;
  for (int64_t i = 0; i < std::min(source.size(), kTried); ++i) {
    try {
      const RawSample first = source.read(i);
      const Pixels pixels = decode_pixels(first.encoded, 3, first.where);
      return fmt::format("{},{},{}\n", source.classes(), pixels.height, pixels.width);
    } catch (const Error& e) {
      if (error.empty()) error = e.what();
    }
  }
  throw Error(error);
}

class Packer {
 public:
  Packer(const DataSource& source, const PackOptions& options, Log* log)
      : source_(source),
        options_(options),
        log_(log),
        records_(options.output),
        idx_(sibling_path(options.output, ".idx")) {}

  PackResult run() {
    property_ = property_of(source_);  // first: what is wrong with the first images shows before hours of packing
    const std::vector<int64_t> order = packing_order(source_, options_);
    first_key_ = options_.shuffle ? 0 : 1;
    if (!options_.shuffle) write_header();
    ranges_.assign(static_cast<size_t>(options_.shuffle ? 0 : source_.classes()), {});
    Progress progress(log_, "packing " + options_.output, source_.size());
    for (int64_t begin = 0; begin < source_.size(); begin += kPortion) {
      const int64_t end = std::min(begin + kPortion, source_.size());
      write_portion(order, begin, end);
      progress.add(end - begin);
    }
    if (!options_.shuffle) write_identities();
    publish();
    return {source_.size(), source_.classes(), static_cast<int64_t>(fs::file_size(options_.output))};
  }

 private:
  void note(int64_t key, int64_t offset) { idx_.write(fmt::format("{}\t{}\n", key, offset)); }

  /// InsightFace's record 0: images are 1 to N, identities N + 1 to the end. Floats: rounded above 2^24.
  void write_header() {
    const int64_t images_end = source_.size() + 1;
    const float labels[] = {static_cast<float>(images_end), static_cast<float>(images_end + source_.classes())};
    note(0, records_.append({2, 0, 0, 0}, labels, {}));
  }

  void write_portion(const std::vector<int64_t>& order, int64_t begin, int64_t end) {
    std::vector<RawSample> samples(static_cast<size_t>(end - begin));
    parallel_ranges(end - begin, std::max(1, available_cores()), [&](int64_t from, int64_t to, int) {
      for (int64_t i = from; i < to; ++i) {
        samples[static_cast<size_t>(i)] = prepared(order[static_cast<size_t>(begin + i)]);
      }
    });
    for (int64_t i = begin; i < end; ++i) {
      const RawSample& sample = samples[static_cast<size_t>(i - begin)];
      const int64_t key = first_key_ + i;
      if (!options_.shuffle) {
        Range& range = ranges_[static_cast<size_t>(sample.label)];
        if (range.last == 0) range.first = key;
        range.last = key + 1;
      }
      const RecordHeader header{0, static_cast<float>(sample.label), static_cast<uint64_t>(key),
                                static_cast<uint64_t>(sample.label) + 1};
      note(key, records_.append(header, {}, sample.encoded));
    }
  }

  RawSample prepared(int64_t index) const {
    RawSample sample = source_.read(index);
    if (sample.label < 0) fail("{}: the image has no label", sample.where);
    if (options_.quality > 0) {
      sample.encoded = encode_jpeg(decode_pixels(sample.encoded, 3, sample.where), options_.quality);
    } else if (image_format(sample.encoded).empty()) {
      fail("{}: no image of a known format", sample.where);
    }
    return sample;
  }

  void write_identities() {
    int64_t key = source_.size() + 1;
    for (const Range& range : ranges_) {
      const float labels[] = {static_cast<float>(range.first), static_cast<float>(range.last)};
      note(key, records_.append({2, 0, static_cast<uint64_t>(key), 0}, labels, {}));
      ++key;
    }
  }

  void publish() {
    write_text_atomically(sibling_path(options_.output, ".property"), property_);
    write_shared_property();
    const std::string classes_path = sibling_path(options_.output, ".classes");
    std::string names;
    bool lines = true;
    for (const std::string& name : source_.class_names()) {
      names += name + "\n";
      lines = lines && name.find('\n') == std::string::npos;
    }
    if (names.empty() || !lines) {
      fs::remove(classes_path);
    } else {
      write_text_atomically(classes_path, names);
    }
    idx_.publish();
    records_.publish();
  }

  /// InsightFace reads `property` for its train.rec. It is left to another .rec of the folder that it may stand for.
  void write_shared_property() const {
    const fs::path own = fs::absolute(options_.output), shared = own.parent_path() / "property";
    for (const fs::directory_entry& entry : fs::directory_iterator(own.parent_path())) {
      const fs::path& other = entry.path();
      if (other.extension() != ".rec" || other.filename() == own.filename()) continue;
      if (own.filename() == "train.rec" && fs::exists(sibling_path(other.string(), ".property"))) continue;
      if (log_ != nullptr) log_->info("{} is left to {}", shared.string(), other.filename().string());
      return;
    }
    write_text_atomically(shared.string(), property_);
  }

  struct Range {
    int64_t first = 0, last = 0;
  };
  const DataSource& source_;
  const PackOptions& options_;
  Log* log_;
  RecordWriter records_;
  AtomicFile idx_;
  std::string property_;
  int64_t first_key_ = 0;
  std::vector<Range> ranges_;
};

}  // namespace

PackResult pack_records(const DataSource& source, const PackOptions& options, Log* log) {
  if (fs::path(options.output).extension() != ".rec") fail("{}: expected a name that ends in .rec", options.output);
  if (source.classes() < 1) fail("{}: the images have no labels, and a .rec needs them", source.description());
  if (const fs::path folder = fs::path(options.output).parent_path(); !folder.empty()) fs::create_directories(folder);
  return Packer(source, options, log).run();
}

void pack_verification_bin(const PairList& pairs, const std::string& output) {
  VerificationBin bin;
  for (const PairList::Pair& pair : pairs.pairs) {
    for (const int64_t side : {pair.a, pair.b}) {
      const std::string& path = pairs.paths[static_cast<size_t>(side)];
      bin.images.push_back(read_bytes(path));
      if (image_format(bin.images.back()).empty()) fail("{}: no image of a known format", path);
    }
    bin.same.push_back(pair.same ? 1 : 0);
  }
  if (const fs::path folder = fs::path(output).parent_path(); !folder.empty()) fs::create_directories(folder);
  save_verification_bin(output, bin);
}

}  // namespace plsc
