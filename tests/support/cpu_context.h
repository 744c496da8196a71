// A rank of a test: the CPU backend and a context, alone or as one of several thread ranks.
#pragma once
#include <memory>

#include "runtime/context.h"
#include "support/thread_world.h"

namespace plsc::test {

/// Owns what a Context refers to. One thread a rank: results then do not depend on how a loop was split.
struct CpuContext {
  explicit CpuContext(int threads = 1)
      : alone(make_single_collective()),
        backend(make_cpu_backend(threads)),
        log(0, LogLevel::error),
        context{backend, *alone, *alone, log, Dtype::f32, 1} {}
  explicit CpuContext(ThreadRank& rank, int threads = 1)
      : backend(make_cpu_backend(threads)), log(rank.rank, LogLevel::error), context{backend, rank.comm,  rank.host,
                                                                                     log,     Dtype::f32, 1} {}

  std::unique_ptr<Collective> alone;
  Backend backend;
  Log log;
  Context context;
};

}  // namespace plsc::test
