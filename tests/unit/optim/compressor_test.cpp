// Compressed gradients over thread ranks, against the recurrence written out in double: what is sent, what is kept, and
// that both are all there was.
#include "optim/compressor.h"

#include <cmath>
#include <map>
#include <mutex>

#include "kernels/math/rng.h"
#include "optim/grad_sync.h"
#include "optim/optimizer.h"
#include "support/catch.h"
#include "support/counted_collective.h"
#include "support/cpu_context.h"
#include "support/step_state.h"

using namespace plsc;
using namespace plsc::test;

namespace {

constexpr float kMomentum = 0.875F, kLr = 0.125F, kDecay = 0.0625F, kTrust = 0.5F;
// Two large weights, one of them no multiple of any part; a small one, a norm and a frozen one.
constexpr int64_t kSizes[] = {3000, 40, 5001, 4000, 4100};
constexpr size_t kParams = std::size(kSizes);
constexpr bool kCompressed[] = {true, false, true, false, false};

float drawn(uint64_t which, int64_t i) {
  const auto bits = math::random4(7, math::Draw::synthetic, which, static_cast<uint64_t>(i)).x[0];
  // A few large ones among many small.
  const float x = 2 * math::to_unit_float(bits) - 1;
  return x * x * x;
}
float gradient(int rank, int64_t step, size_t param, int64_t i) {
  return drawn(1000 + static_cast<uint64_t>(rank + 16 * step) * kParams + param, i);
}

struct Options {
  CompressConfig compress{"topk", 0.01, 0, 1000, "none"};
  double clip = 0;
  bool nesterov = false;
  int node = 1;  // ranks of one
  int64_t bucket_bytes = 1;
  double loss_scale = 1;
  bool lars = false;
};

/// One rank's parameters and what steps them.
struct Rank {
  Rank(ThreadRank& self, const Options& chosen)
      : options(chosen), rank(self), counted(self.comm), context{rank.backend, counted,    self.host,
                                                                 rank.log,     Dtype::f32, 1} {
    if (options.node > 1) {
      group = counted.split(options.node, self.host);
      context.node_group = group.get();
    }
    context.loss_scaling = options.loss_scale != 1;
    if (context.loss_scaling) set_loss_scale(rank.backend, {options.loss_scale, 0});
    for (size_t i = 0; i < kParams; ++i) {
      Param p;
      p.name = "p" + std::to_string(i);
      p.value = rank.backend.device->zeros({kSizes[i]});
      for (int64_t e = 0; e < kSizes[i]; ++e) p.value.data<float>()[e] = drawn(i, e);
      p.kind = i == 3 ? ParamKind::norm : ParamKind::weight;
      p.frozen = i == 4;
      owned.push_back(std::move(p));
    }
    for (Param& p : owned) params.push_back(&p);
    config.momentum = static_cast<double>(kMomentum);
    config.weight_decay = static_cast<double>(kDecay);
    config.nesterov = options.nesterov;
    if (options.lars) config.name = "lars";
    config.trust = static_cast<double>(kTrust);
    compress_gradients(context, params, options.compress);
    const double clip = options.clip / std::sqrt(static_cast<double>(self.ranks));
    sync.emplace(context, params, std::vector<Tensor*>{},
                 GradSyncOptions{options.bucket_bytes, false, sent_share(context, options.compress), kDecay, clip,
                                 options.lars});
    optimizer.emplace(config);
  }
  /// The gradient is that of `samples_of` so many ranks, so that a world of fewer has the same in all.
  void step(int64_t number, const std::function<void(Rank&)>& spoil = {}) {
    begin_step(rank.backend, {.step = number,
                              .dynamic_scale = context.loss_scaling ? 1.0 : 0.0,
                              .rule = optimizer->rule(static_cast<double>(kLr))});
    sync->begin(1);
    for (size_t i = 0; i < kParams; ++i) {
      if (!owned[i].trainable()) continue;
      for (int64_t e = 0; e < kSizes[i]; ++e)
        owned[i].grad.data<float>()[e] =
            static_cast<float>(options.loss_scale) * gradient(context.rank(), number, i, e);
      owned[i].grad_stale = false;
    }
    if (spoil) spoil(*this);
    for (auto p = params.rbegin(); p != params.rend(); ++p) sync->notify(context, **p);
    sync->run(context);
    sync->settle(context);
    optimizer->step(context, params);
    rank.backend.optim->finish_step();
  }
  Options options;
  CpuContext rank;
  CountedCollective counted;
  Context context;
  std::unique_ptr<Collective> group;
  std::vector<Param> owned;
  std::vector<Param*> params;
  OptimizerConfig config;
  std::optional<GradSync> sync;
  std::optional<Optimizer> optimizer;
};

using Doubles = std::vector<double>;

/// The same in one place and in double: nodes with their own momentum and rest, and exact choices by sorting.
struct Reference {
  Reference(int of_ranks, const Options& chosen) : o(chosen), ranks(of_ranks), nodes(of_ranks / chosen.node) {
    for (size_t i = 0; i < kParams; ++i) {
      Doubles value;
      for (int64_t e = 0; e < kSizes[i]; ++e) value.push_back(static_cast<double>(drawn(i, e)));
      w.push_back(std::move(value));
      const Doubles zeros(static_cast<size_t>(kSizes[i]), 0.0);
      u.emplace_back(static_cast<size_t>(nodes), zeros);
      v.emplace_back(static_cast<size_t>(nodes), zeros);
    }
  }
  void step(int64_t number) {
    std::vector<double> factor(static_cast<size_t>(ranks), 1.0);
    if (o.clip > 0) {
      for (int r = 0; r < ranks; ++r) {
        double squares = 0;
        for (size_t i = 0; i + 1 < kParams; ++i)
          for (int64_t e = 0; e < kSizes[i]; ++e)
            squares += std::pow(static_cast<double>(gradient(r, number, i, e)), 2);
        const double bound = o.clip / std::sqrt(static_cast<double>(ranks));
        factor[static_cast<size_t>(r)] = std::min(1.0, bound / (std::sqrt(squares) + 1e-6));
      }
    }
    const auto g_of = [&](int begin, int end, size_t i, size_t e) {
      double g = 0;
      for (int r = begin; r < end; ++r)
        g += factor[static_cast<size_t>(r)] * static_cast<double>(gradient(r, number, i, static_cast<int64_t>(e)));
      return g;
    };
    const auto m = static_cast<double>(kMomentum), decay = static_cast<double>(kDecay), lr = static_cast<double>(kLr);
    for (size_t i = 0; i + 1 < kParams; ++i) {
      Doubles update(w[i].size(), 0.0);
      if (!kCompressed[i]) {
        Doubles g;
        for (size_t e = 0; e < w[i].size(); ++e) g.push_back(g_of(0, ranks, i, e));
        // Of a norm there is no ratio. LARS has the rate inside of its momentum: while it is constant, the same.
        const double rate = i == 3 ? 1 : ratio(w[i], g, 0, w[i].size(), 1);
        for (size_t e = 0; e < w[i].size(); ++e) {
          const double step = rate * (g[e] + decay * w[i][e]);
          u[i][0][e] = m * u[i][0][e] + step;
          update[e] = o.nesterov ? step + m * u[i][0][e] : u[i][0][e];
        }
      } else {
        for (int n = 0; n < nodes; ++n) {
          Doubles& un = u[i][static_cast<size_t>(n)];
          Doubles& vn = v[i][static_cast<size_t>(n)];
          Doubles g;
          for (size_t e = 0; e < vn.size(); ++e) g.push_back(g_of(n * o.node, (n + 1) * o.node, i, e));
          for (size_t begin = 0; begin < vn.size(); begin += part_size(vn.size())) {
            const size_t end = std::min(vn.size(), begin + part_size(vn.size()));
            const double rate = ratio(w[i], g, begin, end, nodes);
            for (size_t e = begin; e < end; ++e) {
              const double step = rate * (g[e] + decay / nodes * w[i][e]);
              un[e] = m * un[e] + step;
              vn[e] += o.nesterov ? step + m * un[e] : un[e];
            }
          }
          send(un, vn, update);
        }
      }
      for (size_t e = 0; e < update.size(); ++e) w[i][e] -= lr * update[e];
    }
  }
  /// LARS's ratio of these elements, from the gradient of one of `of` nodes.
  double ratio(const Doubles& weights, const Doubles& g, size_t begin, size_t end, int of) const {
    if (!o.lars) return 1;
    double w_squares = 0, g_squares = 0;
    for (size_t e = begin; e < end; ++e) {
      w_squares += weights[e] * weights[e];
      g_squares += g[e] * g[e];
    }
    const double norm = std::sqrt(w_squares);
    return static_cast<double>(kTrust) * norm / (std::sqrt(of * g_squares) + static_cast<double>(kDecay) * norm);
  }
  size_t part_size(size_t n) const {
    const size_t local = static_cast<size_t>(o.node);
    return (n + 16 * local - 1) / (16 * local) * 16;
  }
  /// Each of a node's ranks from its part.
  void send(Doubles& un, Doubles& vn, Doubles& update) const {
    const size_t n = vn.size(), local = static_cast<size_t>(o.node), size = part_size(n);
    const auto k = static_cast<size_t>(std::ceil(o.compress.ratio * static_cast<double>((n + local - 1) / local)));
    for (size_t begin = 0; begin < n; begin += size) {
      std::vector<size_t> order;
      for (size_t e = begin; e < std::min(n, begin + size); ++e) order.push_back(e);
      std::ranges::stable_sort(order, std::greater<>(), [&](size_t e) { return std::abs(vn[e]); });
      for (size_t j = 0; j < std::min(k, order.size()); ++j) {
        update[order[j]] += vn[order[j]];
        un[order[j]] = vn[order[j]] = 0;
      }
    }
  }
  Options o;
  int ranks, nodes;
  std::vector<Doubles> w;
  std::vector<std::vector<Doubles>> u, v;
};

/// fp32 steps of values of about 1.
void require_near(const Tensor& found, const Doubles& expected, const std::string& what) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double x = static_cast<double>(found.data<float>()[i]);
    if (!(std::abs(x - expected[i]) <= 2e-5))
      throw Error(fmt::format("{}: element {} is {}, expected {}", what, i, x, expected[i]));
  }
}

