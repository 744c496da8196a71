// The classes of the next step are counted beside the step under way: their number is there while the compute stream is
// held up, the sets are the CPU's whatever the order of the streams, and in the long run nothing is allocated or waited
// for.
#include "head_context_cuda.h"
#include "standin_test.h"
#include "support/cpu_context.h"

namespace plsc::test {
namespace {

using standin::HeldUp, standin::slow_down;

/// The ops on the stand-in. A wait of the host that comes to nothing ends with an Error.
struct Machine {
  explicit Machine(uint64_t seed = 1) : machine(seed), owner(make_cuda_head_context(128)) {
    device().set_host_wait(standin::wait_a_while);
  }
  Device& device() { return owner->context().device(); }
  HeadOps& ops() { return *owner->context().backend.head; }
  cudaStream_t compute() { return static_cast<cudaStream_t>(device().native_stream()); }
  std::vector<int64_t> read(const Tensor& rows) { return device().start_read(rows)->get().values<int64_t>(); }

  standin::TestMachine machine;
  std::unique_ptr<CudaHeadOwner> owner;
};

/// Every `stride`-th class is a positive; 0: none.
SampleRows sampling(int64_t step, int64_t stride, int64_t classes = 3000) {
  SampleRows args;
  args.seed = 11;
  args.step = step;
  args.threshold = 0.1;
  args.first_class = 6;
  args.classes = classes;
  std::vector<int64_t> positives;
  for (int64_t row = 0; stride > 0 && row < classes; row += stride) positives.push_back(row);
  args.positives = Tensor::from(positives, {static_cast<int64_t>(positives.size())});
  return args;
}

std::vector<int64_t> expected(const SampleRows& args) {
  CpuContext cpu;
  return cpu.backend.head->start_sample(args)->get().values<int64_t>();
}

/// Both slots have memory behind this.
void warm_up(Machine& m) {
  for (int64_t step = 0; step < 2; ++step) m.ops().start_sample(sampling(step, 50))->get();
}

TEST_CASE("the number of rows is known while the compute stream is held up") {
  Machine m(GENERATE(1u, 2u, 3u, 4u));
  warm_up(m);
  HeldUp step(m.compute());
  // More positives and classes than before, within what a slot has in any case.
  const SampleRows args = sampling(7, 10, 30000);
  const auto sample = m.ops().start_sample(args);
  Tensor rows;
  REQUIRE_NOTHROW(rows = sample->get());
  const std::vector<int64_t> there = expected(args);
  CHECK(rows.elements() == static_cast<int64_t>(there.size()));
  step.let_go();
  CHECK(m.read(rows) == there);
}

TEST_CASE("two samplings are counted while the compute stream is held up") {
  Machine m(GENERATE(1u, 2u, 3u, 4u));
  warm_up(m);
  HeldUp step(m.compute());
  const SampleRows args[] = {sampling(3, 70), sampling(4, 20)};
  const auto first = m.ops().start_sample(args[0]), second = m.ops().start_sample(args[1]);
  Tensor rows[2];
  REQUIRE_NOTHROW(rows[1] = second->get());
  REQUIRE_NOTHROW(rows[0] = first->get());
  step.let_go();
  CHECK(m.read(rows[0]) == expected(args[0]));
  CHECK(m.read(rows[1]) == expected(args[1]));
}

TEST_CASE("a sampling is begun without a wait for the one whose memory it takes") {
  Machine m;
  warm_up(m);
  HeldUp step(m.compute());
  for (int64_t n = 0; n < 2; ++n) m.ops().start_sample(sampling(n, 50))->get();
  std::unique_ptr<SampledRows> third;
  REQUIRE_NOTHROW(third = m.ops().start_sample(sampling(5, 9)));
  // Its count would change what the held-up work is still to read.
  CHECK_THROWS_AS(third->get(), Error);
  step.let_go();
  CHECK(m.read(third->get()) == expected(sampling(5, 9)));
}

TEST_CASE("memory of a sampling that nobody asked for is used again once the device is done with it") {
  Machine m;
  warm_up(m);
  HeldUp step(m.compute());
  for (int64_t n = 0; n < 2; ++n) m.ops().start_sample(sampling(n, 50))->get();
  for (int64_t n = 2; n < 4; ++n) m.ops().start_sample(sampling(n, 8));
  // Their positives are still to be sent.
  CHECK_THROWS_AS(m.ops().start_sample(sampling(4, 9)), Error);
  step.let_go();
  CHECK(m.read(m.ops().start_sample(sampling(5, 9))->get()) == expected(sampling(5, 9)));
}

TEST_CASE("sets are the CPU's with any number under way, in every order that streams and events allow") {
  std::vector<SampleRows> cases;
  for (int64_t n = 0; n < 24; ++n) {
    // Sizes that grow and shrink, shards that begin anywhere, none and all of the classes.
    SampleRows args = sampling(n, n % 5 * 3, n % 7 == 3 ? 0 : 100 + n * n * 70);
    args.seed = static_cast<uint64_t>(n / 3);
    args.first_class = n * 4099;
    args.threshold = n % 6 == 5 ? 1.0 : 0.04 * static_cast<double>(n % 6);
    cases.push_back(args);
  }
  std::vector<std::vector<int64_t>> sets;
  for (const SampleRows& args : cases) sets.push_back(expected(args));

  for (uint64_t seed = 1; seed <= 8; ++seed) {
    Machine m(seed);
    std::vector<std::unique_ptr<SampledRows>> samples(cases.size());
    std::vector<Tensor> rows(cases.size());
    // The compute stream's last work on memory that a slot may be handed when it grows.
    const auto leave_memory = [&](int64_t words) {
      Tensor left = m.device().tensor({words}, Dtype::i64);
      slow_down(m.compute(), 30);
      m.device().fill_zero(left);
    };
    const auto ask = [&](size_t n) {
      slow_down(m.compute(), static_cast<int>(seed * 7 + n * 5) % 40);
      rows[n] = samples[n]->get();
      CHECK(samples[n]->get().raw() == rows[n].raw());
      samples[n].reset();
    };
    // One to four under way; of a group the first is asked for last.
    size_t begun = 0;
    while (begun < cases.size()) {
      const size_t group = std::min(1 + (begun + seed) % 4, cases.size() - begun);
      for (const int64_t words : {4096, 8192, 16384, 32768}) leave_memory(words);
      for (size_t n = begun; n < begun + group; ++n) samples[n] = m.ops().start_sample(cases[n]);
      m.ops().start_sample(cases[begun]);  // nobody asks for it
      for (size_t n = begun + group; n > begun; --n) ask(n - 1);
      begun += group;
    }
    for (size_t n = 0; n < cases.size(); ++n) {
      INFO("seed " << seed << ", case " << n);
      CHECK(m.read(rows[n]) == sets[n]);
    }
  }
}

TEST_CASE("samplings take no memory and make the host wait for nothing after the third") {
  Machine m;
  standin::Counters before;
  std::unique_ptr<SampledRows> next = m.ops().start_sample(sampling(0, 30));
  for (int64_t step = 1; step < 12; ++step) {
    if (step == 3) before = standin::counters();
    const Tensor rows = next->get();
    slow_down(m.compute(), 10);  // the step
    next = m.ops().start_sample(sampling(step, 30 + step % 4));
  }
  standin::check_steady_since(before);
}

}  // namespace
}  // namespace plsc::test
