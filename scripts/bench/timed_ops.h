// Ops that time what they pass on, for the benches' --profile: seconds, calls and rate by kind of op and by shape.
#pragma once
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace plsc {

/// Seconds since construction: of the wall clock, or of this thread's CPU time, which holds on a busy machine too (use
/// it with one thread).
class BenchWatch {
 public:
  explicit BenchWatch(bool cpu_time) : clock_(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC), start_(now()) {}
  double seconds() const { return now() - start_; }

 private:
  double now() const {
    timespec t{};
    clock_gettime(clock_, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  clockid_t clock_;
  double start_;
};

class OpTimes {
 public:
  bool cpu_time = false;

  /// Runs `work` and books its time; `amount` is in FLOP or bytes, whichever the op is bound by.
  template <class Work>
  auto timed(const std::string& op, const std::string& shape, double amount, const char* unit, const Work& work) {
    struct Booking {
      ~Booking() {
        for (Entry* e : {&all[op], &all[op + " " + shape]}) {
          e->seconds += watch.seconds();
          e->amount += amount;
          e->unit = unit;
          ++e->calls;
        }
      }
      std::map<std::string, Entry>& all;
      const std::string &op, &shape;
      double amount;
      const char* unit;
      BenchWatch watch;
    } booking{entries_, op, shape, amount, unit, BenchWatch(cpu_time)};
    return work();
  }
  void clear() { entries_.clear(); }
  /// A step's share, the longest first.
  void print(double steps) const {
    std::vector<std::pair<std::string, Entry>> rows(entries_.begin(), entries_.end());
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    std::printf("%9s %7s %12s  %s\n", "ms/step", "calls", "rate", "op");
    for (const auto& [name, e] : rows)
      std::printf("%9.2f %7.1f %7.1f %s  %s\n", e.seconds / steps * 1e3, static_cast<double>(e.calls) / steps,
                  e.amount / e.seconds * 1e-9, e.unit, name.c_str());
  }

 private:
  struct Entry {
    double seconds = 0, amount = 0;
    int64_t calls = 0;
    const char* unit = "";
  };
  std::map<std::string, Entry> entries_;
};

class TimedConv final : public ConvOp {
 public:
  TimedConv(std::unique_ptr<ConvOp> op, const ConvSpec& s, OpTimes& times)
      : op_(std::move(op)),
        times_(times),
        shape_(fmt::format("{}x{}x{} {}->{} k{} s{}", s.batch, s.height, s.width, s.in_channels, s.out_channels,
                           s.kernel, s.stride)),
        flop_(2.0 * static_cast<double>(s.batch * s.out_height() * s.out_width()) *
              static_cast<double>(s.in_channels * s.out_channels * s.kernel * s.kernel)) {}
  void forward(const Tensor& x, const Tensor& w, Tensor& y) override {
    times_.timed("conv forward", shape_, flop_, kRate, [&] { op_->forward(x, w, y); });
  }
  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    times_.timed("conv backward data", shape_, flop_, kRate, [&] { op_->backward_data(dy, w, dx); });
  }
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dw, bool accumulate) override {
    times_.timed("conv backward weight", shape_, flop_, kRate, [&] { op_->backward_weight(x, dy, dw, accumulate); });
  }

 private:
  static constexpr const char* kRate = "GFLOP/s";
  std::unique_ptr<ConvOp> op_;
  OpTimes& times_;
  std::string shape_;
  double flop_;
};

class TimedLinear final : public LinearOp {
 public:
  TimedLinear(std::unique_ptr<LinearOp> op, const LinearSpec& s, OpTimes& times)
      : op_(std::move(op)),
        times_(times),
        flop_(2.0 * static_cast<double>(s.batch * s.out_features) *
              static_cast<double>(s.height * s.width * s.channels)) {}
  void forward(const Tensor& x, const Tensor& w, const Tensor& b, Tensor& y) override {
    times_.timed("linear forward", "", flop_, kRate, [&] { op_->forward(x, w, b, y); });
  }
  void backward_data(const Tensor& dy, const Tensor& w, Tensor& dx) override {
    times_.timed("linear backward data", "", flop_, kRate, [&] { op_->backward_data(dy, w, dx); });
  }
  void backward_weight(const Tensor& x, const Tensor& dy, Tensor& dw, Tensor& db, bool accumulate) override {
    times_.timed("linear backward weight", "", flop_, kRate, [&] { op_->backward_weight(x, dy, dw, db, accumulate); });
  }

 private:
  static constexpr const char* kRate = "GFLOP/s";
  std::unique_ptr<LinearOp> op_;
  OpTimes& times_;
  double flop_;
};

class TimedPool final : public PoolOp {
 public:
  TimedPool(std::unique_ptr<PoolOp> op, OpTimes& times) : op_(std::move(op)), times_(times) {}
  void forward(const Tensor& x, Tensor& y) override {
    times_.timed("pool forward", "", static_cast<double>(x.bytes() + y.bytes()), "GB/s", [&] { op_->forward(x, y); });
  }
  void backward(const Tensor& dy, Tensor& dx) override {
    times_.timed("pool backward", "", static_cast<double>(dx.bytes() + dy.bytes()), "GB/s",
                 [&] { op_->backward(dy, dx); });
  }

 private:
  std::unique_ptr<PoolOp> op_;
  OpTimes& times_;
};

class TimedNnOps final : public NnOps {
 public:
  TimedNnOps(std::unique_ptr<NnOps> ops, OpTimes& times) : ops_(std::move(ops)), times_(times) {}

  std::unique_ptr<ConvOp> make_conv(const ConvSpec& spec) override {
    return std::make_unique<TimedConv>(ops_->make_conv(spec), spec, times_);
  }
  std::unique_ptr<LinearOp> make_linear(const LinearSpec& spec) override {
    return std::make_unique<TimedLinear>(ops_->make_linear(spec), spec, times_);
  }
  std::unique_ptr<PoolOp> make_pool(const PoolSpec& spec) override {
    return std::make_unique<TimedPool>(ops_->make_pool(spec), times_);
  }
  void batch_norm_stats(const Tensor& x, Tensor& stats) override {
    time("batch norm stats", x, {&x}, [&] { ops_->batch_norm_stats(x, stats); });
  }
  void batch_norm_merge(const Tensor& gathered, float eps, Tensor& mean_rstd) override {
    time("batch norm merge", gathered, {&gathered}, [&] { ops_->batch_norm_merge(gathered, eps, mean_rstd); });
  }
  void batch_norm_fold(const Tensor& pooled, float momentum, Tensor& mean, Tensor& var) override {
    time("batch norm fold", pooled, {&pooled}, [&] { ops_->batch_norm_fold(pooled, momentum, mean, var); });
  }
  void batch_norm_apply(const BatchNormApply& a) override {
    time("batch norm apply", a.x, {&a.x, &a.residual, &a.y}, [&] { ops_->batch_norm_apply(a); });
  }
  void batch_norm_constants(const Tensor& mean, const Tensor& variance, float eps, Tensor& mean_rstd) override {
    ops_->batch_norm_constants(mean, variance, eps, mean_rstd);
  }
  void batch_norm_backward_sums(const BatchNormBackward& b) override {
    time("batch norm backward sums", b.dy, {&b.forward.x, &b.dy, &b.forward.y},
         [&] { ops_->batch_norm_backward_sums(b); });
  }
  void batch_norm_backward_apply(const BatchNormBackward& b) override {
    time("batch norm backward apply", b.dy, {&b.forward.x, &b.dy, &b.forward.y, &b.add, &b.dx, &b.dresidual},
         [&] { ops_->batch_norm_backward_apply(b); });
  }
  void dropout(const Dropout& args) override {
    time("dropout", args.x, {&args.x, &args.y}, [&] { ops_->dropout(args); });
  }
  void cast(const Tensor& from, Tensor& to) override {
    time("cast", from, {&from, &to}, [&] { ops_->cast(from, to); });
  }
  void add(const Tensor& x, Tensor& y) override {
    time("add", x, {&x, &y, &y}, [&] { ops_->add(x, y); });
  }

 private:
  template <class Work>
  void time(const char* op, const Tensor& shape, std::initializer_list<const Tensor*> touched, const Work& work) {
    double bytes = 0;
    for (const Tensor* t : touched) bytes += t->defined() ? static_cast<double>(t->bytes()) : 0.0;
    times_.timed(op, shape.shape().text(), bytes, "GB/s   ", work);
  }
  std::unique_ptr<NnOps> ops_;
  OpTimes& times_;
};

class TimedOptimOps final : public OptimOps {
 public:
  TimedOptimOps(std::unique_ptr<OptimOps> ops, OpTimes& times) : ops_(std::move(ops)), times_(times) {}
  void update(std::span<const ParamGroup> groups) override {
    double bytes = 0;
    for (const ParamGroup& group : groups)
      for (const Param* p : group.params) bytes += 5.0 * static_cast<double>(p->value.bytes());
    times_.timed("update", "", bytes, "GB/s   ", [&] { ops_->update(groups); });
  }
  void judge_gradients(std::span<const Tensor> gradients) override {
    double bytes = 0;
    for (const Tensor& t : gradients) bytes += static_cast<double>(t.bytes());
    times_.timed("gradient norm", "", bytes, "GB/s   ", [&] { ops_->judge_gradients(gradients); });
  }
  void check_finite(const Tensor& gradient) override { ops_->check_finite(gradient); }
  void average(std::span<Param* const> params, const math::AverageRule& rule) override { ops_->average(params, rule); }
  void squares(const Tensor& gradient, Tensor& sums) override { ops_->squares(gradient, sums); }
  void note_head_squares(const Tensor& sums) override { ops_->note_head_squares(sums); }
  void clip(Tensor& gradient) override { ops_->clip(gradient); }
  void finish_step() override { ops_->finish_step(); }

 private:
  std::unique_ptr<OptimOps> ops_;
  OpTimes& times_;
};

/// From now on the backend's network and optimizer ops book their time in `times`, which outlives it.
inline void time_ops(Backend& backend, OpTimes& times) {
  backend.nn = std::make_unique<TimedNnOps>(std::move(backend.nn), times);
  backend.optim = std::make_unique<TimedOptimOps>(std::move(backend.optim), times);
}

}  // namespace plsc
