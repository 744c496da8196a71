// The passes of the head on CUDA against the CPU's on the same rows, whatever these are stored as and however they were
// chosen; whole trainings of a head on both; and what needs no rows at all.
//
// Tolerances. Cosines are off by 3e-7, logits by 1e-5, so are sums and gradients (relative to the largest). With bf16
// products a gradient's term may be rounded to the neighbouring bf16, 2^-8 of it, when its cosine is off by a last bit.
#include "head_passes.h"

#include <algorithm>
#include <limits>

#include "backend/cuda/head_tiles_cuda.h"
#include "head_context_cuda.h"
#include "kernels/math/bf16.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/head_cases.h"
#include "support/head_step.h"

namespace plsc::test {
namespace {

/// As relative_error, but infinities must be equal.
double error(std::vector<double> got, std::vector<double> expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isfinite(expected[i])) continue;
    CHECK(got[i] == expected[i]);
    got[i] = expected[i] = 0;
  }
  return relative_error(got, expected, 1e-6);
}

void compare(const PassResult& got, const PassResult& expected, const PassCase& c) {
  // Sums of up to some hundred fp32 products in another order; in bf16 gradients of a tile are rounded to it, 2^-9
  // each, and some of them fall to the other side where two fp32 exponentials differ by their last bit.
  const double tolerance = c.compute == Dtype::bf16 ? 2e-3 : 3e-5;
  CHECK(error(got.cosine, expected.cosine) < 1e-6);
  CHECK(error(got.sum, expected.sum) < 3e-5);
  CHECK(error(got.shift, expected.shift) < 1e-6);
  CHECK(error(got.max_cosine, expected.max_cosine) < 1e-6);
  CHECK(error(got.loss, expected.loss) < 3e-5);
  CHECK(error(got.dx, expected.dx) < tolerance);
  CHECK(error(got.dweight, expected.dweight) < tolerance);
  CHECK(error(got.momentum, expected.momentum) < (c.momentum == Dtype::bf16 ? 1.0 / 128 : tolerance));
  // A weight that is off by its last bit may fall on the other side of a random bound: a step of bf16.
  CHECK(error(got.rows, expected.rows) < (c.weights == Dtype::bf16 ? 1.0 / 128 : tolerance));
  CHECK(got.last_update == expected.last_update);
  CHECK(error(got.top_cosines, expected.top_cosines) < (c.weights == Dtype::bf16 ? 1.0 / 128 : tolerance));
}

template <class F>
void each_case(F&& f) {
  for (const Dtype weights : {Dtype::f32, Dtype::bf16}) {
    for (const Dtype compute : {Dtype::f32, Dtype::bf16}) {
      for (const bool indexed : {false, true}) {
        for (const bool lagging : {false, true}) {
          for (const bool keep : {false, true}) {
            PassCase c;
            c.weights = weights;
            c.compute = compute;
            c.indexed = indexed;
            c.lagging = lagging;
            c.keep = keep;
            c.fixed_shift = indexed != lagging;
            c.columns = keep ? 24 : 13;
            c.momentum = lagging ? weights : Dtype::f32;
            INFO(dtype_name(weights) << " rows, " << dtype_name(compute) << " products, indexed " << indexed
                                     << ", lagging " << lagging << ", kept gradient " << keep);
            f(c);
          }
        }
      }
    }
  }
}

TEST_CASE("the passes are the CPU's on rows of any type, chosen by an index, lagging, with the gradient used or kept") {
  CpuContext cpu(2);
  const auto small_tiles = make_cuda_head_context(128), one_tile = make_cuda_head_context(0);
  each_case([&](const PassCase& c) {
    if (!cpu.context.device().supports(c.compute)) return;
    const PassResult expected = run_passes(cpu.backend, c);
    compare(run_passes(small_tiles->context().backend, c), expected, c);
    compare(run_passes(one_tile->context().backend, c), expected, c);
  });
}

TEST_CASE("the linear head's passes are the CPU's") {
  CpuContext cpu(2);
  const auto small_tiles = make_cuda_head_context(128), one_tile = make_cuda_head_context(0);
  each_case([&](PassCase c) {
    if (c.indexed != c.lagging || !cpu.context.device().supports(c.compute)) return;
    c.linear = true;
    c.fixed_shift = false;
    const PassResult expected = run_passes(cpu.backend, c);
    // Logits of a few units: what does not fit into [-1, 1] is what a clamp would have changed.
    REQUIRE(*std::ranges::max_element(expected.max_cosine) > 1.5);
    compare(run_passes(small_tiles->context().backend, c), expected, c);
    compare(run_passes(one_tile->context().backend, c), expected, c);
  });
}

