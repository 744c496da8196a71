// The head's ops on a CPU: the small ones here, the passes over tiles in head_forward.cpp, head_backward.cpp and
// head_top.cpp.
#include "backend/cpu/head_ops_cpu.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "backend/cpu/head_passes.h"
#include "backend/cpu/parts.h"
#include "backend/cpu/row_change.h"
#include "kernels/math/rng.h"
#include "kernels/math/softmax_loss.h"

namespace plsc {
namespace {

class CpuHeadOps final : public HeadOps {
 public:
  CpuHeadOps(Device& device, math::StepState* state)
      : device_(device), threads_(device.threads()), state_(*state), work_(device, threads_) {}

  void row_normalize(const Tensor& x, Tensor& y, Tensor& norm) override;
  void row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) override;
  void append_one(const Tensor& x, Tensor& y) override;
  void append_one_backward(const Tensor& dy, Tensor& dx) override;
  void init_rows(Tensor& rows, const RowDraws& draws) override;
  std::unique_ptr<SampledRows> start_sample(const SampleRows& args) override;
  std::unique_ptr<RowBuffers> make_row_buffers(const RowTables&) override { return nullptr; }
  void find_rows(const Tensor& active, const Tensor& rows, Tensor& position) override;
  void target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) override;
  void forward_pass(RowSource& rows, const HeadPass& pass, HeadSums& sums) override {
    cpu_forward_pass(work_, rows, pass, sums);
  }
  void rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) override;
  void loss(const HeadLossArgs& args) override;
  void backward_pass(RowSource& rows, const HeadPass& pass, HeadGradient& gradient) override {
    cpu_backward_pass(work_, rows, pass, gradient, state_);
  }
  void update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& rule) override;
  void catch_up_rows(RowSource& rows, int64_t few) override;
  void top_rows(RowSource& rows, const HeadPass& pass, TopRows& top) override { cpu_top_rows(work_, rows, pass, top); }

 private:
  void apply_loss_scale(Tensor& dx) const;
  /// f(tile, row of the tile, active row, buffers) for each active row, opened for update, in parallel.
  template <class F>
  void change_rows(RowSource& rows, const F& f);

  Device& device_;
  int threads_;
  math::StepState& state_;
  HeadWorkspace work_;
};

/// Rows of a few hundred columns: fewer than this many are not worth another thread.
constexpr int64_t kRowsPerPart = 64;

void CpuHeadOps::row_normalize(const Tensor& x, Tensor& y, Tensor& norm) {
  const int64_t columns = x.dim(1);
  for_parts(x.dim(0), kRowsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      norm.data<float>()[i] =
          kernels::row_normalize(x.data<float>() + i * columns, columns, y.data<float>() + i * columns);
    }
  });
}

void CpuHeadOps::row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) {
  const int64_t columns = y.dim(1);
  for_parts(y.dim(0), kRowsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      kernels::row_normalize_backward(y.data<float>() + i * columns, norm.data<float>()[i],
                                      dy.data<float>() + i * columns, columns, dx.data<float>() + i * columns);
    }
  });
  apply_loss_scale(dx);
}

void CpuHeadOps::append_one(const Tensor& x, Tensor& y) {
  const int64_t columns = x.dim(1), wide = y.dim(1);
  for (int64_t i = 0; i < x.dim(0); ++i) {
    float* to = std::copy_n(x.data<float>() + i * columns, columns, y.data<float>() + i * wide);
    *to = 1;
    std::fill_n(to + 1, wide - columns - 1, 0.0F);
  }
}

void CpuHeadOps::append_one_backward(const Tensor& dy, Tensor& dx) {
  const int64_t columns = dx.dim(1), wide = dy.dim(1);
  for (int64_t i = 0; i < dx.dim(0); ++i) {
    std::copy_n(dy.data<float>() + i * wide, columns, dx.data<float>() + i * columns);
  }
  apply_loss_scale(dx);
}

void CpuHeadOps::apply_loss_scale(Tensor& dx) const {
  const auto scale = static_cast<float>(state_.loss_scale.scale);
  if (scale == 1.0F) return;
  for (float& value : dx.span<float>()) value *= scale;
}

void CpuHeadOps::init_rows(Tensor& rows, const RowDraws& draws) {
  const int64_t columns = rows.dim(1), drawn = columns - draws.zero_columns;
  for_parts(rows.dim(0), kRowsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    std::vector<float> buffer(static_cast<size_t>(columns));
    for (int64_t j = begin; j < end; ++j) {
      kernels::row_init(draws.seed, draws.first_class + j, draws.std, drawn, buffer.data());
      if (rows.dtype() == Dtype::f32) {
        std::ranges::copy(buffer, rows.data<float>() + j * columns);
        continue;
      }
      kernels::cast(buffer.data(), reinterpret_cast<kernels::Bf16*>(rows.data<bf16_t>()) + j * columns, columns);
    }
  });
}

class FoundRows final : public SampledRows {
 public:
  explicit FoundRows(Tensor rows) : rows_(std::move(rows)) {}
  Tensor get() override { return rows_; }

 private:
  Tensor rows_;
};

