// Times of the collectives: mpirun -np 2 build/cpu/bin/bench_collectives. The best of several, seen by rank 0.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "comm/world.h"

using namespace plsc;

namespace {

template <class Body>
double best_seconds(Collective& comm, int64_t elements, const Body& body) {
  double best = 1e9;
  for (int repeat = 0; repeat < (elements < 100'000 ? 200 : 6); ++repeat) {
    comm.barrier();
    const Stopwatch watch;
    body();
    best = std::min(best, watch.seconds());
  }
  return best;
}

}  // namespace

int main() {
  World world{World::Options{}};
  Collective& comm = world.device_collective();
  const int size = comm.size();
  if (comm.rank() == 0)
    std::printf("%d ranks; microseconds\n%12s %12s %12s %14s\n", size, "elements", "all_reduce", "all_gather",
                "reduce_scatter");
  for (const int64_t n : {16, 1024, 65536, 1 << 20, 24 << 20}) {
    const int64_t share = n / size;
    Tensor t(host_allocator(), {share * size}, Dtype::f32), part(host_allocator(), {share}, Dtype::f32);
    std::fill_n(t.data<float>(), t.elements(), 1.0F);
    std::fill_n(part.data<float>(), share, 1.0F);
    const double reduce = best_seconds(comm, n, [&] { comm.all_reduce(t, ReduceOp::max); });
    const double gather = best_seconds(comm, n, [&] { comm.all_gather(part, t); });
    const double scatter = best_seconds(comm, n, [&] { comm.reduce_scatter(t, part); });
    if (comm.rank() == 0)
      std::printf("%12ld %12.1f %12.1f %14.1f\n", static_cast<long>(n), reduce * 1e6, gather * 1e6, scatter * 1e6);
  }
  world.finish();
}