TEST_CASE("D-Softmax's passes are the CPU's") {
  CpuContext cpu(2);
  const auto small_tiles = make_cuda_head_context(128), one_tile = make_cuda_head_context(0);
  each_case([&](PassCase c) {
    if (c.indexed != c.keep || !cpu.context.device().supports(c.compute)) return;
    c.dissected = true;
    const PassResult expected = run_passes(cpu.backend, c);
    // Both parts are there.
    REQUIRE(expected.loss[2] > 1);
    REQUIRE(expected.loss[0] > expected.loss[2] + 1);
    compare(run_passes(small_tiles->context().backend, c), expected, c);
    compare(run_passes(one_tile->context().backend, c), expected, c);
  });
}

TEST_CASE("no active rows: empty sums, no gradient, no nearest class") {
  CpuContext cpu;
  PassCase c;
  c.active = 0;
  for (const bool fixed : {false, true}) {
    c.fixed_shift = fixed;
    const auto cuda = make_cuda_head_context(128);
    const PassResult got = run_passes(cuda->context().backend, c), expected = run_passes(cpu.backend, c);
    CHECK(got == expected);
    CHECK(got.dx == std::vector<double>(got.dx.size(), 0.0));
    CHECK(got.top_rows == std::vector<int64_t>(got.top_rows.size(), -1));
  }
}

TEST_CASE("the same passes give the same bits") {
  const auto cuda = make_cuda_head_context(128);
  each_case([&](const PassCase& c) {
    const PassResult first = run_passes(cuda->context().backend, c);
    CHECK(run_passes(cuda->context().backend, c) == first);
  });
}

TEST_CASE("sampled rows are the CPU's, with the shard's end and no class at all") {
  CpuContext cpu(2);
  const auto cuda = make_cuda_head_context(128);
  for (const int64_t classes : {0, 1, 37, 40000}) {
    for (const double threshold : {0.0, 0.3, 1.0}) {
      SampleRows args;
      args.seed = 5;
      args.step = 12;
      args.threshold = threshold;
      args.first_class = 9;
      args.classes = classes;
      std::vector<int64_t> positives;
      if (classes > 1) positives = {0, classes / 2, classes - 1};
      args.positives = Tensor::from(positives, {static_cast<int64_t>(positives.size())});
      const auto rows_of = [&](Context& context) {
        const auto sample = context.backend.head->start_sample(args);
        const Tensor rows = sample->get();
        CHECK(sample->get().raw() == rows.raw());
        return context.device().start_read(rows)->get().values<int64_t>();
      };
      CHECK(rows_of(cuda->context()) == rows_of(cpu.context));
    }
  }
}

struct Training {
  HeadConfig config;
  Dtype activations = Dtype::f32;
  size_t micro_batches = 1;
  bool loss_scaling = false;
};

/// Losses, centres, and the nearest classes after a few steps.
std::vector<double> train(Context& context, const Training& t) {
  constexpr int64_t kClasses = 500, kColumns = 12, kBatch = 6;
  context.activations = t.activations;
  context.loss_scaling = t.loss_scaling;
  auto head = drawn_head(context, t.config, kClasses, kColumns);
  std::vector<double> out;
  for (int64_t step = 0; step < 6; ++step) {
    std::vector<std::vector<int64_t>> labels;
    for (size_t m = 0; m < t.micro_batches; ++m) {
      labels.push_back(random_labels(kBatch, kClasses, static_cast<uint64_t>(step) * 10 + m));
    }
    begin_head(context, *head, labels, {.step = step, .global_batch = kBatch * static_cast<int64_t>(t.micro_batches)},
               {.lr = 0.2F, .momentum = 0.9F, .weight_decay = 1e-2F});
    for (size_t m = 0; m < t.micro_batches; ++m) {
      const auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(step) * 10 + m);
      const HeadResult result = head->run(context, to_device_tensor(context, e, {kBatch, kColumns}));
      out.push_back(totals_of(context, result).loss_sum / kBatch);
      const auto gradient = to_doubles(context, result.d_embedding);
      out.insert(out.end(), gradient.begin(), gradient.end());
    }
    head->check_gradient(context);
    CHECK(state_of(context).overflow == 0);
    head->end_step(context);
  }
  const Tensor rows = head_rows(*head, "centers");
  std::vector<double> centers;
  if (rows.dtype() == Dtype::f32) {
    centers = to_doubles(context, rows);
  } else {
    const auto read = context.device().start_read(rows);
    for (const bf16_t& w : read->get().span<bf16_t>()) centers.push_back(double{math::bf16_to_float(w.bits)});
  }
  out.insert(out.end(), centers.begin(), centers.end());
  const auto probe = to_device_tensor(context, random_values(3 * kColumns, 99), {3, kColumns});
  const MarginHead::Nearest nearest = head->nearest(context, probe, 5);
  for (float c : nearest.cosines.span<float>()) out.push_back(double{c});
  for (int64_t id : nearest.classes.span<int64_t>()) out.push_back(static_cast<double>(id) / kClasses);
  return out;
}

