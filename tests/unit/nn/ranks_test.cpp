// The strongest property: with synchronised batch norm a network gives the same embeddings and the same gradients on
// any number of ranks, whatever the batch is divided into; dropout included.
#include "base/threads.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/tiny_nets.h"

using namespace plsc;
using namespace plsc::test;

namespace {

struct Outcome {
  std::vector<float> embeddings, gradients, buffers, eval;
};

Tensor upstream(int64_t first, int64_t batch, int64_t embedding_size) {
  Tensor dy(host_allocator(), {batch, embedding_size}, Dtype::f32);
  for (int64_t i = 0; i < dy.elements(); ++i)
    dy.data<float>()[i] = static_cast<float>(std::cos(0.9 * static_cast<double>(first * embedding_size + i)));
  return dy;
}

void append(std::vector<float>& to, const Tensor& t) {
  to.insert(to.end(), t.data<float>(), t.data<float>() + t.elements());
}

/// One step of `batch` samples on `ranks` ranks, as rank 0 sees it after the reductions (embeddings: of all ranks).
Outcome run_step(const TinyNet& net, int ranks, int64_t batch, int64_t micro_batches) {
  Outcome outcome;
  std::vector<std::vector<float>> embeddings(static_cast<size_t>(batch));
  run_ranks(ranks, [&](ThreadRank& self) {
    CpuContext rank(self);
    const auto backbone = make_tiny(rank.context, net);
    const int64_t begin = range_begin(batch, ranks, self.rank), end = range_begin(batch, ranks, self.rank + 1);
    for (int64_t m = 0; m < micro_batches; ++m) {
      const int64_t from = begin + range_begin(end - begin, micro_batches, m);
      const int64_t count = begin + range_begin(end - begin, micro_batches, m + 1) - from;
      next_micro_batch(rank.context.backend, {.step = 3, .first_sample = from});
      const Tensor y = backbone->forward(rank.context, tiny_images(net, count, 0, from), Mode::train, {3, from, batch});
      backbone->backward(rank.context, upstream(from, count, backbone->embedding_size()));
      for (int64_t i = 0; i < count; ++i) {
        const auto row = y.rows(i, 1).values<float>();
        embeddings[static_cast<size_t>(from + i)] = row;
      }
    }
    for (Tensor* t : backbone->summed()) rank.context.comm.all_reduce(*t, ReduceOp::sum);
    for (Param* p : backbone->params())
      if (p->trainable()) rank.context.comm.all_reduce(p->grad, ReduceOp::sum);
    backbone->finish_step(rank.context);
    const Tensor e = backbone->forward(rank.context, tiny_images(net, 3, 1), Mode::eval, {});
    if (self.rank != 0) return;
    for (const Param* p : backbone->params()) {
      if (p->trainable()) append(outcome.gradients, p->grad);
      if (p->kind == ParamKind::buffer && p->value.dtype() == Dtype::f32) append(outcome.buffers, p->value);
    }
    append(outcome.eval, e);
  });
  for (const auto& row : embeddings) outcome.embeddings.insert(outcome.embeddings.end(), row.begin(), row.end());
  return outcome;
}

/// One step of samples [first, first + batch) of a larger batch, with exact sums; as rank 0 sees it.
struct Exact {
  std::vector<float> embeddings;  // of all ranks
  std::vector<double> gradients, statistics;
};
Exact run_exact(const TinyNet& net, int ranks, int64_t first, int64_t batch, int group) {
  Exact outcome;
  std::vector<std::vector<float>> embeddings(static_cast<size_t>(batch));
  const auto append_sums = [](std::vector<double>& to, const Tensor& t) {
    to.insert(to.end(), t.data<double>(), t.data<double>() + t.elements());
  };
  run_ranks(ranks, [&](ThreadRank& self) {
    CpuContext rank(self);
    Context& context = rank.context;
    context.sums_in_double = true;
    const auto norms = group > 0 ? self.comm.split(group, self.host) : nullptr;
    context.norm_group = norms.get();
    const auto backbone = make_tiny(context, net);
    for (Param* p : backbone->params())
      if (p->trainable()) p->grad = context.device().zeros(p->value.shape(), Dtype::f64);
    const int64_t from = first + range_begin(batch, ranks, self.rank);
    const int64_t count = first + range_begin(batch, ranks, self.rank + 1) - from;
    next_micro_batch(context.backend, {.step = 3, .first_sample = from});
    const Tensor y = backbone->forward(context, tiny_images(net, count, 0, from), Mode::train, {3, from, batch});
    backbone->backward(context, upstream(from, count, backbone->embedding_size()));
    for (int64_t i = 0; i < count; ++i)
      embeddings[static_cast<size_t>(from - first + i)] = y.rows(i, 1).values<float>();
    for (Tensor* t : backbone->summed()) context.comm.all_reduce(*t, ReduceOp::sum);
    for (Param* p : backbone->params())
      if (p->trainable()) context.comm.all_reduce(p->grad, ReduceOp::sum);
    if (self.rank != 0) return;
    for (Tensor* t : backbone->summed()) append_sums(outcome.statistics, *t);
    for (Param* p : backbone->params())
      if (p->trainable()) append_sums(outcome.gradients, p->grad);
  });
  for (const auto& row : embeddings) outcome.embeddings.insert(outcome.embeddings.end(), row.begin(), row.end());
  return outcome;
}

/// a[i] + b[i].
std::vector<double> sum_of(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> sum(a);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += b.at(i);
  return sum;
}

}  // namespace

