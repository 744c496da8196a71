// Every rank finds its own k best classes for everybody's embeddings; the candidates are then gathered and merged.
#include "head/nearest.h"

#include <algorithm>
#include <limits>

#include "head/batch.h"

namespace plsc {
namespace {

struct Candidate {
  float cosine;
  int64_t id;
};

Tensor to_host(Context& context, const Tensor& t) {
  Tensor host(host_allocator(), t.shape(), t.dtype());
  context.device().copy(t, host);
  return host;
}

template <class T>
std::vector<T> gather_host(Context& context, const Tensor& t) {
  Tensor all(host_allocator(), {context.ranks() * t.elements()}, t.dtype());
  context.host.all_gather(t, all, "nearest classes");
  return all.values<T>();
}

}  // namespace

MarginHead::Nearest nearest_classes(Context& context, const ShardRows& all, const Tensor& embeddings, int64_t k) {
  PLSC_CHECK(k >= 1);
  const int64_t mine = embeddings.dim(0);
  const std::vector<int64_t> counts = gather_values(context.host, mine);
  const int64_t part = *std::ranges::max_element(counts), places = context.ranks() * part;
  MarginHead::Nearest out{Tensor(host_allocator(), {mine, k}, Dtype::i64),
                          Tensor(host_allocator(), {mine, k}, Dtype::f32)};
  if (part == 0) return out;

  const HeadInput input(context, all.form, embeddings);
  HeadPass pass;
  pass.x = finish_rows(context, start_gather_rows(context, input.rows(), part), "embeddings");
  pass.unit_rows = !all.form.linear;
  pass.logits = all.form.logits;
  TopRows top{context.device().tensor({places, k}), context.device().tensor({places, k}, Dtype::i64)};
  context.backend.head->top_rows(all.rows, pass, top);
  Tensor ids = to_host(context, top.rows);
  for (int64_t& id : ids.span<int64_t>()) id = id < 0 ? std::numeric_limits<int64_t>::max() : id + all.shard.begin;
  const auto cosines = gather_host<float>(context, to_host(context, top.cosines));
  const auto classes = gather_host<int64_t>(context, ids);

  for (int64_t i = 0; i < mine; ++i) {
    std::vector<Candidate> candidates;
    for (int r = 0; r < context.ranks(); ++r) {
      const int64_t at = ((r * context.ranks() + context.rank()) * part + i) * k;
      for (int64_t n = at; n < at + k; ++n) {
        candidates.push_back({cosines[static_cast<size_t>(n)], classes[static_cast<size_t>(n)]});
      }
    }
    std::partial_sort(candidates.begin(), candidates.begin() + k, candidates.end(), [](const auto& a, const auto& b) {
      return a.cosine != b.cosine ? a.cosine > b.cosine : a.id < b.id;
    });
    for (int64_t n = 0; n < k; ++n) {
      const Candidate& c = candidates[static_cast<size_t>(n)];
      const bool present = c.id != std::numeric_limits<int64_t>::max();
      out.classes.data<int64_t>()[i * k + n] = present ? c.id : -1;
      out.cosines.data<float>()[i * k + n] = c.cosine;
    }
  }
  return out;
}

}  // namespace plsc
