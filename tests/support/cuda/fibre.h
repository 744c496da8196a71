// A stack with text of its own, which runs in turn with others on one thread of the process.
#pragma once
#include <cstddef>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace plsc::standin {

class Fibre {
 public:
  /// The calling thread as it stands: where the fibres that it starts go back to.
  Fibre();
  /// A fibre that begins with `entry` when first resumed. `entry` never returns.
  explicit Fibre(void (*entry)());
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// Leaves this fibre, which is the running one, for `next`; returns when this one is resumed.
  void switch_to(Fibre& next);

  /// Whether an access to `address` is one beyond the end of this fibre's stack.
  bool overflows_at(const void* address) const;

 private:
  // The first text of a fibre, which only the sanitizer must be told of.
  static void begin();

  void (*entry_)() = nullptr;
  std::byte* memory_ = nullptr;  // a guard region, then the stack
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;  // the address sanitizer's
#ifdef __x86_64__
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_{};
#endif
};

}  // namespace plsc::standin