void compare(const Options& options, int ranks, int64_t steps) {
  Reference reference(ranks, options);
  for (int64_t s = 0; s < steps; ++s) reference.step(s);
  std::vector<std::vector<float>> weights(static_cast<size_t>(ranks));
  run_ranks(ranks, [&](ThreadRank& self) {
    Rank rank(self, options);
    for (int64_t s = 0; s < steps; ++s) rank.step(s);
    std::vector<float>& all = weights[static_cast<size_t>(self.rank)];
    for (size_t i = 0; i + 1 < kParams; ++i) {
      const Param& p = rank.owned[i];
      require_near(p.value, reference.w[i], p.name);
      for (const float x : p.value.span<float>()) all.push_back(x);
      if (p.part.defined() != kCompressed[i]) throw Error(p.name + ": wrongly compressed or not");
      if (!kCompressed[i]) continue;
      const auto node = static_cast<size_t>(self.rank / options.node);
      const auto own = [&](const Doubles& whole) {
        Doubles part(static_cast<size_t>(p.part.size), 0.0);
        for (size_t e = 0; e < part.size(); ++e) {
          const size_t at = static_cast<size_t>(p.part.begin) + e;
          if (at < whole.size()) part[e] = whole[at];
        }
        return part;
      };
      require_near(p.momentum, own(reference.u[i][node]), p.name + " velocity");
      require_near(p.unsent, own(reference.v[i][node]), p.name + " unsent");
    }
  });
  for (const auto& w : weights) REQUIRE(w == weights[0]);  // to the last bit
}

}  // namespace

