// A rank for the cases of the head, on the device that the executable is for: the same files are linked with the CPU's
// owner (cpu.cpp beside them) and with CUDA's (tests/cuda/head_context_cuda.cpp).
#pragma once
#include <memory>

#include "runtime/context.h"

namespace plsc::test {

/// What a Context refers to.
class HeadContextOwner {
 public:
  virtual ~HeadContextOwner() = default;
  virtual Context& context() = 0;
};
/// `threads`: of a CPU. Each executable defines it once.
std::unique_ptr<HeadContextOwner> make_head_context(int threads);

/// Alone in its world.
class HeadContext {
 public:
  explicit HeadContext(int threads = 1) : owner_(make_head_context(threads)), context(owner_->context()) {}

 private:
  std::unique_ptr<HeadContextOwner> owner_;

 public:
  Context& context;
};

}  // namespace plsc::test