TEST_CASE("a head whose rows are in host memory trains to the same bits as one in device memory") {
  for (const char* method : {"full", "uniform"}) {
    for (const char* dtype : {"fp32", "bf16"}) {
      for (const size_t micro_batches : {1, 2}) {
        INFO(method << ", " << dtype << ", " << micro_batches << " micro-batches");
        Training near;
        near.config.sampling = {method, 0.2};
        near.config.store.dtype = near.config.store.momentum = dtype;
        near.micro_batches = micro_batches;
        Training far = near;
        far.config.store.tier = "host";
        // A context each: what the device took is then what this head took.
        const auto one = make_cuda_head_context(128), other = make_cuda_head_context(128);
        CHECK(train(other->context(), far) == train(one->context(), near));
        // Of these few sampled rows two buffers with room to spare are no less than all.
        if (near.config.sampling.method == "full")
          CHECK(other->context().device().memory().peak < one->context().device().memory().peak);
      }
    }
  }
}

TEST_CASE("a head trains as on the CPU: full, sampled with lagging rows, in micro-batches, with loss scaling") {
  std::vector<Training> trainings(13);
  trainings[1].config.sampling = {"uniform", 0.2};
  trainings[2].config.sampling = {"uniform", 0.2};
  trainings[2].config.update = "lazy";
  trainings[3].micro_batches = 3;
  trainings[3].config.sampling = {"uniform", 0.4};
  trainings[4].loss_scaling = true;
  trainings[5].config.scale = 200;  // running shifts
  for (size_t i = 6; i < 9; ++i) trainings[i].config.kind = "linear";
  trainings[7].config.sampling = {"uniform", 0.3};
  trainings[7].micro_batches = 2;
  trainings[8].loss_scaling = true;
  for (size_t i = 9; i < 13; ++i) trainings[i].config.kind = "d_softmax";
  trainings[10].config.sampling = {"uniform", 0.3};
  trainings[10].micro_batches = 2;
  trainings[11].loss_scaling = true;
  trainings[12].config.scale = 200;
  for (Training& t : trainings) {
    if (t.config.scale < 100) t.config.scale = 16;
    INFO(t.config.kind << " " << t.config.sampling.method << " " << t.config.update << ", " << t.micro_batches
                       << " micro-batches, scale " << t.config.scale << ", loss scaling " << t.loss_scaling);
    CpuContext cpu(2);
    HeadContext cuda;
    // Six steps of rate .2 carry a cosine's rounding into the centres and back.
    CHECK(relative_error(train(cuda.context, t), train(cpu.context, t)) < 2e-4);
  }
}

TEST_CASE("products of bf16 train as on the CPU, but for the rounding of gradients") {
  for (const char* kind : {"margin", "d_softmax"}) {
    Training t;
    t.config.kind = kind;
    t.config.scale = 16;
    t.activations = Dtype::bf16;
    CpuContext cpu(2);
    HeadContext cuda;
    if (!cpu.context.device().supports(Dtype::bf16) || !cuda.context.device().supports(Dtype::bf16)) return;
    INFO(kind);
    CHECK(relative_error(train(cuda.context, t), train(cpu.context, t)) < 1e-2);
  }
}

TEST_CASE("tiles cover all rows, fill half of the cache, and have few different sizes") {
  constexpr int64_t kCache = 50 << 20;
  for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{128}, int64_t{129}, int64_t{100000}, int64_t{1} << 33}) {
    for (const int64_t row_bytes : {40, 5120, 40000}) {
      for (const int64_t asked : {0, 1, 300}) {
        const HeadTilePlan plan = HeadTilePlan::make(rows, row_bytes, kCache, asked);
        INFO(rows << " rows of " << row_bytes << " bytes, " << asked << " asked for");
        CHECK(plan.tile % HeadTilePlan::kRowMultiple == 0);
        CHECK((plan.tiles == 0) == (rows == 0));
        CHECK(plan.begin(plan.tiles) >= rows);
        if (rows == 0) continue;
        CHECK(plan.begin(plan.tiles - 1) + plan.count(plan.tiles - 1) == rows);
        CHECK(plan.count(plan.tiles - 1) >= 1);
        if (asked > 0) CHECK(plan.tile <= HeadTilePlan::padded_rows(asked));
        const bool least = plan.tile <= HeadTilePlan::kLeastRows;
        if (asked == 0) CHECK((least || plan.tile * row_bytes <= kCache / 2 + row_bytes * HeadTilePlan::kRowMultiple));
      }
    }
  }
}

TEST_CASE("what a GPU does not do is said: sums in double") {
  HeadContext cuda;
  cuda.context.sums_in_double = true;
  const HeadConfig config;
  auto head = drawn_head(cuda.context, config, 10, 4);
  begin_head(cuda.context, *head, {{1, 2}}, {.step = 0, .global_batch = 2}, {.lr = 0.1F});
  const Tensor e = to_device_tensor(cuda.context, random_values(8, 1), {2, 4});
  CHECK_THROWS(head->run(cuda.context, e));
}

}  // namespace
}  // namespace plsc::test
