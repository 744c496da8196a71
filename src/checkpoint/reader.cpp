// CheckpointReader: whole tensors or row ranges out of the files of however many ranks wrote them.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/block_file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folders.h"
#include "checkpoint/manifest.h"
#include "kernels/math/bf16.h"

namespace plsc {
namespace {

/// Class centres may be kept in fp32 in one run and in bf16 in the next.
bool converts(Dtype from, Dtype to) {
  return (from == Dtype::f32 && to == Dtype::bf16) || (from == Dtype::bf16 && to == Dtype::f32);
}

/// Between fp32 and bf16, rounding to nearest.
void convert(const Tensor& from, const Tensor& to) {
  for (int64_t i = 0; i < from.elements(); ++i) {
    if (from.dtype() == Dtype::f32) {
      to.data<bf16_t>()[i].bits = math::float_to_bf16(from.data<float>()[i]);
    } else {
      to.data<float>()[i] = math::bf16_to_float(from.data<bf16_t>()[i].bits);
    }
  }
}

namespace fs = std::filesystem;

constexpr const char* kOlder = "go on from an older checkpoint with --resume DIR, or copy this one again";

// A lone .safetensors file as a checkpoint without checksums: all its tensors are the backbone's.
Manifest manifest_of_file(const std::string& path) {
  const File file = File::open_read(path);
  const auto header = parse_safetensors(path, file.size(),
                                        [&](int64_t offset, std::span<std::byte> out) { file.read_at(offset, out); });
  Manifest m;
  m.ranks = 0;  // no run wrote it as a checkpoint
  m.block_bytes = kBlockBytes;
  const std::string name = fs::path(path).filename().string();
  m.files.push_back({name, header.file_bytes, {}});
  for (const StoredTensor& t : header.tensors) m.tensors.push_back({"backbone", t.spec, false, {{name, 0, 0}}});
  return m;
}

/// Of the checkpoints in it, whole or not.
std::optional<int64_t> newest_step(const std::string& folder) {
  std::optional<int64_t> newest;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    newest = std::max(newest, step_of(entry.path().filename().string()));
  return newest;
}

Manifest manifest_of_folder(const std::string& folder) {
  const std::string path = (fs::path(folder) / kManifestName).string();
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    if (fs::is_directory(checkpoints_folder(folder), ignored)) {
      const auto newest = newest_step(checkpoints_folder(folder));
      fail_hint(
          "name one of its checkpoints: " + checkpoints_folder(folder) + "/" + (newest ? step_name(*newest) : "step_N"),
          "{} is a run, not a checkpoint", folder);
    }
    if (const auto newest = newest_step(folder)) {
      fail_hint("name one of them, such as the newest: " + (fs::path(folder) / step_name(*newest)).string(),
                "{} holds checkpoints and is none itself", folder);
    }
    fail_hint(kOlder, "{}: no {}: not a checkpoint, or not a whole one", folder, kManifestName);
  }
  Manifest m = Manifest::parse(read_text(path), path);
  m.check_whole(path);
  for (const ManifestFile& f : m.files) {
    const fs::path file = fs::path(folder) / f.file;
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error) fail_hint(kOlder, "{}: the checkpoint is not whole: {}", file.string(), error.message());
    if (static_cast<int64_t>(size) != f.bytes) {
      fail_hint(kOlder, "{}: the checkpoint is not whole: {} bytes, expected {}", file.string(), size, f.bytes);
    }
  }
  return m;
}

class Reader final : public CheckpointReader {
 public:
  Reader(std::string folder, std::string base, Manifest manifest)
      : folder_(std::move(folder)), base_(std::move(base)), manifest_(std::move(manifest)) {}

  int64_t step() const override { return manifest_.step; }
  const std::string& meta() const override { return manifest_.meta; }
  int64_t ranks() const override { return manifest_.ranks; }
  const std::string& folder() const override { return folder_; }

  std::vector<TensorInfo> tensors() const override {
    std::vector<TensorInfo> all;
    for (const ManifestTensor& t : manifest_.tensors) all.push_back(info(t));
    return all;
  }
  std::optional<TensorInfo> find(const std::string& group, const std::string& name) const override {
    const ManifestTensor* found = manifest_.find(group, name);
    if (found == nullptr) return {};
    return info(*found);
  }

