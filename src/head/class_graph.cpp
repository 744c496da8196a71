#include "head/class_graph.h"

#include <string>
#include <utility>

namespace plsc {
namespace {

/// What is wrong with lists from a file; empty where nothing is.
std::string list_error(const Tensor& lists, const ClassShard& shard) {
  const int64_t k = lists.dim(1);
  for (int64_t i = 0; i < lists.elements(); ++i) {
    const int64_t id = lists.data<int32_t>()[i], c = shard.begin + i / k;
    if (id >= -1 && id < shard.total && id != c) continue;
    return fmt::format(
        "the class graph of the checkpoint has {} as neighbour of class {}, expected another of {} classes\n"
        "  hint: the checkpoint is damaged; use another one",
        id, c, shard.total);
  }
  return {};
}

}  // namespace

ClassGraph::ClassGraph(const SamplingConfig& config, const ClassShard& shard) : config_(config), shard_(shard) {}

GraphSpec ClassGraph::spec() const {
  return {config_.neighbours, config_.scoring == "bf16" ? Dtype::bf16 : Dtype::f32};
}

Tensor ClassGraph::lists() const {
  return built() ? lists_ : Tensor(host_allocator(), {shard_.size(), config_.neighbours}, Dtype::i32);
}

ClassGraph::Built ClassGraph::build(Context& context, RowSource& rows, int64_t step, const Interrupted& interrupted) {
  const Tensor lists = build_graph(context, rows, shard_, spec(), interrupted);
  if (!lists.defined()) return {};
  Built built{true, {}};
  if (this->built()) built.kept = recall_between(context, lists_, lists).part();
  take(context, lists);
  age_ = {step, step};
  return built;
}

std::optional<double> ClassGraph::probe(Context& context, const ProbeRows& rows, const Interrupted& interrupted) {
  PLSC_CHECK(built());
  const auto recall = probe_graph(context, rows, {shard_, lists_, spec(), interrupted});
  if (!recall) return {};
  return recall->part();
}

void ClassGraph::restore(Context& context, const Tensor& lists, const GraphAge& age) {
  PLSC_CHECK(lists.shape() == (Shape{shard_.size(), config_.neighbours}));
  agree_or_fail(context.host, list_error(lists, shard_));
  take(context, lists);
  age_ = age;
}

void ClassGraph::take(Context& context, const Tensor& lists) {
  sampler_.reset();  // before the next one: it is twice as large as the lists
  lists_ = lists;
  sampler_ = std::make_unique<NeighbourSampler>(shard_, share_graph(context, shard_, lists_), config_.neighbours);
}

Sampling ClassGraph::start(Context& context, int64_t step, const std::vector<int64_t>& labels) {
  PLSC_CHECK(built());
  return sampler_->start(context, {active_part(config_, shard_.total), config_.uniform_share}, step, labels);
}

}  // namespace plsc