TEST_CASE("groups of ranks: each is a training of its own samples, to the bit; gradients are those of all") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    INFO(name);
    TinyNet net = tiny_net(name);
    net.model.sync_batch_norm.on = true;
    net.model.dropout = 0.3;
    for (const int alone : {1, 2}) {  // ranks that have a group's samples to themselves
      const Exact first = run_exact(net, alone, 0, 7, 0), second = run_exact(net, alone, 7, 6, 0);
      TinyNet grouped = net;
      grouped.model.sync_batch_norm.group = 2;
      const Exact four = run_exact(grouped, 4, 0, 13, 2);
      std::vector<float> embeddings = first.embeddings;
      embeddings.insert(embeddings.end(), second.embeddings.begin(), second.embeddings.end());
      CHECK(four.embeddings == embeddings);
      // Exact sums: doubles that add up without rounding, in whatever order. But a scale's gradient is one times rstd,
      // which is rounded in double (1.1e-16) on each rank, and the ranks' own are several times as large as their sum.
      CHECK(four.statistics == sum_of(first.statistics, second.statistics));
      const std::vector<double> gradients = sum_of(first.gradients, second.gradients);
      double worst = 0;
      for (size_t i = 0; i < gradients.size(); ++i) {
        const double size = std::abs(first.gradients[i]) + std::abs(second.gradients[i]);
        worst = std::max(worst, std::abs(four.gradients.at(i) - gradients[i]) / std::max(size, 1e-300));
      }
      CHECK(worst < 1e-14);
    }
    // All four ranks as one are something else.
    TinyNet grouped = net;
    grouped.model.sync_batch_norm.group = 2;
    CHECK(run_exact(net, 4, 0, 13, 0).embeddings != run_exact(grouped, 4, 0, 13, 2).embeddings);
  }
}

TEST_CASE("one step is the same on 1 to 4 ranks with synchronised batch norm") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    TinyNet net = tiny_net(name);
    net.model.sync_batch_norm.on = true;
    net.model.dropout = 0.3;
    const int64_t batch = 13;
    const Outcome one = run_step(net, 1, batch, 1);
    for (const int ranks : {2, 3, 4}) {
      INFO(name << " on " << ranks << " ranks");
      const Outcome other = run_step(net, ranks, batch, 1);
      // The same sums in another order, in fp32, through some 20 layers.
      CHECK(relative_error(other.embeddings, one.embeddings) < 5e-6);
      CHECK(relative_error(other.gradients, one.gradients) < 1e-5);
      CHECK(relative_error(other.buffers, one.buffers) < 5e-6);
      CHECK(relative_error(other.eval, one.eval) < 5e-6);
    }
  }
}

TEST_CASE("without synchronisation, ranks are like micro-batches: running statistics pool what all saw") {
  const TinyNet net = tiny_net("iresnet");
  const Outcome ranks = run_step(net, 3, 13, 1), micro = run_step(net, 1, 13, 3);
  CHECK(relative_error(ranks.embeddings, micro.embeddings) < 1e-6);
  CHECK(relative_error(ranks.gradients, micro.gradients) < 5e-6);
  CHECK(relative_error(ranks.buffers, micro.buffers) < 1e-6);
  CHECK(relative_error(ranks.eval, micro.eval) < 5e-6);
}

TEST_CASE("micro-batches within synchronised ranks") {
  TinyNet net = tiny_net("plsc");
  net.model.sync_batch_norm.on = true;
  // Two micro-batches of the ranks see samples {0-3, 7-9} and {4-6, 10-12}: not those of one rank, so only the sums of
  // samples that batch norm does not mix can be compared: the pooled statistics of the first layer.
  const Outcome two = run_step(net, 2, 13, 2), one = run_step(net, 1, 13, 1);
  const size_t first_layer = 2 * 8;
  CHECK(relative_error(std::span(two.buffers).first(first_layer), std::span(one.buffers).first(first_layer)) < 1e-6);
}