  void read(Context& context, const std::string& group, const std::string& name, Tensor& to) const override {
    const ManifestTensor& t = require(group, name, to);
    if (!(to.shape() == t.spec.shape)) fail_shape(t, to);
    if (t.sharded) {
      read_parts(context, t, 0, to);
    } else {
      const StoredTensor& stored = stored_in(t.parts[0].file, t, t.spec.shape);
      read_elements(context, {t.parts[0].file, stored.offset, t.spec.dtype}, to);
    }
  }

  void read_rows(Context& context, const std::string& group, const std::string& name, int64_t begin,
                 Tensor& to) const override {
    const ManifestTensor& t = require(group, name, to);
    const int dims = t.spec.shape.size();
    bool fits = dims > 0 && to.shape().size() == dims && begin >= 0 && begin + to.dim(0) <= t.spec.shape[0];
    for (int i = 1; fits && i < dims; ++i) fits = to.dim(i) == t.spec.shape[i];
    if (!fits) fail_shape(t, to, begin);
    read_parts(context, t, begin, to);
  }

  std::string text(const std::string& file) const override {
    const ManifestFile* found = manifest_.find_file(file);
    if (found == nullptr) return {};
    // The file has this size: that was checked when the checkpoint was opened.
    std::string text(static_cast<size_t>(found->bytes), '\0');
    read_checked(block_file(file), 0, std::as_writable_bytes(std::span<char>(text)), cache_);
    return text;
  }

  std::vector<FileInfo> files() const override {
    std::vector<FileInfo> all;
    for (const ManifestFile& f : manifest_.files) {
      FileInfo file{f.file, f.bytes, {}, 0, 0};
      for (const ManifestTensor& t : manifest_.tensors) {
        for (const ManifestPart& p : t.parts) {
          if (p.file != f.file) continue;
          file.tensors.push_back(info(t));
          file.row_begin = p.row_begin;
          file.row_end = p.row_end;
        }
      }
      all.push_back(std::move(file));
    }
    return all;
  }

  void verify() const override {
    for (const ManifestFile& f : manifest_.files) verify_blocks(block_file(f.file), cache_);
    for (const ManifestTensor& t : manifest_.tensors)
      for (const ManifestPart& p : t.parts) stored_in(p.file, t, part_shape(t, p));
  }

 private:
  static TensorInfo info(const ManifestTensor& t) { return {t.spec.name, t.spec.shape, t.spec.dtype, t.group}; }

  static Shape part_shape(const ManifestTensor& t, const ManifestPart& part) {
    if (!t.sharded) return t.spec.shape;
    std::vector<int64_t> dims(t.spec.shape.dims().begin(), t.spec.shape.dims().end());
    dims[0] = part.row_end - part.row_begin;
    return Shape(std::span<const int64_t>(dims));
  }

  const ManifestTensor& require(const std::string& group, const std::string& name, const Tensor& to) const {
    const ManifestTensor* t = manifest_.find(group, name);
    if (t == nullptr) fail("{} has no tensor '{}' in '{}'", folder_, name, group);
    if (t->spec.dtype != to.dtype() && !converts(t->spec.dtype, to.dtype())) {
      fail("{}: {} '{}' is {}, expected {}", folder_, group, name, dtype_name(t->spec.dtype), dtype_name(to.dtype()));
    }
    return *t;
  }

  [[noreturn]] void fail_shape(const ManifestTensor& t, const Tensor& to, int64_t begin = 0) const {
    const std::string rows = begin > 0 ? fmt::format(" from row {}", begin) : "";
    fail_hint("this is a checkpoint of another model: compare its `config` (plsc-train inspect)",
              "{}: {} '{}' is {}, expected {}{}", folder_, t.group, t.spec.name, t.spec.shape.text(), to.shape().text(),
              rows);
  }

  BlockFile block_file(const std::string& name) const {
    const ManifestFile* f = manifest_.find_file(name);
    PLSC_CHECK(f != nullptr, "{}", name);
    return {(fs::path(base_) / name).string(), f->bytes, manifest_.block_bytes, f->checksums};
  }

  const SafetensorsHeader& header(const std::string& name) const {
    const auto it = headers_.find(name);
    if (it != headers_.end()) return it->second;
    const BlockFile file = block_file(name);
    return headers_[name] = parse_safetensors(file.path, file.bytes, [&](int64_t offset, std::span<std::byte> out) {
             read_checked(file, offset, out, cache_);
           });
  }

