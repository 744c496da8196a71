#include "train/compressed_state.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace plsc {
namespace {

constexpr const char* kGroup = "compressed";
constexpr const char* kMomentum = "momentum.";
constexpr const char* kUnsent = "unsent.";
constexpr const char* kOptimizer = "optimizer";  // of gradients that are sent whole

/// A tensor of a checkpoint: one for each of `nodes` nodes, `whole` elements apart.
struct Stored {
  std::string group, name;
  int64_t nodes = 1, whole = 0;
};

std::optional<Stored> find_stored(const CheckpointReader& reader, const char* kind, const Param& p, int64_t nodes) {
  const std::string name = kind + p.name;
  if (const auto found = reader.find(kGroup, name)) {
    const int64_t all = found->shape.elements();
    if (nodes < 1 || found->shape.size() != 1 || found->dtype != Dtype::f32 || all % nodes != 0 ||
        all / nodes < p.value.elements()) {
      fail_hint("use another checkpoint", "{}: '{}' is {} of {}, expected fp32 values of {} nodes for {} elements each",
                reader.folder(), name, dtype_name(found->dtype), found->shape.text(), nodes, p.value.elements());
    }
    return Stored{kGroup, name, nodes, all / nodes};
  }
  if (const auto found = reader.find(kOptimizer, name); found && found->shape == p.value.shape())
    return Stored{kOptimizer, name, 1, p.value.elements()};
  return std::nullopt;
}

/// Elements [begin, begin + to.elements()) of one node's.
void read_node(Context& context, const CheckpointReader& reader, const Stored& from, int64_t node, int64_t begin,
               Tensor& to) {
  if (from.group == kGroup) return reader.read_rows(context, from.group, from.name, node * from.whole + begin, to);
  Tensor all(host_allocator(), reader.find(from.group, from.name)->shape, Dtype::f32);
  reader.read(context, from.group, from.name, all);
  std::copy_n(all.data<float>() + begin, to.elements(), to.data<float>());
}

void fill(Context& context, const CheckpointReader& reader, const Stored& from, const GradientPart& part,
          int64_t elements, Tensor to) {
  const int64_t count = std::clamp<int64_t>(elements - part.begin, 0, part.size);
  if (count == 0) return;
  Tensor own(host_allocator(), {count}, Dtype::f32);
  if (from.nodes == part.nodes) {
    read_node(context, reader, from, part.node, part.begin, own);
  } else {
    std::vector<double> sums(static_cast<size_t>(count));
    for (int64_t node = 0; node < from.nodes; ++node) {
      read_node(context, reader, from, node, part.begin, own);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(own.data<float>()[i]);
    }
    for (size_t i = 0; i < sums.size(); ++i)
      own.data<float>()[i] = static_cast<float>(sums[i] / static_cast<double>(part.nodes));
  }
  Tensor target = to.slice(0, {count});
  context.device().copy(own, target);
}

}  // namespace

int64_t collect_compressed(const std::vector<Param*>& params, CheckpointContent& content) {
  int64_t nodes = 0;
  for (const Param* p : params) {
    const GradientPart& part = p->part;
    if (!part.defined()) continue;
    nodes = part.nodes;
    const int64_t begin = part.node * part.whole + part.begin, total = part.nodes * part.whole;
    content.compressed.push_back({kMomentum + p->name, p->momentum, begin, total});
    content.compressed.push_back({kUnsent + p->name, p->unsent, begin, total});
  }
  return nodes;
}

void restore_compressed(Context& context, const CheckpointReader& reader, const std::vector<Param*>& params,
                        int64_t stored_nodes) {
  bool split = false, left = false;
  for (Param* p : params) {
    if (!p->trainable()) continue;
    const auto momentum = find_stored(reader, kMomentum, *p, stored_nodes),
               unsent = find_stored(reader, kUnsent, *p, stored_nodes);
    if (p->part.defined()) {
      if (momentum) fill(context, reader, *momentum, p->part, p->value.elements(), p->momentum);
      if (unsent) fill(context, reader, *unsent, p->part, p->value.elements(), p->unsent);
      split = split || (momentum && momentum->nodes != p->part.nodes);
    } else if (momentum && momentum->group == kGroup) {
      if (!p->momentum.defined()) p->momentum = context.device().tensor(p->value.shape());
      const int64_t n = p->value.elements();
      fill(context, reader, *momentum, {0, n, n, 0, 1}, n, p->momentum.reshape({n}));
      left = true;
    }
  }
  if (split) {
    context.log.info(
        "momentum and what was not sent of compressed gradients are those of {} node(s) in {}: the sum is "
        "shared out evenly",
        std::max<int64_t>(stored_nodes, 1), reader.folder());
  }
  if (left)
    context.log.warn(
        "{} was written with comm.compress.method topk: what was not sent yet of its gradients is left, as this run "
        "sends them whole",
        reader.folder());
}

}  // namespace plsc
