// Ops that mark on a timeline where their work begins and ends: the head's passes and the copy of the input, which
// are never part of what a device records.
#pragma once
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "scripts/bench/timeline.h"

namespace plsc {

/// What follows a marked op of the head: the small ones around its passes.
inline constexpr const char* kRestOfHead = "head, rest";

class MarkingHeadOps final : public HeadOps {
 public:
  MarkingHeadOps(std::unique_ptr<HeadOps> ops, Timeline& line) : ops_(std::move(ops)), line_(line) {}

  void forward_pass(RowSource& rows, const HeadPass& pass, HeadSums& sums) override {
    line_.mark("head forward");
    ops_->forward_pass(rows, pass, sums);
    line_.mark(kRestOfHead);
  }
  void backward_pass(RowSource& rows, const HeadPass& pass, HeadGradient& gradient) override {
    line_.mark("head backward");
    ops_->backward_pass(rows, pass, gradient);
    line_.mark(kRestOfHead);
  }
  void row_normalize(const Tensor& x, Tensor& y, Tensor& norm) override { ops_->row_normalize(x, y, norm); }
  void row_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, Tensor& dx) override {
    ops_->row_normalize_backward(y, norm, dy, dx);
  }
  void append_one(const Tensor& x, Tensor& y) override { ops_->append_one(x, y); }
  void append_one_backward(const Tensor& dy, Tensor& dx) override { ops_->append_one_backward(dy, dx); }
  void init_rows(Tensor& rows, const RowDraws& draws) override { ops_->init_rows(rows, draws); }
  std::unique_ptr<SampledRows> start_sample(const SampleRows& args) override { return ops_->start_sample(args); }
  std::unique_ptr<RowBuffers> make_row_buffers(const RowTables& tables) override {
    return ops_->make_row_buffers(tables);
  }
  void find_rows(const Tensor& active, const Tensor& rows, Tensor& position) override {
    ops_->find_rows(active, rows, position);
  }
  void target_pass(RowSource& rows, const HeadPass& pass, Tensor& cosine) override {
    ops_->target_pass(rows, pass, cosine);
  }
  void rescale_sums(Tensor& sum, const Tensor& from, const Tensor& to) override { ops_->rescale_sums(sum, from, to); }
  void loss(const HeadLossArgs& args) override { ops_->loss(args); }
  void update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule& update) override {
    ops_->update_rows(rows, dweight, update);
  }
  void catch_up_rows(RowSource& rows, int64_t few) override { ops_->catch_up_rows(rows, few); }
  void top_rows(RowSource& rows, const HeadPass& pass, TopRows& top) override { ops_->top_rows(rows, pass, top); }

 private:
  std::unique_ptr<HeadOps> ops_;
  Timeline& line_;
};

class MarkingImageOps final : public ImageOps {
 public:
  MarkingImageOps(std::unique_ptr<ImageOps> ops, Timeline& line) : ops_(std::move(ops)), line_(line) {}
  void normalize(const ImageNormalize& args) override {
    line_.mark("input");
    ops_->normalize(args);
    line_.mark("backbone forward");
  }

 private:
  std::unique_ptr<ImageOps> ops_;
  Timeline& line_;
};

/// From now on the backend's head and input mark on `line`, which outlives the backend's use.
inline void mark_ops(Backend& backend, Timeline& line) {
  backend.head = std::make_unique<MarkingHeadOps>(std::move(backend.head), line);
  backend.image = std::make_unique<MarkingImageOps>(std::move(backend.image), line);
}

}  // namespace plsc
