// Races between a block's threads: kernels compiled with the thread sanitizer, which the emulator tells who runs.
#include <functional>
#include <vector>

#include "emulator_kernels.h"
#include "support/catch.h"

namespace {

int reports = 0;

}  // namespace

// Called by the sanitizer: for its settings (a race that is expected must neither fail the process nor hide the next
// one), and with each report, of which the test's output is full.
extern "C" const char* __tsan_default_options() {
  return "exitcode=0:suppress_equal_stacks=0:suppress_equal_addresses=0";
}
extern "C" void __tsan_on_report(void*) { ++reports; }

namespace plsc::kernels::cuda::test {
namespace {

int reports_of(const std::function<void()>& body) {
  reports = 0;
  body();
  return reports;
}

TEST_CASE("right kernels have no race") {
  constexpr int threads = 96;
  constexpr int64_t n = 3 * threads;
  std::vector<double> x(n, 1.0), y(n);
  std::vector<float> numbers(n, 2.0f), out(n);
  CHECK(reports_of([&] { reverse(x.data(), y.data(), 3, threads, nullptr); }) == 0);
  std::vector<float> largest(3), float_sums(3);
  std::vector<double> sums(3);
  int differing = 0;
  CHECK(reports_of([&] {
          reduce_rows({numbers.data(), 3, threads, sums.data(), float_sums.data(), largest.data(), &differing}, 64,
                      nullptr);
        }) == 0);
  CHECK(reports_of([&] { scale(numbers.data(), out.data(), n, 0.5f, nullptr); }) == 0);
  Tallies tallies{};
  std::vector<unsigned long long> counters(8);
  tallies.add_float = reinterpret_cast<float*>(&counters[0]);
  tallies.add_double = reinterpret_cast<double*>(&counters[1]);
  tallies.add_int = reinterpret_cast<int*>(&counters[2]);
  tallies.add_unsigned = reinterpret_cast<unsigned*>(&counters[3]);
  tallies.add_wide = &counters[4];
  tallies.max_int = reinterpret_cast<int*>(&counters[5]);
  tallies.max_unsigned = reinterpret_cast<unsigned*>(&counters[6]);
  tallies.or_unsigned = reinterpret_cast<unsigned*>(&counters[7]);
  CHECK(reports_of([&] { tally(tallies, 3, threads, nullptr); }) == 0);
  CHECK(reports_of([&] { race(Race::none_by_warp_barrier, out.data(), nullptr); }) == 0);
}

TEST_CASE("races are found, whether or not the numbers are right") {
  std::vector<float> out(64);
  const auto found = [&](Race kind) { return reports_of([&] { race(kind, out.data(), nullptr); }) > 0; };
  CHECK(found(Race::read_before_barrier));
  CHECK(found(Race::written_again_before_barrier));
  CHECK(found(Race::shuffle_is_no_barrier));
  CHECK(found(Race::warp_barrier_between_warps));
  CHECK(found(Race::same_output));
  CHECK(reports_of([&] { rely_on_lock_step(out.data(), nullptr); }) > 0);
}

}  // namespace
}  // namespace plsc::kernels::cuda::test
