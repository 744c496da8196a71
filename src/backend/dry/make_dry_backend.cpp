// Puts the dry backend together; its optimizer and its images are here, as there is little to them.
#include "backend/dry/dry_ops.h"
#include "base/error.h"
#include "kernels/math/topk.h"

namespace plsc {
namespace {

/// What an update reads and writes of a parameter, in times its values: weights and moments both ways, and once more
/// what the norms of a trust ratio are made of. Beside that the gradient, `gradients` times.
struct UpdateTraffic {
  double values = 0, gradients = 1;
};
UpdateTraffic traffic(const math::UpdateGroup& group) {
  switch (group.kind) {
    case math::UpdateKind::sgd:
      return {4, 1};
    case math::UpdateKind::adamw:
      return {6, 1};
    case math::UpdateKind::lars:
      return group.layer_wise ? UpdateTraffic{5, 2} : UpdateTraffic{4, 1};
    case math::UpdateKind::lamb:
      return group.layer_wise ? UpdateTraffic{9, 1} : UpdateTraffic{6, 1};
  }
  return {};
}

class DryOptimOps final : public OptimOps {
 public:
  explicit DryOptimOps(DryTally& tally) : tally_(tally) {}
  void judge_gradients(std::span<const Tensor> gradients) override {
    double bytes = 0;
    for (const Tensor& t : gradients) bytes += static_cast<double>(t.bytes());
    tally_.add({0, bytes});
  }
  void squares(const Tensor& gradient, Tensor&) override { tally_.add({0, static_cast<double>(gradient.bytes())}); }
  void note_head_squares(const Tensor&) override {}
  void clip(Tensor& gradient) override { tally_.add({0, 2 * static_cast<double>(gradient.bytes())}); }
  void check_finite(const Tensor& gradient) override { tally_.add({0, static_cast<double>(gradient.bytes())}); }
  void update(std::span<const ParamGroup> groups) override {
    double bytes = 0;
    for (const ParamGroup& group : groups) {
      const UpdateTraffic each = traffic(group.rule);
      for (const Param* p : group.params)
        bytes +=
            each.gradients * static_cast<double>(p->grad.bytes()) + each.values * static_cast<double>(p->value.bytes());
    }
    tally_.add({0, bytes});
  }
  void average(std::span<Param* const> params, const math::AverageRule& rule) override {
    double bytes = 0;
    for (const Param* p : params) bytes += 3 * static_cast<double>(p->value.bytes());
    tally_.add({0, bytes / static_cast<double>(rule.every)});
  }
  void finish_step() override {}

 private:
  DryTally& tally_;
};

/// Sparse sums: passes over the elements of a part, and what is little beside them is left out.
class DryCompressOps final : public CompressOps {
 public:
  explicit DryCompressOps(DryTally& tally) : tally_(tally) {}
  void select(const UnsentPart& part, float, Tensor&, SentPart&) override {
    // Four arrays are read and one is written, which the three histograms, the counting and the writing read again.
    add(part.value, 5 + math::kTopkLevels + 2);
  }
  void keep_rest(const UnsentPart& part, float, const SentPart&) override { add(part.value, 6); }
  void check_finite(const Tensor& sent) override { add(sent, 0.5); }
  void scatter(const Tensor& sent, Tensor& sum) override {
    tally_.add({0, static_cast<double>(3 * sent.bytes() + sum.bytes())});
  }
  void descend(std::span<Param* const> params, const math::UpdateGroup&) override {
    for (const Param* p : params) add(p->value, 3);
  }
  void clip(Tensor& gradient, const Tensor&, double) override { add(gradient, 2); }

 private:
  void add(const Tensor& t, double times) { tally_.add({0, times * static_cast<double>(t.bytes())}); }
  DryTally& tally_;
};

class DryImageOps final : public ImageOps {
 public:
  DryImageOps(OpMemory& memory, DryTally& tally) : memory_(memory), tally_(tally) {}
  void normalize(const ImageNormalize& args) override {
    memory_.upload(args.bytes);
    tally_.add({0, static_cast<double>(args.bytes.bytes() + args.y.bytes())});
  }

 private:
  OpMemory& memory_;
  DryTally& tally_;
};

}  // namespace

Backend make_dry_backend(const DryOptions& options, DryTally& tally) {
  Backend backend;
  auto device = std::make_unique<DryDevice>(options.kind, options.threads, options.gpu, &tally);
  DryDevice& dry = *device;
  backend.device = std::move(device);
  const std::shared_ptr<OpMemory> memory =
      options.kind == DeviceKind::cpu ? make_cpu_op_memory(dry) : make_gpu_op_memory(dry, options.gpu);
  backend.libraries = memory;
  backend.step_state = make_step_state(dry);
  backend.nn = make_dry_nn_ops(dry, *memory, tally);
  backend.head = make_dry_head_ops(dry, *memory, tally, options.active_rows);
  backend.neighbours = make_dry_neighbour_ops(dry, *memory);
  backend.optim = std::make_unique<DryOptimOps>(tally);
  backend.compress = std::make_unique<DryCompressOps>(tally);
  backend.image = std::make_unique<DryImageOps>(*memory, tally);
  return backend;
}

}  // namespace plsc
