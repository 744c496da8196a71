// The head's ops: their memory is taken, their arithmetic counted. Of rows in a host's memory that a GPU reads and
// writes where they lie, what goes over the link between the two is counted apart.
#include <array>
#include <cmath>

#include "backend/dry/counting.h"
#include "backend/dry/dry_ops.h"

namespace plsc {
namespace {

using counting::bytes_of, counting::kValue, counting::number;

class DrySampledRows final : public SampledRows {
 public:
  DrySampledRows(Device& device, int64_t count) : device_(device), count_(count) {}
  Tensor get() override {
    if (!rows_.defined()) rows_ = device_.tensor({count_}, Dtype::i64);
    return rows_;
  }
  int64_t count() const { return count_; }

 private:
  Device& device_;
  int64_t count_;
  Tensor rows_;
};

/// A GPU's (backend/cuda/row_buffers_cuda.h).
class DryRowBuffers final : public RowBuffers {
 public:
  DryRowBuffers(Device& device, DryTally& tally, const RowTables& tables)
      : device_(device), tally_(tally), tables_(tables) {}

  void fetch(SampledRows& rows, const RowTurn*) override {
    const int64_t count = static_cast<DrySampledRows&>(rows).count();
    FetchedRows& to = buffers_[turn_];
    count_[turn_] = count;
    if (to.index.defined() && to.index.dim(0) >= count) return;
    const MemoryScope scope(device_, MemoryUse::head);
    to = {};
    to = FetchedRows::make(device_, tables_, row_buffer_room(count));
  }
  FetchedRows take() override { return buffers_[turn_].first(count_[turn_]); }
  /// Once each way, and in the device's own memory as often.
  void write_back() override {
    const FetchedRows rows = take();
    const double bytes = bytes_of(rows.weight) + bytes_of(rows.momentum);
    tally_.add({.bytes = 2 * bytes, .beside = 2 * bytes});
    turn_ = 1 - turn_;
  }
  void settle() override {}

 private:
  Device& device_;
  DryTally& tally_;
  RowTables tables_;
  std::array<FetchedRows, 2> buffers_;
  std::array<int64_t, 2> count_{};
  size_t turn_ = 0;
};

class DryHeadOps final : public HeadOps {
 public:
  DryHeadOps(DryDevice& device, OpMemory& memory, DryTally& tally,
             std::function<int64_t(const SampleRows&)> active_rows)
      : device_(device), memory_(memory), tally_(tally), active_rows_(std::move(active_rows)) {}

  void row_normalize(const Tensor& x, Tensor& y, Tensor&) override { moves(bytes_of(x) + bytes_of(y)); }
  void row_normalize_backward(const Tensor& y, const Tensor&, const Tensor& dy, Tensor& dx) override {
    moves(bytes_of(y) + bytes_of(dy) + bytes_of(dx));
  }
  void append_one(const Tensor& x, Tensor& y) override { moves(bytes_of(x) + bytes_of(y)); }
  void append_one_backward(const Tensor& dy, Tensor& dx) override { moves(bytes_of(dy) + bytes_of(dx)); }

  void init_rows(Tensor&, const RowDraws&) override {}
  std::unique_ptr<SampledRows> start_sample(const SampleRows& args) override {
    const int64_t active = active_rows_(args);
    left_out_ = args.classes == 0 ? 0 : 1 - static_cast<double>(active) / static_cast<double>(args.classes);
    return std::make_unique<DrySampledRows>(device_, active);
  }
  std::unique_ptr<RowBuffers> make_row_buffers(const RowTables& tables) override {
    if (device_.is_host()) return nullptr;
    return std::make_unique<DryRowBuffers>(device_, tally_, tables);
  }
  void find_rows(const Tensor& active, const Tensor&, Tensor&) override { moves(bytes_of(active)); }
  void target_pass(RowSource& rows, const HeadPass& pass, Tensor&) override {
    const auto targets = static_cast<double>(std::min(pass.x.dim(0), rows.count()));
    count(rows, {.bytes = bytes_of(pass.x)}, targets, stored(rows).read());
  }

