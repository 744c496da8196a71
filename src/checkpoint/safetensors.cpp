// Layout and parsing of safetensors headers.
#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own bound

struct DtypeCode {
  Dtype dtype;
  const char* code;
};
constexpr std::array<DtypeCode, 7> kDtypeCodes{{{Dtype::f32, "F32"},
                                                {Dtype::bf16, "BF16"},
                                                {Dtype::f16, "F16"},
                                                {Dtype::f64, "F64"},
                                                {Dtype::i64, "I64"},
                                                {Dtype::i32, "I32"},
                                                {Dtype::u8, "U8"}}};

std::string dtype_code(Dtype dtype) {
  for (const DtypeCode& c : kDtypeCodes)
    if (c.dtype == dtype) return c.code;
  PLSC_CHECK(false, "no safetensors code for {}", dtype_name(dtype));
  return {};
}

int64_t spec_bytes(const TensorSpec& spec) {
  return spec.shape.elements() * static_cast<int64_t>(dtype_size(spec.dtype));
}

// What names the place in every message about a damaged header.
struct Place {
  std::string path, tensor;
  [[noreturn]] void damaged(const std::string& what) const {
    const std::string subject = tensor.empty() ? path : fmt::format("{}, tensor '{}'", path, tensor);
    throw Error(fmt::format("{}: damaged safetensors header: {}", subject, what),
                "the file was not written completely or has been changed; use another copy");
  }
};

int64_t whole_number(const Json& value, const Place& place, const char* what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    place.damaged(fmt::format("{} is {}, expected a whole number", what, value.dump()));
  }
  return static_cast<int64_t>(value.get<uint64_t>());
}

Dtype parse_dtype(const Json& entry, const Place& place) {
  const auto it = entry.find("dtype");
  if (it == entry.end() || !it->is_string()) place.damaged("no dtype");
  const std::string code = it->get<std::string>();
  for (const DtypeCode& c : kDtypeCodes)
    if (code == c.code) return c.dtype;
  fail("{}, tensor '{}': elements of type {}; known are F32, BF16, F16, F64, I64, I32, U8", place.path, place.tensor,
       code);
}

// The shape, and in `bytes` the size that it asks for.
Shape parse_shape(const Json& entry, Dtype dtype, const Place& place, int64_t& bytes) {
  const auto it = entry.find("shape");
  if (it == entry.end() || !it->is_array()) place.damaged("no shape");
  if (it->size() > Shape::kMaxDims) {
    fail("{}, tensor '{}': {} dimensions; at most {} can be read", place.path, place.tensor, it->size(),
         Shape::kMaxDims);
  }
  std::vector<int64_t> dims;
  bytes = static_cast<int64_t>(dtype_size(dtype));
  bool empty = false;
  for (const Json& d : *it) {
    dims.push_back(whole_number(d, place, "a dimension"));
    if (dims.back() == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, dims.back(), &bytes)) {
      place.damaged(fmt::format("shape {} has more elements than 64 bits count", it->dump()));
    }
  }
  if (empty) bytes = 0;
  return Shape(std::span<const int64_t>(dims));
}

StoredTensor parse_tensor(const Json& entry, int64_t data_begin, int64_t data_bytes, const Place& place) {
  if (!entry.is_object()) place.damaged("its entry is not an object");
  StoredTensor tensor;
  tensor.spec.name = place.tensor;
  tensor.spec.dtype = parse_dtype(entry, place);
  tensor.spec.shape = parse_shape(entry, tensor.spec.dtype, place, tensor.bytes);
  const auto it = entry.find("data_offsets");
  if (it == entry.end() || !it->is_array() || it->size() != 2) place.damaged("no data_offsets [begin, end]");
  const int64_t begin = whole_number((*it)[0], place, "data_offsets");
  const int64_t end = whole_number((*it)[1], place, "data_offsets");
  if (begin > end || end > data_bytes) {
    place.damaged(fmt::format("data_offsets [{}, {}] in {} bytes of data", begin, end, data_bytes));
  }
  if (end - begin != tensor.bytes) {
    place.damaged(fmt::format("{} bytes between its offsets, but {} {} takes {}", end - begin,
                              dtype_name(tensor.spec.dtype), tensor.spec.shape.text(), tensor.bytes));
  }
  tensor.offset = data_begin + begin;
  return tensor;
}