TEST_CASE("compressed gradients follow the recurrence, and all ranks have the same weights") {
  compare({}, 1, 5);
  compare({}, 3, 8);
  Options options;
  options.nesterov = true;
  options.bucket_bytes = 1 << 20;
  compare(options, 2, 8);
  options.loss_scale = 1024;
  compare(options, 2, 3);
  options.clip = 2;  // gradients of about 30
  compare(options, 4, 6);
  // All is sent: momentum has nothing left to work with, as factor masking has it.
  options.compress.ratio = 1;
  compare(options, 2, 5);
}

TEST_CASE("the ranks of a host sum their gradients first, and send as one") {
  Options options;
  options.node = 2;
  compare(options, 2, 4);
  compare(options, 4, 8);
  options.node = 3;
  options.bucket_bytes = 1 << 20;
  options.clip = 3;
  compare(options, 6, 5);
}

TEST_CASE("with LARS what accumulates are steps by each node's own trust ratio") {
  Options options;
  options.lars = true;
  compare(options, 1, 5);
  compare(options, 3, 6);
  options.loss_scale = 1024;
  compare(options, 2, 4);
  options.node = 2;
  options.bucket_bytes = 1 << 20;
  compare(options, 4, 5);
}

TEST_CASE("what is sent and what is kept are all that there was") {
  // Without momentum and decay the sum over all steps of all gradients is what was descended and what is left.
  constexpr int kRanks = 3;
  constexpr int64_t kSteps = 12;
  std::map<int64_t, double> left;
  std::vector<float> after;
  std::mutex mutex;
  run_ranks(kRanks, [&](ThreadRank& self) {
    Options options;
    Rank rank(self, options);
    rank.optimizer.emplace([] {
      OptimizerConfig config;
      config.momentum = config.weight_decay = 0;
      return config;
    }());
    rank.sync.emplace(rank.context, rank.params, std::vector<Tensor*>{}, GradSyncOptions{1, false, 0.01, 0, 0});
    for (int64_t s = 0; s < kSteps; ++s) rank.step(s);
    const std::lock_guard lock(mutex);
    for (int64_t e = 0; e < kSizes[2]; ++e) left[e] += static_cast<double>(rank.owned[2].unsent.data<float>()[e]);
    if (self.rank == 0) after = rank.owned[2].value.values<float>();
  });
  double most = 0;
  int64_t kept = 0;
  for (int64_t e = 0; e < kSizes[2]; ++e) {
    double all = 0;
    for (int r = 0; r < kRanks; ++r)
      for (int64_t s = 0; s < kSteps; ++s) all += static_cast<double>(gradient(r, s, 2, e));
    const double descended =
        static_cast<double>(drawn(2, e) - after[static_cast<size_t>(e)]) / static_cast<double>(kLr);
    most = std::max(most, std::abs(all - descended - left[e]));
    kept += left[e] != 0;
  }
  CHECK(most < 2e-5);  // roundings of sums and weights of about 1, divided by the rate
  CHECK(kept > kSizes[2] / 2);
}

