// Gradient accumulation: what a pass of a step sends, and that the passes together are one batch.
#include "base/threads.h"
#include "support/counted_collective.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/tiny_nets.h"
#include "train/training_step.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr int64_t kClasses = 23, kBatch = 12;

struct Training {
  std::string net = "iresnet";
  int ranks = 1;
  int64_t passes = 1;
  bool exact = false;
  bool frozen_norms = false;
  int64_t steps = 1;
};

/// What rank 0 has seen.
struct Outcome {
  std::vector<std::vector<float>> backbone;  // by parameter
  std::vector<double> centers, losses;
  std::vector<std::string> calls;  // of the last step, with its phases
};

/// Samples [first, first + count) of step `number`; the same images whatever the passes.
Batch batch_of(const TinyNet& net, int64_t number, int64_t first, int64_t count) {
  const int64_t each = net.size[0] * net.size[1] * net.channels;
  const auto labels = random_labels(kBatch, kClasses, static_cast<uint64_t>(number));
  Batch batch;
  batch.bytes = Tensor(host_allocator(), {count, net.size[0], net.size[1], net.channels}, Dtype::u8);
  for (int64_t i = 0; i < batch.bytes.elements(); ++i)
    batch.bytes.data<uint8_t>()[i] = static_cast<uint8_t>(127.5F * (drawn(number, first * each + i) + 1));
  batch.labels.assign(labels.begin() + first, labels.begin() + first + count);
  batch.first_sample = first;
  return batch;
}

std::vector<Batch> batches_of(const TinyNet& net, int64_t number, const Training& training, int rank) {
  std::vector<Batch> out;
  for (int64_t m = 0; m < training.passes; ++m) {
    const int64_t begin = kBatch * m / training.passes, size = kBatch / training.passes;
    const int64_t first = begin + range_begin(size, training.ranks, rank);
    out.push_back(batch_of(net, number, first, begin + range_begin(size, training.ranks, rank + 1) - first));
  }
  return out;
}

Outcome train(const Training& training) {
  Outcome outcome;
  run_ranks(training.ranks, [&](ThreadRank& self) {
    CountedCollective counted(self.comm);
    ThreadRank watched{self.rank, self.ranks, counted, self.host};
    CpuContext rank(watched);
    Context& context = rank.context;
    context.sums_in_double = training.exact;
    TinyNet net = tiny_net(training.net);
    net.model.dropout = 0.3;
    const auto backbone = make_tiny(context, net);
    const auto params = backbone->params();
    for (Param* p : params) {
      if (p->kind == ParamKind::norm) p->frozen = p->frozen || training.frozen_norms;
    }
    const auto head = drawn_head(context, {}, kClasses, net.model.embedding_size);
    Config config;
    config.data.image_size = net.size;
    config.data.channels = net.channels;
    TrainingStep step(context, config, *backbone, *head,
                      [&](int64_t, const char* phase) { counted.mark(std::string("phase ") + phase); });
    for (int64_t number = 0; number < training.steps; ++number) {
      const auto before = static_cast<std::ptrdiff_t>(counted.calls().size());
      step.prepare(number, kBatch, batches_of(net, number, training, self.rank));
      step.run(0.05);
      const StepRecord record = step.take();
      PLSC_CHECK(record.samples == kBatch);
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

/// The calls of each phase, in order: {"head", calls}, ...
std::vector<std::pair<std::string, std::vector<std::string>>> phases_of(const std::vector<std::string>& calls) {
  std::vector<std::pair<std::string, std::vector<std::string>>> phases{{"", {}}};
  for (const std::string& call : calls) {
    if (call.starts_with("phase ")) {
      phases.push_back({call.substr(6), {}});
    } else {
      phases.back().second.push_back(call);
    }
  }
  return phases;
}

}  // namespace

TEST_CASE("the ranks exchange gradients in the last pass of a step alone, and as much as in a step of one pass") {
  std::vector<std::string> of_one_pass;
  for (const int64_t passes : {1, 2, 3}) {
    INFO(passes << " passes");
    int64_t forward = 0, heads = 0, backward = 0;
    std::vector<std::string> head_calls;
    for (const auto& [phase, calls] : phases_of(train({.ranks = 2, .passes = passes, .steps = 2}).calls)) {
      INFO(phase);
      if (phase == "forward") {
        ++forward;
        CHECK(calls.empty());
      } else if (phase == "head") {
        // Embeddings out, sums of the logits, gradients of the embeddings back: the price of a split head, each time.
        CHECK(calls.size() == 8);
        if (heads++ > 0) CHECK(calls == head_calls);
        head_calls = calls;
      } else if (phase == kBackwardPhase) {
        if (++backward < passes) {
          CHECK(calls.empty());
          continue;
        }
        // The network's gradients, and the statistics of its batch norms.
        REQUIRE(calls.size() == 4);
        CHECK(calls[0].starts_with("all-reduce f32"));
        CHECK(calls[1].starts_with("all-reduce f64"));
        if (of_one_pass.empty()) of_one_pass = calls;
        CHECK(calls == of_one_pass);
      }
    }
    CHECK(forward == passes);
    CHECK(heads == passes);
    CHECK(backward == passes);
  }
}

TEST_CASE("several passes are the step of one batch, where batch norm measures nothing") {
  for (const char* name : {"iresnet", "plsc", "basic", "bottleneck"}) {
    for (const int ranks : {1, 2}) {
      const Training whole{.net = name, .ranks = ranks, .frozen_norms = true};
      const Outcome one = train(whole);
      for (const int64_t passes : {2, 3}) {
        INFO(name << " on " << ranks << " ranks in " << passes << " passes");
        Training parts = whole;
        parts.passes = passes;
        const Outcome some = train(parts);
        REQUIRE(some.backbone.size() == one.backbone.size());
        // The same sums in another order, in fp32.
        for (size_t j = 0; j < one.backbone.size(); ++j)
          CHECK(relative_error(some.backbone[j], one.backbone[j]) < 1e-5);
        CHECK(some.losses[0] == test::Approx(one.losses[0]).epsilon(1e-6));
        CHECK(relative_error(some.centers, one.centers) < 1e-5);  // of each element
      }
    }
  }
}

TEST_CASE("with exact sums the network's weights are those of one batch to the bit, on any number of ranks") {
  for (const char* name : {"iresnet", "bottleneck"}) {
    const Training whole{.net = name, .exact = true, .frozen_norms = true};
    const Outcome one = train(whole);
    for (const int ranks : {1, 2}) {
      for (const int64_t passes : {2, 3}) {
        INFO(name << " on " << ranks << " ranks in " << passes << " passes");
        Training parts = whole;
        parts.ranks = ranks;
        parts.passes = passes;
        CHECK(train(parts).backbone == one.backbone);
      }
    }
  }
}

TEST_CASE("with batch norm each pass measures its own images: another training") {
  CHECK(train({.passes = 2, .exact = true}).backbone != train({.exact = true}).backbone);
}
