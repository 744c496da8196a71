// Three products, one matmul primitive for each number of rows that occurs.
#include "backend/cpu/head_products.h"

namespace plsc {
namespace {

using dnnl::memory;

memory::desc matrix(int64_t rows, int64_t columns, memory::data_type type) {
  return memory::desc({rows, columns}, type, memory::format_tag::ab);
}
/// A stored (columns, rows) matrix read as its transpose.
memory::desc transposed(int64_t rows, int64_t columns, memory::data_type type) {
  return memory::desc({rows, columns}, type, memory::format_tag::ba);
}

/// Tiles of a few sizes come up again and again; this many are kept.
constexpr size_t kKeptPrimitives = 128;

void* unconst(const void* p) { return const_cast<void*>(p); }

}  // namespace

TileProducts::TileProducts(Allocator& memory, int64_t samples, int64_t columns, Dtype compute)
    : runtime_(memory), samples_(samples), columns_(columns), type_(dnnl_type(compute)) {}

std::unique_ptr<DnnlPrimitive> TileProducts::make(Product product, int64_t rows) const {
  constexpr auto kF32 = memory::data_type::f32;
  dnnl::primitive_attr attr = dnnl_attributes();
  dnnl_shim::SrcWeightsDst d;
  switch (product) {
    case Product::dots:
      d = {matrix(rows, columns_, type_), transposed(columns_, samples_, type_), matrix(rows, samples_, kF32)};
      break;
    case Product::row_gradient:
      d = {matrix(rows, samples_, type_), matrix(samples_, columns_, type_), matrix(rows, columns_, kF32)};
      break;
    case Product::sample_gradient: {
      d = {transposed(samples_, rows, type_), matrix(rows, columns_, type_), matrix(samples_, columns_, kF32)};
      dnnl::post_ops add;
      add.append_sum(1.0F);
      attr.set_post_ops(add);
      break;
    }
  }
  const auto desc = dnnl_shim::matmul(runtime_.engine, d, attr);
  return std::make_unique<DnnlPrimitive>(
      runtime_, dnnl::matmul(desc), desc,
      DnnlPrimitive::Layouts{{DNNL_ARG_SRC, d.src}, {DNNL_ARG_WEIGHTS, d.weights}, {DNNL_ARG_DST, d.dst}});
}

DnnlPrimitive& TileProducts::prepared(Product product, int64_t rows) {
  const std::pair key(product, rows);
  auto found = primitives_.find(key);
  if (found == primitives_.end()) {
    if (primitives_.size() >= kKeptPrimitives) primitives_.clear();
    const OneThreadPrimitives guard;
    found = primitives_.emplace(key, make(product, rows)).first;
  }
  return *found->second;
}

void TileProducts::multiply(Product product, int64_t rows, const Rows& r, const void* x) {
  const int64_t at_once = at_once_ > 0 ? at_once_ : rows;
  PLSC_CHECK(rows % at_once == 0, "{} rows, {} at once", rows, at_once);
  const auto row_bytes = r.from_columns * static_cast<int64_t>(dnnl::memory::data_type_size(type_));
  DnnlPrimitive& primitive = prepared(product, at_once);
  for (int64_t first = 0; first < rows; first += at_once) {
    primitive.run({{DNNL_ARG_SRC, static_cast<std::byte*>(unconst(r.from)) + first * row_bytes},
                   {DNNL_ARG_WEIGHTS, unconst(x)},
                   {DNNL_ARG_DST, r.to + first * r.to_columns}});
  }
}

void TileProducts::dots(int64_t rows, const void* w, const void* x, float* dots) {
  multiply(Product::dots, rows, {w, columns_, dots, samples_}, x);
}
void TileProducts::row_gradient(int64_t rows, const void* g, const void* x, float* u) {
  multiply(Product::row_gradient, rows, {g, samples_, u, columns_}, x);
}
void TileProducts::add_sample_gradient(int64_t rows, const void* g, const void* w, float* dx) {
  prepared(Product::sample_gradient, rows)
      .run({{DNNL_ARG_SRC, unconst(g)}, {DNNL_ARG_WEIGHTS, unconst(w)}, {DNNL_ARG_DST, dx}});
}

}  // namespace plsc
