// What choosing the largest elements of a gradient costs (comm.compress) on a CPU, one thread: by counting all of them,
// and by counting those alone that reach a sample's threshold, beside copying the gradient.
//   bench_topk [--ratio .001] [ELEMENTS...]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/cpu/topk.h"
#include "scripts/bench/timed_ops.h"

namespace plsc {
namespace {

struct Taken {
  std::vector<int32_t> indices, bits;
};

void choose(const std::vector<float>& x, int64_t k, Taken& to) {
  const auto n = static_cast<int64_t>(x.size());
  math::TopkCut cut;
  cut.left = k;
  for (int level = 0; level < math::kTopkLevels; ++level) {
    std::vector<int64_t> counts(math::kTopkBins);
    kernels::count_magnitudes(cut, level, x.data(), n, counts.data());
    cut = kernels::narrow_cut(cut, level, counts.data());
  }
  kernels::write_taken(cut, x.data(), n, cut.left, 0, to.indices.data(), to.bits.data());
}

/// How many there were to choose from; 0: a sample is of no use.
size_t choose_of_candidates(const std::vector<float>& x, int64_t k, Taken& to) {
  const auto n = static_cast<int64_t>(x.size());
  const uint32_t bound = kernels::sampled_bound(x.data(), n, k);
  if (bound == 0) return 0;
  kernels::Candidates found;
  kernels::add_candidates(bound, x.data(), n, 0, found);
  choose(found.values, k, to);
  for (int32_t& index : to.indices) index = found.indices[static_cast<size_t>(index)];
  return found.values.size();
}

double best_of(int repeats, const std::function<void()>& work) {
  double best = 1e300;
  for (int i = 0; i < repeats; ++i) {
    const BenchWatch watch(true);
    work();
    best = std::min(best, watch.seconds());
  }
  return best;
}

void measure(int64_t n, double ratio) {
  const int64_t k = std::max<int64_t>(1, std::llround(ratio * static_cast<double>(n)));
  std::vector<float> x(static_cast<size_t>(n)), copy(x.size());
  uint64_t state = 1;
  for (float& v : x) {  // magnitudes over many powers of two, as gradients have them
    state = state * 6364136223846793005U + 1442695040888963407U;
    const double u = (static_cast<double>(state >> 11) + 0.5) * 0x1p-53;
    v = static_cast<float>(std::log(u) * std::exp2(-8 * (1 - u)) * ((state & 1) != 0 ? 1 : -1));
  }
  Taken all{std::vector<int32_t>(static_cast<size_t>(k)), std::vector<int32_t>(static_cast<size_t>(k))}, some = all;
  size_t candidates = 0;
  const double counted = best_of(20, [&] { choose(x, k, all); });
  const double sampled = best_of(20, [&] { candidates = choose_of_candidates(x, k, some); });
  const double copied = best_of(20, [&] { std::memcpy(copy.data(), x.data(), x.size() * sizeof(float)); });
  const auto size = static_cast<long long>(n);
  if (candidates == 0) {
    std::printf("%9lld elements: a sample is of no use\n", size);
    return;
  }
  std::printf("%9lld elements: counted %8.1f us, of %zu candidates %7.1f us (%.1f times as fast), copied %6.1f us%s\n",
              size, counted * 1e6, candidates, sampled * 1e6, counted / sampled, copied * 1e6,
              all.indices == some.indices && all.bits == some.bits ? "" : "; THEY DIFFER");
}

}  // namespace
}  // namespace plsc

int main(int argc, char** argv) {
  CLI::App app("The largest elements of a gradient: what choosing them costs on a CPU");
  double ratio = 0.001;
  std::vector<int64_t> sizes{9216, 65536, 589824, 2359296};
  app.add_option("--ratio", ratio, "of the elements that are chosen")->check(CLI::Range(1e-6, 0.03));
  app.add_option("elements", sizes, "of a gradient, each");
  CLI11_PARSE(app, argc, argv);
  for (const int64_t n : sizes) plsc::measure(n, ratio);
}