  // The tensor's entry in the file's own header, which must agree with the manifest.
  const StoredTensor& stored_in(const std::string& name, const ManifestTensor& t, const Shape& shape) const {
    const StoredTensor* stored = header(name).find(t.spec.name);
    if (stored == nullptr || stored->spec.dtype != t.spec.dtype || !(stored->spec.shape == shape)) {
      fail_hint(kOlder, "{}: {} holds {} for '{}', its manifest says {} {}", folder_, name,
                stored == nullptr ? "nothing"
                                  : fmt::format("{} {}", dtype_name(stored->spec.dtype), stored->spec.shape.text()),
                t.spec.name, dtype_name(t.spec.dtype), shape.text());
    }
    return *stored;
  }

  // Rows [begin, begin + to.dim(0)), part by part.
  void read_parts(Context& context, const ManifestTensor& t, int64_t begin, Tensor& to) const {
    const int64_t end = begin + to.dim(0);
    if (!t.sharded) {
      const StoredTensor& stored = stored_in(t.parts[0].file, t, t.spec.shape);
      const int64_t row_bytes = stored.bytes / std::max<int64_t>(1, t.spec.shape[0]);
      return read_elements(context, {t.parts[0].file, stored.offset + begin * row_bytes, t.spec.dtype}, to);
    }
    for (const ManifestPart& part : t.parts) {
      const int64_t first = std::max(begin, part.row_begin), last = std::min(end, part.row_end);
      if (first >= last) continue;
      const StoredTensor& stored = stored_in(part.file, t, part_shape(t, part));
      const int64_t row_bytes = stored.bytes / (part.row_end - part.row_begin);
      Tensor rows = to.rows(first - begin, last - first);
      read_elements(context, {part.file, stored.offset + (first - part.row_begin) * row_bytes, t.spec.dtype}, rows);
    }
  }

  // Where a tensor's elements stand, and as what.
  struct Source {
    const std::string& file;
    int64_t offset;
    Dtype dtype;
  };

  // to.elements() elements; into a device's memory, or as another type, through one block of host memory.
  void read_elements(Context& context, const Source& source, Tensor& to) const {
    const BlockFile file = block_file(source.file);
    if (to.on_host() && source.dtype == to.dtype()) {
      read_checked(file, source.offset, {static_cast<std::byte*>(to.raw()), to.bytes()}, cache_);
      return;
    }
    const auto size = static_cast<int64_t>(dtype_size(source.dtype));
    const int64_t chunk = std::min(kBlockBytes / size, to.elements());
    Tensor stored(host_allocator(), {chunk}, source.dtype), converted = stored;
    if (source.dtype != to.dtype()) converted = Tensor(host_allocator(), {chunk}, to.dtype());
    for (int64_t at = 0; at < to.elements(); at += chunk) {
      const Shape shape{std::min(chunk, to.elements() - at)};
      const Tensor bytes = stored.slice(0, shape), host = converted.slice(0, shape);
      read_checked(file, source.offset + at * size, {static_cast<std::byte*>(bytes.raw()), bytes.bytes()}, cache_);
      if (source.dtype != to.dtype()) convert(bytes, host);
      Tensor part = to.slice(at, shape);
      context.device().copy(host, part);
    }
  }

  std::string folder_;  // as the user named it: a folder or a file
  std::string base_;    // the folder of the files
  Manifest manifest_;
  // Filled while reading; a reader serves one thread.
  mutable std::map<std::string, SafetensorsHeader> headers_;
  mutable BlockCache cache_;
};

}  // namespace

std::unique_ptr<CheckpointReader> CheckpointReader::open(const std::string& folder) {
  std::error_code error;
  const auto status = fs::status(folder, error);
  if (fs::is_regular_file(status) && fs::path(folder).filename() == kLatestName) {
    std::string name = read_text(folder);
    name.erase(name.find_last_not_of(" \n") + 1);
    if (!step_of(name)) fail("{}: found '{}', expected the name of a checkpoint beside it, step_N", folder, name);
    return open((fs::path(folder).parent_path() / name).string());
  }
  if (fs::is_directory(status)) return std::make_unique<Reader>(folder, folder, manifest_of_folder(folder));
  if (!fs::exists(status)) {
    fail_hint(
        "name a folder such as runs/faces/checkpoints/step_00001200, or .../checkpoints/latest (init.from, --resume, "
        "--checkpoint); relative paths start at the working folder",
        "no checkpoint {}: no such file or folder", folder);
  }
  return std::make_unique<Reader>(folder, fs::path(folder).parent_path().string(), manifest_of_file(folder));
}

}  // namespace plsc
