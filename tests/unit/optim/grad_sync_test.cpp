// Buckets of gradients over thread ranks: sums, views into one buffer, early starts, statistics riding along.
#include "optim/grad_sync.h"

#include "kernels/math/bf16.h"
#include "support/catch.h"
#include "support/counted_collective.h"
#include "support/cpu_context.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// Parameters of odd sizes with a frozen one and a buffer between them, and one tensor of statistics.
struct World {
  explicit World(Device& device) {
    const int64_t sizes[] = {5, 1000, 17, 64, 3000, 1};
    for (size_t i = 0; i < std::size(sizes); ++i) {
      Param p;
      p.name = "p" + std::to_string(i);
      p.value = device.zeros({sizes[i]});
      p.frozen = i == 2;
      p.kind = i == 3 ? ParamKind::buffer : ParamKind::weight;
      owned.push_back(std::move(p));
    }
    for (Param& p : owned) params.push_back(&p);
    statistics = device.zeros({7}, Dtype::f64);
    statistics.data<double>()[0] = 2.5;
    summed.push_back(&statistics);
  }
  void fill(int rank) {
    for (size_t i = 0; i < owned.size(); ++i) {
      if (!owned[i].trainable()) continue;
      Tensor& g = owned[i].grad;
      for (int64_t e = 0; e < g.elements(); ++e) {
        const float v = value(rank, i, static_cast<size_t>(e));
        if (g.dtype() == Dtype::f64) g.data<double>()[e] = v;
        if (g.dtype() == Dtype::f32) g.data<float>()[e] = v;
      }
    }
    for (int64_t e = 0; e < 7; ++e) statistics.data<double>()[e] = value(rank, 99, static_cast<size_t>(e));
  }
  static double element(const Tensor& t, int64_t e) {
    return t.dtype() == Dtype::f64 ? t.data<double>()[e] : double{t.data<float>()[e]};
  }
  static float value(int rank, size_t param, size_t element) {
    return static_cast<float>((rank + 1) * 1000 + static_cast<int>(param)) + static_cast<float>(element % 13);
  }
  bool summed_over(int ranks) const {
    const auto total = [ranks](size_t param, size_t element) {
      float sum = 0;
      for (int r = 0; r < ranks; ++r) sum += value(r, param, element);
      return sum;
    };
    for (size_t i = 0; i < owned.size(); ++i) {
      if (!owned[i].trainable()) continue;
      for (int64_t e = 0; e < owned[i].grad.elements(); ++e)
        if (element(owned[i].grad, e) != total(i, static_cast<size_t>(e))) return false;
    }
    for (int64_t e = 0; e < 7; ++e)
      if (statistics.data<double>()[e] != total(99, static_cast<size_t>(e))) return false;
    return true;
  }

  std::vector<Param> owned;
  std::vector<Param*> params;
  Tensor statistics;
  std::vector<Tensor*> summed;
};

}  // namespace

TEST_CASE("gradients and statistics are summed over the ranks, step after step") {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const int64_t bucket_bytes : {int64_t{1}, int64_t{4096}, GradSyncOptions{}.bucket_bytes}) {
      run_ranks(ranks, [&](ThreadRank& self) {
        CpuContext rank(self);
        rank.context.sums_in_double = bucket_bytes == 4096;
        World world(*rank.backend.device);
        GradSync sync(rank.context, world.params, world.summed, {bucket_bytes});
        if (!(world.statistics.data<double>()[0] == 2.5)) throw Error("statistics were not kept");
        if ((world.owned[0].grad.dtype() == Dtype::f64) != rank.context.sums_in_double) throw Error("wrong type");
        if (world.owned[2].grad.defined() || world.owned[3].grad.defined()) throw Error("a gradient too many");
        for (int step = 0; step < 3; ++step) {
          world.fill(self.rank);
          sync.run(rank.context);
          if (!world.summed_over(ranks)) throw Error("wrong sums");
        }
      });
    }
  }
}

TEST_CASE("notified buckets start early and give the same sums; micro-batches are waited for") {
  // 1 byte: a bucket for each parameter.
  for (const int64_t bucket_bytes : {int64_t{1}, int64_t{4096}}) {
    run_ranks(3, [&](ThreadRank& self) {
      CpuContext rank(self);
      CountedCollective counted(self.comm);
      Context context{rank.backend, counted, self.host, rank.log, Dtype::f32, 1};
      World world(*rank.backend.device);
      GradSync sync(context, world.params, world.summed, {bucket_bytes});
      if (sync.buckets() < 2) throw Error("one bucket only: nothing to test");
      for (int step = 0; step < 3; ++step) {
        sync.begin(2);
        for (int micro = 0; micro < 2; ++micro) {
          // Any order within a backward pass will do; what started must have been complete.
          if (micro == 1) world.fill(self.rank);
          for (auto p = world.params.rbegin(); p != world.params.rend(); ++p) sync.notify(context, **p);
        }
        // All gradients are on their way; statistics and waits are to come.
        if (counted.count("all-reduce") != (step + 1) * sync.buckets() - 1) throw Error("late starts");
        sync.run(context);
        if (!world.summed_over(3)) throw Error("wrong sums");
      }
    });
  }
}

TEST_CASE("in bf16 gradients are rounded, summed in fp32 and rounded; statistics are not") {
  run_ranks(3, [&](ThreadRank& self) {
    CpuContext rank(self);
    World world(*rank.backend.device);
    GradSync sync(rank.context, world.params, world.summed, {.bucket_bytes = 4096, .bf16 = true});
    world.fill(self.rank);
    sync.run(rank.context);
    const auto rounded = [](float x) { return math::bf16_to_float(math::float_to_bf16(x)); };
    bool changed = false;
    for (const size_t i : {0, 1, 4, 5}) {
      for (int64_t e = 0; e < world.owned[i].grad.elements(); ++e) {
        float sum = 0, exact = 0;
        for (int r = 0; r < 3; ++r) {
          sum += rounded(World::value(r, i, static_cast<size_t>(e)));
          exact += World::value(r, i, static_cast<size_t>(e));
        }
        if (World::element(world.owned[i].grad, e) != rounded(sum)) throw Error("wrong sums");
        changed |= rounded(sum) != exact;
      }
    }
    if (!changed) throw Error("nothing was rounded: nothing tested");
    for (int64_t e = 0; e < 7; ++e) {
      const auto at = static_cast<size_t>(e);
      if (world.statistics.data<double>()[e] !=
          World::value(0, 99, at) + World::value(1, 99, at) + World::value(2, 99, at))
        throw Error("statistics were rounded");
    }
  });
}

TEST_CASE("gradients lie in one buffer, the last parameter's first; statistics in one of their own") {
  CpuContext rank;
  World world(*rank.backend.device);
  GradSync sync(rank.context, world.params, world.summed);
  CHECK(sync.buckets() == 2);
  const float* first = world.owned[5].grad.data<float>();
  CHECK(world.owned[4].grad.data<float>() == first + 16);
  CHECK(world.owned[1].grad.data<float>() == first + 16 + 3008);
  CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0);
  CHECK(reinterpret_cast<uintptr_t>(world.statistics.data<double>()) % 64 == 0);
}

TEST_CASE("more announcements than micro-batches are a bug") {
  CpuContext rank;
  World world(*rank.backend.device);
  GradSync sync(rank.context, world.params, world.summed);
  sync.begin(1);
  for (const size_t i : {5, 4, 1, 0}) sync.notify(rank.context, world.owned[i]);
  CHECK_THROWS_AS(sync.notify(rank.context, world.owned[0]), LogicError);
}
