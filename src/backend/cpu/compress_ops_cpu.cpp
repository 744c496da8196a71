// Sparse sums of gradients on the CPU, in pieces over threads.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/topk.h"
#include "kernels/cpu/update.h"

namespace plsc {
namespace {

using kernels::Candidates;
using kernels::CutCounts;
using kernels::UnsentRange;

void check_part(const UnsentPart& part) {
  const Shape shape{part.value.elements()};
  check_tensor("weights", part.value, shape, Dtype::f32);
  check_tensor("gradient", part.grad, shape, Dtype::f32);
  check_tensor("velocity", part.velocity, shape, Dtype::f32);
  check_tensor("unsent gradient", part.unsent, shape, Dtype::f32);
  if (part.squares.defined()) check_tensor("sums of squares", part.squares, {2}, Dtype::f64);
}

math::UnsentTerms terms_of(const UnsentPart& part, float weight_decay) {
  return {weight_decay, part.nodes, part.squares.defined() ? part.squares.data<double>() : nullptr};
}

UnsentRange range_of(const UnsentPart& part, int64_t begin, int64_t end) {
  return {part.grad.data<float>() + begin, part.value.data<float>() + begin, part.velocity.data<float>() + begin,
          part.unsent.data<float>() + begin, end - begin};
}

class CpuCompressOps final : public CompressOps {
 public:
  CpuCompressOps(Device& device, math::StepState* state) : threads_(device.threads()), state_(*state) {}

  void select(const UnsentPart& part, float weight_decay, Tensor& room, SentPart& to) override {
    check_part(part);
    const int64_t n = part.value.elements(), k = to.indices.elements();
    check_tensor("room", room, {n}, Dtype::f32);
    check_tensor("indices", to.indices, {k}, Dtype::i32);
    check_tensor("values", to.bits, {k}, Dtype::i32);
    PLSC_CHECK(to.first + n <= std::numeric_limits<int32_t>::max(), "{} elements from {}", n, to.first);
    auto* indices = to.indices.data<int32_t>();
    auto* bits = to.bits.data<int32_t>();
    std::fill_n(indices, k, math::kNothingSent);
    std::fill_n(bits, k, 0);
    if (n == 0 || k == 0) return;
    const math::SgdRule rule = math::unsent_rule(state_, terms_of(part, weight_decay));
    auto* x = room.data<float>();
    for_parts(n, kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
      kernels::accumulate_into(rule, range_of(part, begin, end), x + begin);
    });
    if (!select_of_candidates(x, n, k, to)) write(find_cut(x, n, k), x, n, to);
  }

  void keep_rest(const UnsentPart& part, float weight_decay, const SentPart& sent) override {
    check_part(part);
    if (math::updates_blocked(state_)) return;
    const math::SgdRule rule = math::unsent_rule(state_, terms_of(part, weight_decay));
    for_parts(part.value.elements(), kElementsPerPart, threads_,
              [&](int64_t begin, int64_t end, int) { kernels::accumulate(rule, range_of(part, begin, end)); });
    auto* u = part.velocity.data<float>();
    auto* v = part.unsent.data<float>();
    for (const int32_t index : sent.indices.span<int32_t>()) {
      if (index == math::kNothingSent) continue;
      u[index - sent.first] = 0;
      v[index - sent.first] = 0;
    }
  }

  void check_finite(const Tensor& sent) override {
    const int64_t parts = sent.dim(0), k = sent.dim(2);
    check_tensor("what was sent", sent, {parts, 2, k}, Dtype::i32);
    for (int64_t p = 0; p < parts; ++p) {
      const int32_t* bits = sent.data<int32_t>() + (2 * p + 1) * k;
      const bool found =
          std::any_of(bits, bits + k, [](int32_t b) { return math::bits_not_finite(static_cast<uint32_t>(b)); });
      if (found) math::mark_not_finite(state_, math::StepFailure::gradient);
    }
  }

  void scatter(const Tensor& sent, Tensor& sum) override {
    const int64_t parts = sent.dim(0), k = sent.dim(2);
    check_tensor("what was sent", sent, {parts, 2, k}, Dtype::i32);
    check_tensor("sum", sum, {sum.elements()}, Dtype::f32);
    auto* x = sum.data<float>();
    for_parts(sum.elements(), kElementsPerPart, threads_,
              [&](int64_t begin, int64_t end, int) { std::fill(x + begin, x + end, 0.0F); });
    const auto scale = static_cast<float>(state_.loss_scale.scale);
    for (int64_t p = 0; p < parts; ++p) {
      const int32_t* indices = sent.data<int32_t>() + 2 * p * k;
      for (int64_t i = 0; i < k; ++i) {
        if (indices[i] != math::kNothingSent) x[indices[i]] += scale * std::bit_cast<float>(indices[k + i]);
      }
    }
  }

