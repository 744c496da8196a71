// The classes nearest to each sample: a short sorted list per sample and thread, merged in thread order. Threads own
// ascending runs of rows, so that equal cosines stay in the order of their rows.
#include <algorithm>
#include <limits>

#include "backend/cpu/head_passes.h"
#include "base/threads.h"

namespace plsc {
namespace {

struct Candidate {
  float cosine;
  int64_t row;
};

/// The k best seen so far, best first. Rows come in ascending order: an equal one comes behind.
class BestList {
 public:
  explicit BestList(size_t k) : k_(k) {}
  void offer(Candidate c) {
    if (!(list_.size() < k_ || c.cosine > list_.back().cosine)) return;
    if (list_.size() == k_) list_.pop_back();
    const auto place = std::upper_bound(list_.begin(), list_.end(), c,
                                        [](const auto& a, const auto& b) { return a.cosine > b.cosine; });
    list_.insert(place, c);
  }
  const std::vector<Candidate>& list() const { return list_; }

 private:
  size_t k_;
  std::vector<Candidate> list_;
};

void tile(HeadWorkspace& work, RowSource& rows, int64_t t, TileScratch& s, float limit, std::vector<BestList>& best) {
  const TilePlan& plan = work.plan();
  const PreparedTile tile = s.prepare(rows, plan.begin(t), plan.count(t), RowAccess::read);
  float* dots = s.dots.data<float>();
  s.products.dots(tile.padded, tile.operand, work.x(), dots);
  rows.close(tile.source, RowAccess::read);
  for (int64_t j = 0; j < tile.count; ++j) {
    const float inverse = s.inverse.data<float>()[j];
    const float* row = dots + j * work.padded_samples();
    for (size_t i = 0; i < best.size(); ++i) {
      best[i].offer({std::clamp(row[i] * inverse, -limit, limit), plan.begin(t) + j});
    }
  }
}

}  // namespace

void cpu_top_rows(HeadWorkspace& work, RowSource& rows, const HeadPass& pass, TopRows& top) {
  const int64_t samples = pass.x.dim(0), k = top.rows.dim(1);
  HeadPass in_fp32 = pass;
  in_fp32.compute = Dtype::f32;
  work.prepare(rows, in_fp32);
  work.set_samples(pass.x);
  const auto threads = static_cast<size_t>(work.threads());
  std::vector<std::vector<BestList>> best(
      threads, std::vector<BestList>(static_cast<size_t>(samples), BestList(static_cast<size_t>(k))));
  parallel_ranges(work.plan().tiles, work.threads(), [&](int64_t begin, int64_t end, int part) {
    auto& lists = best[static_cast<size_t>(part)];
    for (int64_t t = begin; t < end; ++t) tile(work, rows, t, work.scratch(part), pass.logits.limit, lists);
  });
  for (int64_t i = 0; i < samples; ++i) {
    BestList merged(static_cast<size_t>(k));
    for (const auto& lists : best) {
      for (const Candidate& c : lists[static_cast<size_t>(i)].list()) merged.offer(c);
    }
    for (int64_t n = 0; n < k; ++n) {
      const bool present = n < static_cast<int64_t>(merged.list().size());
      const Candidate c =
          present ? merged.list()[static_cast<size_t>(n)] : Candidate{-std::numeric_limits<float>::infinity(), -1};
      top.cosines.data<float>()[i * k + n] = c.cosine;
      top.rows.data<int64_t>()[i * k + n] = c.row;
    }
  }
}

}  // namespace plsc
