// The manifest as JSON, and the checks that make its content safe to act on.
#include "checkpoint/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "checkpoint/block_file.h"
#include "checkpoint/checkpoint.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "plsc-train checkpoint";
constexpr int64_t kVersion = 1;
constexpr int64_t kMaxBlockBytes = int64_t{1} << 30;
constexpr const char* kHint = "go on from an older checkpoint with --resume DIR";

[[noreturn]] void damaged(const std::string& where, const std::string& what) {
  throw DamagedError(fmt::format("{}: damaged manifest: {}", where, what), kHint);
}

Json to_json(const ManifestFile& f) {
  Json blocks = Json::array();
  for (uint64_t c : f.checksums) blocks.push_back(checksum_text(c));
  return {{"file", f.file}, {"bytes", f.bytes}, {"blocks", std::move(blocks)}};
}

Json to_json(const ManifestTensor& t) {
  const auto dims = t.spec.shape.dims();
  Json parts = Json::array();
  for (const ManifestPart& p : t.parts) {
    Json part = {{"file", p.file}};
    if (t.sharded) part["rows"] = {p.row_begin, p.row_end};
    parts.push_back(std::move(part));
  }
  return {{"group", t.group},
          {"name", t.spec.name},
          {"dtype", dtype_name(t.spec.dtype)},
          {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
          {"parts", std::move(parts)}};
}

ManifestFile file_from(const Json& j) {
  ManifestFile f{j.at("file").get<std::string>(), j.at("bytes").get<int64_t>(), {}};
  for (const Json& block : j.at("blocks")) {
    const auto text = block.get<std::string>();
    size_t used = 0;
    f.checksums.push_back(std::stoull(text, &used, 16));
    if (used != 16 || text.size() != 16) throw std::invalid_argument("checksum " + text);
  }
  return f;
}

Dtype dtype_from(const std::string& name) {
  for (Dtype d : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64, Dtype::i64, Dtype::i32, Dtype::u8})
    if (dtype_name(d) == name) return d;
  throw std::invalid_argument("dtype " + name);
}

ManifestTensor tensor_from(const Json& j) {
  ManifestTensor t;
  t.group = j.at("group").get<std::string>();
  t.spec.name = j.at("name").get<std::string>();
  t.spec.dtype = dtype_from(j.at("dtype").get<std::string>());
  const auto dims = j.at("shape").get<std::vector<int64_t>>();
  if (dims.size() > Shape::kMaxDims || std::any_of(dims.begin(), dims.end(), [](int64_t d) { return d < 0; })) {
    throw std::invalid_argument("shape " + j.at("shape").dump());
  }
  t.spec.shape = Shape(std::span<const int64_t>(dims));
  for (const Json& part : j.at("parts")) {
    ManifestPart p{part.at("file").get<std::string>(), 0, 0};
    if (part.contains("rows")) {
      t.sharded = true;
      p.row_begin = part["rows"].at(0).get<int64_t>();
      p.row_end = part["rows"].at(1).get<int64_t>();
    }
    t.parts.push_back(std::move(p));
  }
  return t;
}

std::string own_checksum(const Json& without) {
  const std::string text = without.dump();
  return checksum_text(checksum(std::as_bytes(std::span<const char>(text))));
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

void check_file(const ManifestFile& f, int64_t block_bytes, const std::string& where) {
  if (!is_plain_name(f.file)) damaged(where, fmt::format("'{}' is not a plain file name", f.file));
  const int64_t blocks = f.bytes < 0 ? -1 : block_count(f.bytes, block_bytes);
  if (static_cast<int64_t>(f.checksums.size()) != blocks) {
    damaged(where, fmt::format("{} checksums for '{}' of {} bytes", f.checksums.size(), f.file, f.bytes));
  }
}

void check_tensor(const Manifest& m, const ManifestTensor& t, const std::string& where) {
  const std::string subject = t.group + " '" + t.spec.name + "'";
  for (const ManifestPart& p : t.parts) {
    if (m.find_file(p.file) == nullptr) damaged(where, fmt::format("{} lies in '{}', no such file", subject, p.file));
  }
  if (!t.sharded) {
    if (t.parts.size() != 1) damaged(where, fmt::format("{} has {} parts, expected one", subject, t.parts.size()));
    return;
  }
  if (t.spec.shape.size() < 1) damaged(where, subject + " is split by rows and has none");
  int64_t next = 0;
  for (const ManifestPart& p : t.parts) {
    if (p.row_begin != next || p.row_end < p.row_begin) {
      damaged(where, fmt::format("{}: rows [{}, {}) after row {}", subject, p.row_begin, p.row_end, next));
    }
    next = p.row_end;
  }
  if (next != t.spec.shape[0]) {
    damaged(where, fmt::format("{}: the files hold {} of its {} rows", subject, next, t.spec.shape[0]));
  }
}

void require_known_format(const Json& j, const std::string& where) {
  if (!j.is_object() || !j.contains("format") || j["format"] != kFormat) {
    fail("{}: not a checkpoint of plsc-train (no \"format\": \"{}\")", where, kFormat);
  }
  const auto version = j.at("version").get<int64_t>();
  if (version > kVersion) {
    fail_hint("use the plsc-train that wrote it, or a newer one",
              "{}: checkpoint format version {}, this program reads up to {}", where, version, kVersion);
  }
  if (version < 1) damaged(where, fmt::format("format version {}", version));
}

}  // namespace

