// A head whose rows are in host memory has those of a step in two buffers of the device: it trains to the bits of a
// head in device memory, whatever the order of streams, however much the sets of two steps share, and wherever it is
// looked at, saved or taken up again; and the rows of the next step come while the compute stream is held up.
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <set>

#include "head/catch_up_table.h"
#include "head_context_cuda.h"
#include "standin_test.h"
#include "support/head_cases.h"
#include "support/head_step.h"
#include "support/row_reference.h"

namespace plsc::test {
namespace {

constexpr int64_t kClasses = 120, kColumns = 8, kBatch = 4;

constexpr int64_t kTurns = CatchUpTable::kTurns, kFew = CatchUpTable::kFew;
constexpr int64_t kQuiet = kFew - 68;  // steps without what Training::turns is about

cudaStream_t compute(Context& context) { return static_cast<cudaStream_t>(context.device().native_stream()); }

struct Training {
  HeadConfig config;
  math::UpdateRule rule{.lr = 0.2F, .weight_decay = 1e-2F, .momentum = 0.9F};
  int64_t classes = kClasses, steps = 8;
  size_t micro_batches = 1;
  bool loss_scaling = false;
  int64_t look_every = 0;            // steps; the rows are read and the nearest classes asked for: 0: never
  bool ahead = false;                // a step is prepared before that, too
  bool turns = false;                // labels by the turns of classes: see labels_of
  std::set<int64_t> overflows = {};  // steps whose gradient is not finite: they are skipped
};

std::vector<std::byte> bytes_of(Context& context, const Tensor& t) {
  const auto read = context.device().start_read(t);
  const auto* begin = static_cast<const std::byte*>(read->get().raw());
  return {begin, begin + t.bytes()};
}

/// All tensors of a head and its table.
std::vector<std::vector<std::byte>> saved(Context& context, MarginHead& head) {
  std::vector<std::vector<std::byte>> out;
  for (const HeadRows& rows : head.state()) out.push_back(bytes_of(context, rows.rows));
  const std::string table = head.state_table();
  const auto* text = reinterpret_cast<const std::byte*>(table.data());
  out.emplace_back(text, text + table.size());
  return out;
}

void restore(Context& context, MarginHead& head, math::UpdateKind kind,
             const std::vector<std::vector<std::byte>>& from) {
  std::vector<std::string> names{"centers", "momentum"};
  if (math::has_second_moment(kind)) names.emplace_back("second_moment");
  if (names.size() + 1 < from.size()) names.emplace_back("last_update");
  const auto tensors = head.state_to_fill(names, RestoreFor::training);
  REQUIRE(tensors.size() == names.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor host(host_allocator(), tensors[i].rows.shape(), tensors[i].rows.dtype());
    std::memcpy(host.raw(), from[i].data(), host.bytes());
    Tensor to = tensors[i].rows;
    context.device().copy(host, to);
  }
  const auto& table = from.back();
  head.restore_table({reinterpret_cast<const char*>(table.data()), table.size()}, {});
}

/// With `turns`: none but classes 0 and 1 in kQuiet steps; then each even one in the very step behind which it has its
/// turn, each odd one in the step after that.
std::vector<int64_t> labels_of(const Training& t, int64_t step, size_t micro_batch) {
  if (!t.turns) return random_labels(kBatch, t.classes, static_cast<uint64_t>(step) * 10 + micro_batch);
  std::vector<int64_t> labels{0, 1, 0, 1};
  const int64_t now = (step + 1) % kTurns, before = step % kTurns;
  if (step >= kQuiet && now < t.classes && now % 2 == 0) labels[2] = now;
  if (step >= kQuiet && before < t.classes && before % 2 == 1) labels[3] = before;
  return labels;
}

HeadStep step_of(const Training& t, int64_t step) {
  HeadStep out;
  for (size_t m = 0; m < t.micro_batches; ++m) out.labels.push_back(labels_of(t, step, m));
  out.info = {.step = step, .global_batch = kBatch * static_cast<int64_t>(t.micro_batches)};
  return out;
}

/// The work of a step that is prepared; `begun` comes behind the head's begin_step. Returns its loss, for which it
/// waits.
double run_step(
    Context& context, MarginHead& head, const Training& t, int64_t step, const std::function<void()>& begun = [] {}) {
  math::StepInputs inputs;
  inputs.step = step;
  inputs.dynamic_scale = context.loss_scaling ? 1 : 0;
  begin_step(context.backend, inputs);
  head.begin_step(context, t.rule);
  begun();
  std::vector<Tensor> sums;
  for (size_t m = 0; m < t.micro_batches; ++m) {
    auto e = random_values(kBatch * kColumns, static_cast<uint64_t>(step) * 10 + m);
    if (t.overflows.contains(step)) e[0] = std::numeric_limits<float>::infinity();
    sums.push_back(head.run(context, to_device_tensor(context, e, {kBatch, kColumns})).sums);
    standin::slow_down(compute(context), static_cast<int>(step % 3) * 20);
  }
  head.check_gradient(context);
  head.end_step(context);
  context.backend.optim->finish_step();
  double loss = 0;
  if (step % 4 == 3 && !t.overflows.contains(step)) {  // the others run into each other
    for (const Tensor& one : sums) loss += context.device().start_read(one)->get().span<double>()[0];
  }
  return loss;
}

struct Trained {
  std::vector<double> losses;
  std::vector<std::vector<std::byte>> looks, state;
  bool operator==(const Trained&) const = default;
};

void look(Context& context, MarginHead& head, Trained& out) {
  const auto probe = to_device_tensor(context, random_values(2 * kColumns, 99), {2, kColumns});
  out.looks.push_back(bytes_of(context, head.nearest(context, probe, 3).cosines));
  for (auto& tensor : saved(context, head)) out.looks.push_back(std::move(tensor));
}

/// Steps [first, t.steps), each prepared when the one before was given to the device, as a training does it.
Trained train(Context& context, const Training& t, int64_t first = 0,
              const std::vector<std::vector<std::byte>>* from = nullptr) {
  context.loss_scaling = t.loss_scaling;
  auto head = make_margin_head(context, t.config, t.classes, kColumns, t.rule.kind);
  from != nullptr ? restore(context, *head, t.rule.kind, *from) : head->init();
  Trained out;
  head->prepare_step(context, step_of(t, first));
  for (int64_t step = first; step < t.steps; ++step) {
    out.losses.push_back(run_step(context, *head, t, step));
    const bool looks = t.look_every > 0 && step % t.look_every == 0, last = step + 1 == t.steps;
    if (!last && (t.ahead || !looks)) head->prepare_step(context, step_of(t, step + 1));
    if (looks) look(context, *head, out);
    if (!last && looks && !t.ahead) head->prepare_step(context, step_of(t, step + 1));
  }
  out.state = saved(context, *head);
  return out;
}

Training far(Training t) {
  t.config.store.tier = "host";
  return t;
}

std::vector<Training> trainings() {
  std::vector<Training> out;
  for (const double ratio : {0.05, 0.6}) {
    for (const char* dtype : {"fp32", "bf16"}) {
      for (const char* update : {"dense", "lazy"}) {
        Training t;
        t.config.scale = 16;
        t.config.sampling = {"uniform", ratio};
        t.config.update = update;
        t.config.store.dtype = t.config.store.momentum = dtype;
        t.micro_batches = ratio < 0.5 ? 1 : 2;
        out.push_back(t);
      }
    }
  }
  Training mixed = out[2];
  mixed.config.store.momentum = "fp32";
  mixed.config.kind = "linear";
  out.push_back(mixed);
  for (const math::UpdateKind kind : {math::UpdateKind::adamw, math::UpdateKind::lars, math::UpdateKind::lamb}) {
    Training other = out[kind == math::UpdateKind::lamb ? 1 : 2];
    other.rule = row_rule(kind);
    out.push_back(other);
  }
  Training scaled = out[2];
  scaled.loss_scaling = true;
  scaled.overflows = {2, 5, 6};
  out.push_back(scaled);
  return out;
}

TEST_CASE("a step's rows in buffers give the bits of rows in device memory, in every order of the streams") {
  for (const Training& t : trainings()) {
    INFO(math::name_of(t.rule.kind) << ", ratio " << t.config.sampling.ratio << ", " << t.config.store.dtype << ", "
                                    << t.config.update << ", " << t.config.kind << ", " << t.micro_batches
                                    << " micro-batches, loss scaling " << t.loss_scaling);
    const Trained expected = train(HeadContext().context, t);
    for (unsigned seed = 1; seed <= 4; ++seed) {
      const standin::TestMachine machine(seed);
      CHECK(train(HeadContext().context, far(t)) == expected);
    }
  }
}

TEST_CASE("rows that are looked at between steps are those of the last one, whether the next is prepared or not") {
  for (const bool ahead : {false, true}) {
    for (const char* dtype : {"fp32", "bf16"}) {
      Training t = trainings()[0];
      t.config.sampling.ratio = 0.3;
      t.config.store.dtype = t.config.store.momentum = dtype;
      t.look_every = 3;
      t.steps = 11;
      const Trained expected = train(HeadContext().context, t);
      t.ahead = ahead;
      INFO("ahead " << ahead << ", " << dtype);
      for (unsigned seed = 1; seed <= 4; ++seed) {
        const standin::TestMachine machine(seed);
        CHECK(train(HeadContext().context, far(t)) == expected);
      }
    }
  }
}

TEST_CASE("a training in host memory that was cut goes on in either, to the same bits") {
  Training t = trainings()[2];
  t.config.sampling.ratio = 0.3;
  t.steps = 9;
  const Trained whole = train(HeadContext().context, t);
  Training begin = t;
  begin.steps = 4;
  const auto half = train(HeadContext().context, far(begin)).state;
  CHECK(half == train(HeadContext().context, begin).state);
  CHECK(train(HeadContext().context, t, 4, &half).state == whole.state);
  CHECK(train(HeadContext().context, far(t), 4, &half).state == whole.state);
}

TEST_CASE("rows that hardly ever take part come to their turns beside the steps, to the same bits") {
  // Rows lag beyond the kFew steps from which on a turn concerns them, then have it while a step has them, or just
  // before.
  Training t;
  t.classes = 40;
  t.turns = true;
  t.config.scale = 16;
  t.config.sampling = {"uniform", 0.001};
  t.config.store.dtype = t.config.store.momentum = "bf16";
  t.steps = kFew + 72;
  t.look_every = kTurns + 4;
  CHECK(train(HeadContext().context, far(t)) == train(HeadContext().context, t));

  // In steps that are skipped rows stay as they were, and so need their turn nevertheless: without it they would lag
  // beyond the table when they next come.
  t.loss_scaling = true;
  for (int64_t step = kFew - 3; step < kFew + 42; ++step) t.overflows.insert(step);
  t.steps = CatchUpTable::kWindow + 76;
  CHECK(train(HeadContext().context, far(t)) == train(HeadContext().context, t));
}

/// Gives the device time. Returns how many pieces of work it has done in all.
int64_t work_done(Context& context) {
  for (int polls = 0; polls < standin::kPolls; ++polls) cudaStreamQuery(compute(context));
  return standin::counters().kernels;
}

TEST_CASE("the rows of the next step come while the compute stream is held up") {
  const standin::TestMachine machine(GENERATE(1u, 2u, 3u, 4u));
  HeadContext cuda;
  Context& context = cuda.context;
  context.device().set_host_wait(standin::wait_a_while);
  Training t = far(trainings()[0]);
  t.config.sampling.ratio = 0.5;
  t.classes = 600;
  auto head = drawn_head(context, t.config, t.classes, kColumns);
  head->prepare_step(context, step_of(t, 0));
  // Until there is room for the rows, and for as many steps of the table as two more need.
  constexpr int64_t kStep = 36;
  for (int64_t step = 0; step < kStep; ++step) {
    run_step(context, *head, t, 4 * step);  // whose loss nobody reads
    const int64_t before = work_done(context);
    head->prepare_step(context, step_of(t, 4 * (step + 1)));
    const int64_t work = work_done(context) - before;
    if (step + 1 < kStep) continue;
    std::optional<standin::HeldUp> held;
    run_step(context, *head, t, 4 * kStep, [&] {
      work_done(context);  // the rows are there
      held.emplace(compute(context));
    });
    const int64_t held_before = work_done(context);
    REQUIRE_NOTHROW(head->prepare_step(context, step_of(t, 4 * (kStep + 1))));
    CHECK(work_done(context) - held_before == work);
    CHECK(cudaStreamQuery(compute(context)) == cudaErrorNotReady);
  }
}

TEST_CASE("steps take no memory and make the host wait for nothing once there is room for their rows") {
  HeadContext cuda;
  Context& context = cuda.context;
  Training t = far(trainings()[2]);
  t.config.sampling.ratio = 0.5;
  t.classes = 600;
  auto head = drawn_head(context, t.config, t.classes, kColumns);
  standin::Counters before;
  head->prepare_step(context, step_of(t, 0));
  for (int64_t step = 0; step < 12; ++step) {
    if (step == 6) before = standin::counters();
    run_step(context, *head, t, 4 * step);  // whose loss nobody reads
    head->prepare_step(context, step_of(t, step + 1));
  }
  standin::check_steady_since(before);
}

}  // namespace
}  // namespace plsc::test