  void descend(std::span<Param* const> params, const math::UpdateGroup& group) override {
    if (math::updates_blocked(state_)) return;
    const math::SgdRule rule = math::sgd_rule(math::step_rule(state_, group));
    for (Param* p : params) {
      check_tensor(p->name.c_str(), p->value, p->value.shape(), Dtype::f32);
      check_tensor(p->name.c_str(), p->grad, p->value.shape(), Dtype::f32);
      for_parts(p->value.elements(), kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
        kernels::descend(rule, p->grad.data<float>() + begin, p->value.data<float>() + begin, end - begin);
      });
    }
  }

  void clip(Tensor& gradient, const Tensor& squares, double bound) override {
    check_tensor("gradient", gradient, gradient.shape(), Dtype::f32);
    check_tensor("sums of squares", squares, {squares.elements()}, Dtype::f64);
    double sum = 0;
    for (const double s : squares.span<double>()) sum += s;
    const float factor = math::local_clip_factor(sum, state_.loss_scale.scale, bound);
    if (factor == 1) return;
    auto* x = gradient.data<float>();
    for_parts(gradient.elements(), kElementsPerPart, threads_,
              [&](int64_t begin, int64_t end, int) { kernels::scale(factor, x + begin, end - begin); });
  }

 private:
  math::TopkCut find_cut(const float* x, int64_t n, int64_t k) const {
    math::TopkCut cut;
    cut.left = k;
    const auto parts = static_cast<size_t>(parts_for(n, kElementsPerPart, threads_));
    for (int level = 0; level < math::kTopkLevels; ++level) {
      std::vector<int64_t> counts(parts * math::kTopkBins);
      for_parts(n, kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int p) {
        kernels::count_magnitudes(cut, level, x + begin, end - begin,
                                  counts.data() + static_cast<size_t>(p) * math::kTopkBins);
      });
      for (size_t i = math::kTopkBins; i < counts.size(); ++i) counts[i % math::kTopkBins] += counts[i];
      cut = kernels::narrow_cut(cut, level, counts.data());
    }
    return cut;
  }

  /// The k largest are among those that reach a bound, if that many do: one look at most elements, for five. false:
  /// too few do, or a bound is not worth its while.
  bool select_of_candidates(const float* x, int64_t n, int64_t k, SentPart& to) const {
    const uint32_t bound = kernels::sampled_bound(x, n, k);
    if (bound == 0) return false;
    std::vector<Candidates> found(static_cast<size_t>(parts_for(n, kElementsPerPart, threads_)));
    for_parts(n, kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int p) {
      kernels::add_candidates(bound, x + begin, end - begin, static_cast<int32_t>(begin),
                              found[static_cast<size_t>(p)]);
    });
    Candidates& all = found[0];
    for (size_t p = 1; p < found.size(); ++p) {
      all.indices.insert(all.indices.end(), found[p].indices.begin(), found[p].indices.end());
      all.values.insert(all.values.end(), found[p].values.begin(), found[p].values.end());
    }
    const auto candidates = static_cast<int64_t>(all.values.size());
    if (candidates < k) return false;
    const int64_t first = std::exchange(to.first, 0);
    write(find_cut(all.values.data(), candidates, k), all.values.data(), candidates, to);
    to.first = first;
    for (int32_t& index : to.indices.span<int32_t>())
      index = static_cast<int32_t>(first) + all.indices[static_cast<size_t>(index)];
    return true;
  }

  void write(const math::TopkCut& cut, const float* x, int64_t n, SentPart& to) const {
    std::vector<CutCounts> counts(static_cast<size_t>(parts_for(n, kElementsPerPart, threads_)));
    for_parts(n, kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int p) {
      counts[static_cast<size_t>(p)] = kernels::count_taken(cut, x + begin, end - begin);
    });
    for_parts(n, kElementsPerPart, threads_, [&](int64_t begin, int64_t end, int p) {
      CutCounts before;
      for (size_t q = 0; q < static_cast<size_t>(p); ++q) {
        before.above += counts[q].above;
        before.at += counts[q].at;
      }
      const int64_t at = before.above + std::min(before.at, cut.left);
      kernels::write_taken(cut, x + begin, end - begin, cut.left - before.at, static_cast<int32_t>(to.first + begin),
                           to.indices.data<int32_t>() + at, to.bits.data<int32_t>() + at);
    });
  }

  int threads_;
  math::StepState& state_;
};

}  // namespace

std::unique_ptr<CompressOps> make_cpu_compress_ops(Device& device, math::StepState* state) {
  return std::make_unique<CpuCompressOps>(device, state);
}

}  // namespace plsc
