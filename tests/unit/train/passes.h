// Steps of several micro-batches of a tiny network and head on thread ranks, for tests of how they go together.
#pragma once
#include <string>
#include <vector>

#include "base/threads.h"
#include "support/counted_collective.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/tiny_nets.h"
#include "train/training_step.h"

namespace plsc::test {

inline constexpr int64_t kClasses = 23, kBatch = 12;

/// A step of `passes` micro-batches over thread ranks, one after another or as a pipeline.
struct Training {
  std::string net = "iresnet";
  int ranks = 1;
  int64_t passes = 1;
  int64_t batch = kBatch;
  bool exact = false;
  bool frozen_norms = false;
  int64_t steps = 1;
  int64_t together = 1;  // of the passes, as a pipeline
  HeadConfig head = {};
  std::vector<std::string> recompute = {};
  bool synchronised = false;  // batch norms
  Dtype activations = Dtype::f32;
};

/// What rank 0 has seen.
struct Outcome {
  std::vector<std::vector<float>> backbone;  // by parameter
  std::vector<double> centers, losses;
  std::vector<std::string> calls;  // of the last step, with its phases
};

/// Samples [first, first + count) of step `number`; the same images whatever the passes.
inline Batch batch_of(const TinyNet& net, const Training& training, int64_t number, int64_t first, int64_t count) {
  const int64_t each = net.size[0] * net.size[1] * net.channels;
  const auto labels = random_labels(training.batch, kClasses, static_cast<uint64_t>(number));
  Batch batch;
  batch.bytes = Tensor(host_allocator(), {count, net.size[0], net.size[1], net.channels}, Dtype::u8);
  for (int64_t i = 0; i < batch.bytes.elements(); ++i)
    batch.bytes.data<uint8_t>()[i] = static_cast<uint8_t>(127.5F * (drawn(number, first * each + i) + 1));
  batch.labels.assign(labels.begin() + first, labels.begin() + first + count);
  batch.first_sample = first;
  return batch;
}

inline std::vector<Batch> batches_of(const TinyNet& net, int64_t number, const Training& training, int rank) {
  std::vector<Batch> out;
  for (int64_t m = 0; m < training.passes; ++m) {
    const int64_t begin = training.batch * m / training.passes, size = training.batch / training.passes;
    const int64_t first = begin + range_begin(size, training.ranks, rank);
    out.push_back(batch_of(net, training, number, first, begin + range_begin(size, training.ranks, rank + 1) - first));
  }
  return out;
}

inline Outcome train(const Training& training) {
  Outcome outcome;
  run_ranks(training.ranks, [&](ThreadRank& self) {
    CountedCollective counted(self.comm);
    ThreadRank watched{self.rank, self.ranks, counted, self.host};
    CpuContext rank(watched);
    Context& context = rank.context;
    context.sums_in_double = training.exact;
    context.activations = training.activations;
    TinyNet net = tiny_net(training.net);
    net.model.dropout = 0.3;
    net.model.recompute = training.recompute;
    net.model.sync_batch_norm.on = training.synchronised;
    const auto backbone = make_tiny(context, net);
    const auto params = backbone->params();
    for (Param* p : params) {
      if (p->kind == ParamKind::norm) p->frozen = p->frozen || training.frozen_norms;
    }
    const auto head = drawn_head(context, training.head, kClasses, net.model.embedding_size);
    Config config;
    config.data.image_size = net.size;
    config.data.channels = net.channels;
    config.train.pipeline = training.together;
    TrainingStep step(context, config, *backbone, *head,
                      [&](const StepPhase& phase) { counted.mark(std::string("phase ") + phase.name); });
    for (int64_t number = 0; number < training.steps; ++number) {
      const auto before = static_cast<std::ptrdiff_t>(counted.calls().size());
      step.prepare(number, training.batch, batches_of(net, number, training, self.rank));
      step.run(0.05);
      const StepRecord record = step.take();
      PLSC_CHECK(record.samples == training.batch);
      if (self.rank != 0) continue;
      outcome.losses.push_back(record.loss);
      outcome.calls.assign(counted.calls().begin() + before, counted.calls().end());
    }
    if (self.rank != 0) return;
    for (const Param* p : params)
      if (p->trainable()) outcome.backbone.push_back(p->value.values<float>());
    outcome.centers = to_doubles(head_rows(*head, "centers"));
  });
  return outcome;
}

}  // namespace plsc::test