const ManifestFile* Manifest::find_file(const std::string& file) const {
  for (const ManifestFile& f : files)
    if (f.file == file) return &f;
  return nullptr;
}

const ManifestTensor* Manifest::find(const std::string& group, const std::string& name) const {
  for (const ManifestTensor& t : tensors)
    if (t.group == group && t.spec.name == name) return &t;
  return nullptr;
}

void Manifest::add(Manifest&& other) {
  for (ManifestFile& f : other.files) files.push_back(std::move(f));
  for (ManifestTensor& theirs : other.tensors) {
    const auto ours = std::find_if(tensors.begin(), tensors.end(), [&](const ManifestTensor& t) {
      return t.group == theirs.group && t.spec.name == theirs.spec.name;
    });
    if (ours == tensors.end()) {
      tensors.push_back(std::move(theirs));
    } else {
      PLSC_CHECK(ours->sharded && theirs.sharded && ours->spec.shape == theirs.spec.shape &&
                     ours->spec.dtype == theirs.spec.dtype,
                 "the ranks disagree on {} '{}'", theirs.group, theirs.spec.name);
      ours->parts.insert(ours->parts.end(), theirs.parts.begin(), theirs.parts.end());
    }
  }
}

void Manifest::check_whole(const std::string& where) const {
  if (step < 0 || ranks < 1) damaged(where, fmt::format("step {}, {} ranks", step, ranks));
  if (block_bytes < 1 || block_bytes > kMaxBlockBytes) damaged(where, fmt::format("blocks of {} bytes", block_bytes));
  std::set<std::string> names;
  for (const ManifestFile& f : files) {
    check_file(f, block_bytes, where);
    if (!names.insert(f.file).second) damaged(where, fmt::format("'{}' twice", f.file));
  }
  names.clear();
  for (const ManifestTensor& t : tensors) {
    check_tensor(*this, t, where);
    if (!names.insert(t.group + "/" + t.spec.name).second) damaged(where, fmt::format("'{}' twice", t.spec.name));
  }
}

std::string Manifest::to_text() const {
  Json j;
  j["format"] = kFormat;
  j["version"] = kVersion;
  j["step"] = step;
  j["ranks"] = ranks;
  j["meta"] = Json::parse(meta);
  PLSC_CHECK(j["meta"].is_object(), "meta is not a JSON object: {}", meta);
  j["tensors"] = Json::array();
  for (const ManifestTensor& t : tensors) j["tensors"].push_back(to_json(t));
  j["checksum_kind"] = "xxh3-64";
  j["block_bytes"] = block_bytes;
  j["files"] = Json::array();
  for (const ManifestFile& f : files) j["files"].push_back(to_json(f));
  j["manifest_checksum"] = own_checksum(j);
  return j.dump(1) + "\n";
}

Manifest Manifest::parse(const std::string& text, const std::string& where) {
  try {
    Json j = Json::parse(text);
    require_known_format(j, where);
    const auto expected = j.at("manifest_checksum").get<std::string>();
    j.erase("manifest_checksum");
    const std::string found = own_checksum(j);
    if (found != expected) damaged(where, fmt::format("its checksum is {}, expected {}", found, expected));
    Manifest m;
    m.step = j.at("step").get<int64_t>();
    m.ranks = j.at("ranks").get<int64_t>();
    m.meta = j.at("meta").dump();
    m.block_bytes = j.at("block_bytes").get<int64_t>();
    for (const Json& f : j.at("files")) m.files.push_back(file_from(f));
    for (const Json& t : j.at("tensors")) m.tensors.push_back(tensor_from(t));
    return m;
  } catch (const Json::parse_error& e) {
    if (text.empty()) damaged(where, "it is empty");
    if (e.byte > text.size()) damaged(where, fmt::format("it is cut short, after {} bytes", text.size()));
    damaged(where, fmt::format("it was edited, or written over: byte {} of {} is no JSON", e.byte, text.size()));
  } catch (const Json::exception& e) {
    const std::string what = e.what();  // "[json.exception.type_error.302] type must be number, but is string"
    damaged(where, what.substr(what.find("] ") + 2));
  } catch (const std::logic_error& e) {  // stoull, and the two throws above
    damaged(where, e.what());
  }
}

}  // namespace plsc