// JSON text to an object. Depth and repeated names are checked on the way: a name that stands twice would hide bytes.
Json parse_json(const std::string& text, const Place& place) {
  std::set<std::string> names;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > 3) place.damaged("nested too deeply");
    if (depth == 1 && event == Json::parse_event_t::key && !names.insert(value.get<std::string>()).second) {
      place.damaged(fmt::format("the name '{}' stands twice", value.get<std::string>()));
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(text, check);
  } catch (const Json::exception& e) {
    place.damaged(fmt::format("not JSON ({})", e.what()));
  }
  if (!json.is_object()) place.damaged("not a JSON object");
  return json;
}

std::string read_header_text(const Place& place, int64_t file_bytes, const ReadBytes& read) {
  if (file_bytes < kLengthBytes + 2) {
    fail("{}: {} bytes long, too short for a safetensors file", place.path, file_bytes);
  }
  std::array<std::byte, kLengthBytes> raw{};
  read(0, raw);
  uint64_t length = 0;
  for (size_t i = 0; i < raw.size(); ++i) length |= std::to_integer<uint64_t>(raw[i]) << (8 * i);
  if (length < 2 || length > static_cast<uint64_t>(kMaxHeaderBytes) ||
      static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    place.damaged(fmt::format("a header of {} bytes in a file of {} (at most {} are possible)", length, file_bytes,
                              std::min(kMaxHeaderBytes, file_bytes - kLengthBytes)));
  }
  std::string text(static_cast<size_t>(length), ' ');
  read(kLengthBytes, std::as_writable_bytes(std::span<char>(text)));
  return text;
}

// Tensors sorted by offset must follow each other exactly, to the end of the file.
void check_coverage(const SafetensorsHeader& header, const std::string& path) {
  int64_t expected = header.data_begin;
  for (const StoredTensor& t : header.tensors) {
    if (t.offset != expected) {
      Place{path, t.spec.name}.damaged(fmt::format("its data begin at {}, but the data before end at {}: {}", t.offset,
                                                   expected, t.offset < expected ? "they overlap" : "there is a gap"));
    }
    expected += t.bytes;
  }
  if (expected != header.file_bytes) {
    Place{path, ""}.damaged(
        fmt::format("the tensors end at byte {}, the file at {}: it is not whole", expected, header.file_bytes));
  }
}

}  // namespace

const StoredTensor* SafetensorsHeader::find(const std::string& name) const {
  for (const StoredTensor& t : tensors)
    if (t.spec.name == name) return &t;
  return nullptr;
}

SafetensorsLayout layout_safetensors(const std::vector<TensorSpec>& specs,
                                     const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout;
  layout.source.resize(specs.size());
  std::iota(layout.source.begin(), layout.source.end(), size_t{0});
  std::stable_sort(layout.source.begin(), layout.source.end(),
                   [&](size_t a, size_t b) { return dtype_size(specs[a].dtype) > dtype_size(specs[b].dtype); });
  Json json = Json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  int64_t end = 0;
  for (size_t i : layout.source) {
    const TensorSpec& spec = specs[i];
    PLSC_CHECK(!json.contains(spec.name), "the tensor '{}' twice in one file", spec.name);
    const int64_t begin = end;
    end += spec_bytes(spec);
    const auto dims = spec.shape.dims();
    json[spec.name] = {{"dtype", dtype_code(spec.dtype)},
                       {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                       {"data_offsets", {begin, end}}};
    layout.header.tensors.push_back({spec, begin, end - begin});
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  for (size_t i = 0; i < kLengthBytes; ++i) layout.prefix += static_cast<char>(text.size() >> (8 * i) & 0xFF);
  layout.prefix += text;
  layout.header.metadata = metadata;
  layout.header.data_begin = static_cast<int64_t>(layout.prefix.size());
  layout.header.file_bytes = layout.header.data_begin + end;
  for (StoredTensor& t : layout.header.tensors) t.offset += layout.header.data_begin;
  return layout;
}

SafetensorsHeader parse_safetensors(const std::string& path, int64_t file_bytes, const ReadBytes& read) {
  const Place file{path, ""};
  const std::string text = read_header_text(file, file_bytes, read);
  const Json json = parse_json(text, file);
  SafetensorsHeader header;
  header.file_bytes = file_bytes;
  header.data_begin = kLengthBytes + static_cast<int64_t>(text.size());
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) file.damaged("__metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) file.damaged(fmt::format("__metadata__ '{}' is not text", key));
        header.metadata[key] = value.get<std::string>();
      }
    } else {
      header.tensors.push_back(
          parse_tensor(entry, header.data_begin, file_bytes - header.data_begin, Place{path, name}));
    }
  }
  // Empty tensors share their offset with the next one: they come first.
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.offset + a.bytes < b.offset + b.bytes;
  });
  check_coverage(header, path);
  return header;
}

}  // namespace plsc
