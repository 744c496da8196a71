// Reads the .npy files of the goldens: version 1 to 3, C order, little-endian f4, f8, i4, i8, u1.
// For tests alone: it trusts the file more than the product's readers do.
#pragma once
#include <cstdint>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace plsc::test {

namespace npy_detail {

struct Header {
  std::string text;
  size_t data_offset = 0;
};

inline Header read_header(const std::string& bytes, const std::string& path) {
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error(path + ": not a .npy file");
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const bool wide = byte(6) >= 2;  // version 1 has a 2-byte header length
  const size_t start = wide ? 12 : 10;
  const size_t length = byte(8) + (byte(9) << 8) + (wide ? (byte(10) << 16) + (byte(11) << 24) : 0);
  if (start + length > bytes.size()) throw std::runtime_error(path + ": header cut short");
  return {bytes.substr(start, length), start + length};
}

inline Dtype dtype_of(const std::string& header, const std::string& path) {
  if (header.find("'fortran_order': False") == std::string::npos) throw std::runtime_error(path + ": Fortran order");
  const struct {
    const char* code;
    Dtype dtype;
  } known[] = {
      {"'<f4'", Dtype::f32}, {"'<f8'", Dtype::f64}, {"'<i4'", Dtype::i32}, {"'<i8'", Dtype::i64}, {"'|u1'", Dtype::u8}};
  for (const auto& k : known)
    if (header.find(k.code) != std::string::npos) return k.dtype;
  throw std::runtime_error(path + ": element type of " + header);
}

inline Shape shape_of(const std::string& header) {
  size_t at = header.find('(', header.find("'shape'")) + 1;
  std::vector<int64_t> dims;
  while (header[at] != ')') {
    if (header[at] == ' ' || header[at] == ',') {
      ++at;
      continue;
    }
    size_t used = 0;
    dims.push_back(std::stoll(header.substr(at), &used));
    at += used;
  }
  return Shape(std::span<const int64_t>(dims.data(), dims.size()));
}

}  // namespace npy_detail

/// A host tensor with the file's shape and type. Throws std::runtime_error naming the path.
inline Tensor read_npy(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot be opened");
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto header = npy_detail::read_header(bytes, path);
  Tensor t(host_allocator(), npy_detail::shape_of(header.text), npy_detail::dtype_of(header.text, path));
  if (bytes.size() - header.data_offset != t.bytes()) throw std::runtime_error(path + ": size of data");
  std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(header.data_offset), bytes.end(), static_cast<char*>(t.raw()));
  return t;
}

}  // namespace plsc::test
