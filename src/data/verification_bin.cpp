// InsightFace's verification sets: from the values of a pickle to images and booleans, and back.
#include "data/verification_bin.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "data/pickle.h"

namespace plsc {
namespace {

using Images = std::vector<std::vector<uint8_t>>;

class Converter {
 public:
  Converter(const PickleReader& pickle, const std::string& path, size_t file_bytes)
      : pickle_(pickle), path_(path), budget_((size_t{1} << 26) + 16 * file_bytes) {}

  VerificationBin convert(PickleRef root) {
    const PickleNode& pair = pickle_.node(root);
    if ((pair.kind != PickleKind::tuple && pair.kind != PickleKind::list) || pair.items.size() != 2) {
      fail("{}: the pickle holds no pair of (images, issame)", path_);
    }
    VerificationBin bin;
    for (const PickleRef ref : elements(pair.items[0], "the images"))
      bin.images.push_back(image(ref, bin.images.size()));
    bin.same = booleans(pair.items[1]);
    if (bin.images.size() != 2 * bin.same.size() || bin.same.empty()) {
      fail("{}: {} images and {} values of issame, expected two images for each value", path_, bin.images.size(),
           bin.same.size());
    }
    return bin;
  }

 private:
  const std::vector<PickleRef>& elements(PickleRef ref, const char* what) const {
    const PickleNode& node = pickle_.node(ref);
    const bool objects = node.kind == PickleKind::array && node.bytes.empty();
    if (objects && !node.items.empty()) return pickle_.node(node.items[0]).items;
    if (node.kind == PickleKind::list || node.kind == PickleKind::tuple || objects) return node.items;
    fail("{}: {} are no list", path_, what);
  }

  std::vector<uint8_t> image(PickleRef ref, size_t number) {
    const PickleNode& node = pickle_.node(ref);
    if (node.kind != PickleKind::bytes && node.kind != PickleKind::array) {
      fail("{}: image {} is neither bytes nor a numpy array", path_, number);
    }
    if (node.kind == PickleKind::array && pickle_.node(node.dtype).bytes != "u1") {
      fail("{}: image {} is a numpy array of type '{}', expected u1 (an encoded image)", path_, number,
           pickle_.node(node.dtype).bytes);
    }
    if (node.bytes.empty()) fail("{}: image {} is empty", path_, number);
    // One object may stand in the list many times.
    if (node.bytes.size() > budget_) fail("{}: the images unfold to more than the file can mean", path_);
    budget_ -= node.bytes.size();
    return {node.bytes.begin(), node.bytes.end()};
  }

  std::vector<uint8_t> booleans(PickleRef ref) const {
    const PickleNode& node = pickle_.node(ref);
    std::vector<uint8_t> values;
    if (node.kind == PickleKind::array && !node.bytes.empty()) {
      const std::string_view type = pickle_.node(node.dtype).bytes;
      const size_t width = type == "b1" || type == "bool" || type == "u1" || type == "i1" ? 1
                           : type == "i4"                                                 ? 4
                           : type == "i8"                                                 ? 8
                                                                                          : 0;
      if (width == 0) fail("{}: issame is a numpy array of type '{}', expected bool", path_, type);
      for (size_t i = 0; i + width <= node.bytes.size(); i += width) {
        const std::string_view value = node.bytes.substr(i, width);
        values.push_back(std::any_of(value.begin(), value.end(), [](char c) { return c != 0; }) ? 1 : 0);
      }
      return values;
    }
    for (const PickleRef element : elements(ref, "the values of issame")) {
      const PickleNode& value = pickle_.node(element);
      if (value.kind != PickleKind::boolean && value.kind != PickleKind::integer) {
        fail("{}: value {} of issame is neither a bool nor a number", path_, values.size());
      }
      values.push_back(value.integer != 0 ? 1 : 0);
    }
    return values;
  }

  const PickleReader& pickle_;
  const std::string& path_;
  size_t budget_;
};

void write_bytes(AtomicFile& file, std::span<const uint8_t> data) {
  if (data.size() > UINT32_MAX) fail("{}: an image of {} bytes is too large", file.path(), data.size());
  const auto length = static_cast<uint32_t>(data.size());
  file.write("B");
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(data));
}

}  // namespace

VerificationBin load_verification_bin(const std::string& path) {
  return parse_verification_bin(read_bytes(path), path);
}

VerificationBin parse_verification_bin(std::span<const uint8_t> data, const std::string& name) {
  PickleReader pickle(data, name);
  const PickleRef root = pickle.parse();
  return Converter(pickle, name, data.size()).convert(root);
}

void save_verification_bin(const std::string& path, const VerificationBin& bin) {
  PLSC_CHECK(bin.images.size() == 2 * bin.same.size());
  AtomicFile out(path);
  out.write("\x80\x03](");  // protocol 3, an empty list, a mark
  for (const auto& image : bin.images) write_bytes(out, image);
  out.write("e](");  // append to the list; the second list
  for (const uint8_t same : bin.same) out.write(same != 0 ? "\x88" : "\x89");
  out.write("e\x86.");  // append, a tuple of both, the end
  out.publish();
}

}  // namespace plsc
