// The .npy header, and rows behind it.
#include "eval/npy.h"

#include "base/error.h"

namespace plsc {
namespace {

// Magic, version, the length of the text in 2 bytes, the text padded so that the data begin on a multiple of 64.
std::string npy_header(const Shape& shape) {
  std::string dims;
  for (int64_t d : shape.dims()) dims += std::to_string(d) + ",";
  std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + dims + "), }";
  constexpr size_t kBefore = 10, kAlign = 64;
  const size_t total = (kBefore + text.size() + 1 + kAlign - 1) / kAlign * kAlign;
  text.resize(total - kBefore - 1, ' ');
  text += '\n';
  std::string header = "\x93NUMPY";
  header += '\x01';
  header += '\0';
  header += static_cast<char>(text.size() & 0xFF);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace

NpyWriter::NpyWriter(const std::string& path, Shape shape) : file_(path), shape_(shape) {
  PLSC_CHECK(shape.size() >= 1);
  file_.write(npy_header(shape));
}

void NpyWriter::append(const Tensor& rows) {
  PLSC_CHECK(rows.on_host() && rows.dtype() == Dtype::f32, "rows to {}", file_.path());
  PLSC_CHECK(rows.shape().size() == shape_.size() && rows_ + rows.dim(0) <= shape_[0], "{} at row {} of {}",
             rows.shape().text(), rows_, shape_.text());
  for (int i = 1; i < shape_.size(); ++i) PLSC_CHECK(rows.dim(i) == shape_[i]);
  file_.write({static_cast<const std::byte*>(rows.raw()), rows.bytes()});
  rows_ += rows.dim(0);
}

void NpyWriter::finish() {
  PLSC_CHECK(rows_ == shape_[0], "{}: {} of {} rows written", file_.path(), rows_, shape_[0]);
  file_.publish();
}

}  // namespace plsc