std::unique_ptr<SampledRows> CpuHeadOps::start_sample(const SampleRows& args) {
  const auto positives = args.positives.span<int64_t>();
  const kernels::SampledClasses sample{args.seed, args.step, math::sample_limit(args.threshold)};
  constexpr int64_t kBlock = 4096;
  std::vector<std::vector<int64_t>> parts(static_cast<size_t>(threads_));
  parallel_ranges(args.classes, threads_, [&](int64_t begin, int64_t end, int part) {
    std::vector<int64_t> found(kBlock);
    auto& out = parts[static_cast<size_t>(part)];
    auto positive = std::lower_bound(positives.begin(), positives.end(), begin);
    for (int64_t block = begin; block < end; block += kBlock) {
      const int64_t stop = std::min(end, block + kBlock);
      const int64_t number = kernels::sampled_classes(sample, args.first_class + block, stop - block, found.data());
      for (int64_t i = 0; i < number; ++i) found[static_cast<size_t>(i)] -= args.first_class;
      const auto last = std::lower_bound(positive, positives.end(), stop);
      std::set_union(found.begin(), found.begin() + number, positive, last, std::back_inserter(out));
      positive = last;
    }
  });
  int64_t count = 0;
  for (const auto& part : parts) count += static_cast<int64_t>(part.size());
  Tensor active = device_.tensor({count}, Dtype::i64);
  int64_t* to = active.data<int64_t>();
  for (const auto& part : parts) to = std::copy(part.begin(), part.end(), to);
  return std::make_unique<FoundRows>(std::move(active));
}

void CpuHeadOps::find_rows(const Tensor& active, const Tensor& rows, Tensor& position) {
  const auto all = active.span<int64_t>(), wanted = rows.span<int64_t>();
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto found = std::ranges::lower_bound(all, wanted[i]);
    const bool there = wanted[i] >= 0 && found != all.end() && *found == wanted[i];
    position.data<int64_t>()[i] = there ? found - all.begin() : -1;
  }
}

void CpuHeadOps::target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) {
  const int64_t columns = rows.columns();
  const auto position = pass.position.span<int64_t>();
  for_parts(pass.x.dim(0), kRowsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    RowScratch buffers(columns);
    for (int64_t i = begin; i < end; ++i) {
      double& result = cosine.data<double>()[i];
      result = 0;
      if (position[static_cast<size_t>(i)] < 0) continue;
      const RowTile tile = rows.open(position[static_cast<size_t>(i)], 1, RowAccess::read);
      const float* w = current_row(tile, tile.stored_row(0), columns, buffers);
      float inverse = 1;
      if (pass.unit_rows) kernels::row_inverse_norms(w, 1, columns, &inverse);
      result = kernels::row_dot(pass.x.data<float>() + i * columns, w, columns) * inverse;
      rows.close(tile, RowAccess::read);
    }
  });
}

void CpuHeadOps::rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) {
  for (int64_t i = 0; i < sum.elements(); ++i) {
    double& s = sum.data<double>()[i];
    if (s != 0) s *= std::exp(double{from.data<float>()[i]} - double{to.data<float>()[i]});
  }
}

void CpuHeadOps::loss(const HeadLossArgs& args) {
  double loss = 0, correct = 0, intra = 0;
  for (int64_t i = 0; i < args.sum.elements(); ++i) {
    float& log_sum = args.log_sum.data<float>()[i];
    float& gradient = args.target_gradient.data<float>()[i];
    if (args.labels.data<int64_t>()[i] < 0) {
      log_sum = std::numeric_limits<float>::infinity();
      gradient = 0;
      continue;
    }
    const double cosine = args.target_cosine.data<double>()[i];
    const math::SampleSums sums{args.sum.data<double>()[i], args.shift.data<float>()[i], cosine};
    const math::SampleLoss one = math::sample_loss(args.rule, sums, args.gradient_scale);
    loss += one.loss;
    intra += one.intra;
    correct += cosine > double{args.max_cosine.data<float>()[i]} ? 1 : 0;
    log_sum = one.log_sum;
    gradient = one.target_gradient;
  }
  Tensor result = args.result;
  result.data<double>()[0] = loss;
  result.data<double>()[1] = correct;
  result.data<double>()[2] = intra;
  if (!std::isfinite(loss)) math::mark_not_finite(state_, math::StepFailure::loss);
}

template <class F>
void CpuHeadOps::change_rows(RowSource& rows, const F& f) {
  for_parts(rows.count(), kRowsPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    constexpr int64_t kRows = 256;  // opened at a time
    RowScratch buffers(rows.columns());
    for (int64_t first = begin; first < end; first += kRows) {
      const RowTile tile = rows.open(first, std::min(kRows, end - first), RowAccess::update);
      for (int64_t i = 0; i < tile.count; ++i) f(tile, i, first + i, buffers);
      rows.close(tile, RowAccess::update);
    }
  });
}

void CpuHeadOps::update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& rule) {
  if (math::updates_blocked(state_)) return;
  const int64_t columns = rows.columns();
  const RowUpdate update(rule, state_);
  change_rows(rows, [&](const RowTile& tile, int64_t i, int64_t active, RowScratch& buffers) {
    if (!tile.in_order() && i + kRowsAhead < tile.count) {
      const int64_t soon = tile.stored_row(i + kRowsAhead);
      ask_for_weights(tile, soon, columns);
      ask_for_momentum(tile, soon, columns);
    }
    // dweight is d loss / dw already.
    step_row(tile, tile.stored_row(i), {dweight.data<float>() + active * columns, 0, columns}, update, buffers);
  });
}

void CpuHeadOps::catch_up_rows(RowSource& rows, int64_t few) {
  change_rows(rows, [&](const RowTile& tile, int64_t i, int64_t, RowScratch& buffers) {
    const int64_t row = tile.stored_row(i);
    if (tile.lag.last_update != nullptr && tile.lag.next - tile.lag.last_update[row] > few)
      catch_up_row(tile, row, rows.columns(), buffers);
  });
}

}  // namespace

std::unique_ptr<HeadOps> make_cpu_head_ops(Device& device, math::StepState* state) {
  return std::make_unique<CpuHeadOps>(device, state);
}

}  // namespace plsc