TEST_CASE("a step that is left out leaves what is kept as it was, whichever rank's gradient was not finite") {
  for (const size_t broken : {size_t{2}, size_t{3}}) {
    run_ranks(2, [&](ThreadRank& self) {
      Options options;
      options.loss_scale = 1024;
      Rank rank(self, options);
      for (int64_t s = 0; s < 3; ++s) rank.step(s);
      const auto state = [&] {
        std::vector<std::vector<float>> all;
        for (const Param& p : rank.owned) {
          all.push_back(p.value.values<float>());
          if (p.momentum.defined()) all.push_back(p.momentum.values<float>());
          if (p.unsent.defined()) all.push_back(p.unsent.values<float>());
        }
        return all;
      };
      const auto before = state();
      rank.step(3, [&](Rank& r) {
        if (self.rank == 1) r.owned[broken].grad.data<float>()[17] = std::numeric_limits<float>::infinity();
      });
      if (state_of(rank.rank.backend).loss_scale.scale != 512) throw Error("not left out");
      if (state() != before) throw Error("something was changed");
      rank.options.loss_scale = 512;
      rank.step(4);
      if (state() == before) throw Error("nothing was changed");
    });
  }
}

TEST_CASE("buckets of compressed gradients start while the others are still computed, and carry little") {
  run_ranks(2, [&](ThreadRank& self) {
    Rank rank(self, {});
    rank.step(0);
    const auto& calls = rank.counted.calls();
    const std::vector<std::string> expected = {
        "all-reduce f32 (4000)",  // of backward's order: the norm, a large one, the small one, a large one
        "all-gather i32 (1, 2, 51)",    "all-reduce f32 (48)",          "all-gather i32 (1, 2, 30)",
        "wait: gradient bucket 0",      "wait: compressed gradients 0", "wait: gradient bucket 2",
        "wait: compressed gradients 1",
    };
    if (calls != expected) throw Error(fmt::format("{}", fmt::join(calls, "\n")));
  });
  // With a norm to clip to nothing can start early; with hosts of two a tensor's sum comes first.
  run_ranks(2, [&](ThreadRank& self) {
    Options options;
    options.node = 2;
    Rank rank(self, options);
    rank.step(0);
    const auto& calls = rank.counted.calls();
    const auto at = [&](const std::string& call) { return std::ranges::find(calls, call) - calls.begin(); };
    if (!(at("group reduce-scatter f32 (5024)") < at("group reduce-scatter f32 (3008)") &&
          at("group reduce-scatter f32 (3008)") < at("all-gather i32 (1, 2, 26)") &&
          at("all-gather i32 (1, 2, 26)") < at("all-gather i32 (1, 2, 15)") &&
          at("all-gather i32 (1, 2, 15)") < static_cast<std::ptrdiff_t>(calls.size())))
      throw Error(fmt::format("{}", fmt::join(calls, "\n")));
  });
}

TEST_CASE("the share that is sent falls epoch by epoch, the same on every rank") {
  const CompressConfig config{"topk", 0.001, 4, 1, "none"};
  const double expected[] = {0.2512, 0.0631, 0.01585, 0.003981, 0.001, 0.001};
  for (int64_t epoch = 0; epoch < 6; ++epoch)
    CHECK(std::abs(sent_share(config, epoch, 2) / expected[epoch] - 1) < 1e-3);
  // No more than a dense sum would send, as far as the ratio leaves it.
  CHECK(sent_share(config, 0, 16) == 1.0 / 16);
  CHECK(sent_share(config, 3, 16) == sent_share(config, 3, 2));
  CHECK(sent_share({"topk", 0.5, 0, 1, "none"}, 0, 16) == 0.5);
  run_ranks(2, [&](ThreadRank& self) {
    Rank rank(self, {});
    rank.step(0);
    if (rank.sync->set_share(rank.context, 0.01)) throw Error("changed to the same");
    if (!rank.sync->set_share(rank.context, 0.1)) throw Error("not changed");
    rank.step(1);
    if (rank.counted.count("all-gather i32 (1, 2, 501)") != 1) throw Error("sent as much as before");
  });
}
