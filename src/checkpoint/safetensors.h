// The safetensors format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes without gaps.
// Format: github.com/huggingface/safetensors. Only headers here; the bytes are written and read elsewhere, in blocks.
#pragma once
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace plsc {

struct TensorSpec {
  std::string name;
  Shape shape;
  Dtype dtype = Dtype::f32;
};

/// A tensor and where its bytes stand in the file.
struct StoredTensor {
  TensorSpec spec;
  int64_t offset = 0;  // from the start of the file
  int64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  int64_t data_begin = 0;  // offset of the first tensor's bytes
  int64_t file_bytes = 0;

  const StoredTensor* find(const std::string& name) const;
};

struct SafetensorsLayout {
  std::string prefix;          // the length, the JSON and its padding: everything before the tensors' bytes
  SafetensorsHeader header;    // the same as parsing `prefix` gives
  std::vector<size_t> source;  // header.tensors[i] is specs[source[i]]
};

/// Lays a file out: larger element types first, so that every tensor is aligned to its element, and the data begins
/// on a multiple of 8. Names must differ.
SafetensorsLayout layout_safetensors(const std::vector<TensorSpec>& specs,
                                     const std::map<std::string, std::string>& metadata);

/// Reads exactly out.size() bytes at `offset` of the file.
using ReadBytes = std::function<void(int64_t offset, std::span<std::byte> out)>;

/// Parses and checks a header: nothing in it is trusted before it has been compared with the file's length. Error
/// names `path` and the tensor when the header is damaged, tensors overlap or leave gaps, or a type is not known.
SafetensorsHeader parse_safetensors(const std::string& path, int64_t file_bytes, const ReadBytes& read);

}  // namespace plsc