  void forward_pass(RowSource& rows, const HeadPass& pass, HeadSums&) override {
    const double tiles = memory_.head_forward(rows, pass);
    count(rows, {.flop = product(rows, pass), .bytes = tiles, .type = pass.compute}, number(rows.count()),
          stored(rows).read());
  }
  void rescale_sums(Tensor&, const Tensor&, const Tensor&) override {}
  void loss(const HeadLossArgs&) override {}
  /// The cosines once more, and the products of the two gradients.
  void backward_pass(RowSource& rows, const HeadPass& pass, HeadGradient& gradient) override {
    const double tiles = memory_.head_backward(rows, pass, gradient.dx.dtype());
    const Stored row = stored(rows);
    DryWork work{.flop = 3 * product(rows, pass), .bytes = tiles, .type = pass.compute};
    if (gradient.dweight.defined()) work.bytes += (gradient.accumulate ? 2 : 1) * elements(rows) * kValue;
    // The gradient's last part is made of the rows, which are read once more where no cache keeps them.
    const bool again = tiles > 0 || (row.far && gradient.update.has_value());
    count(rows, work, number(rows.count()), (gradient.update ? row.change() : row.read()) + (again ? row.read() : 0));
  }

  void update_rows(RowSource& rows, const Tensor& dweight, const math::UpdateRule&) override {
    count(rows, {.bytes = bytes_of(dweight)}, number(rows.count()), stored(rows).change());
  }
  /// Rows that no step of the last `few` took, of those that are looked at.
  void catch_up_rows(RowSource& rows, int64_t few) override {
    const double looks = number(rows.count()) * 2 * sizeof(int64_t);
    count(rows, {.bytes = looks}, number(rows.count()) * std::pow(left_out_, number(few)), stored(rows).change());
  }
  void top_rows(RowSource& rows, const HeadPass& pass, TopRows&) override {
    count(rows, {.flop = product(rows, pass)}, number(rows.count()), stored(rows).read());
  }

 private:
  /// How an element of a row is stored.
  struct Stored {
    double weight = 0, momentum = 0;  // bytes
    bool lags = false, far = false;
    /// Bytes to read one: with its momentum, where it may lag.
    double read() const { return weight + (lags ? momentum : 0); }
    double change() const { return 2 * (weight + momentum); }
  };
  /// The first row tells of all.
  static Stored stored(RowSource& rows) {
    if (rows.count() == 0) return {};
    const RowTile tile = rows.open(0, 1, RowAccess::read);
    return {static_cast<double>(dtype_size(tile.weight_type)), static_cast<double>(dtype_size(tile.momentum_type)),
            tile.lag.last_update != nullptr, tile.far};
  }

  static double elements(const RowSource& rows) { return number(rows.count() * rows.columns()); }
  static double product(const RowSource& rows, const HeadPass& pass) {
    return 2 * elements(rows) * number(pass.x.dim(0));
  }
  /// `work`, and so many bytes of each element of `touched` rows.
  void count(RowSource& rows, DryWork work, double touched, double each) {
    const double bytes = touched * number(rows.columns()) * each;
    (stored(rows).far ? work.far : work.bytes) += bytes;
    tally_.add(work);
  }
  void moves(double bytes) { tally_.add({.bytes = bytes}); }

  DryDevice& device_;
  OpMemory& memory_;
  DryTally& tally_;
  std::function<int64_t(const SampleRows&)> active_rows_;
  double left_out_ = 0;  // the share of rows that a step does not take
};

}  // namespace

std::unique_ptr<HeadOps> make_dry_head_ops(DryDevice& device, OpMemory& memory, DryTally& tally,
                                           std::function<int64_t(const SampleRows&)> active_rows) {
  return std::make_unique<DryHeadOps>(device, memory, tally, std::move(active_rows));
}

}  // namespace plsc
