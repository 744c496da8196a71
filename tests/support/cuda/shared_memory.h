// The emulated kernels' shared memory: NaN before each block, and guarded behind.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace plsc::standin {

/// All variables that kernels declare __shared__. In emulation they are `static`, so the executable's own symbol table
/// knows them: objects that are local to a function of plsc::kernels::cuda.
class StaticShared {
 public:
  /// Reads the symbols. Misuse where the executable has none.
  StaticShared();

  /// Fills with NaN what the next block may use: everything before a launch's first block, later what was written.
  void before_block(int64_t blocks_done);
  /// Learns what the launch writes: from its first block, its second, its fourth and so on.
  void after_block(int64_t blocks_done);

  size_t bytes() const;

 private:
  struct Variable {
    std::span<std::byte> memory;
    bool written = false;
  };
  std::vector<Variable> variables_;
};

/// What PLSC_DYNAMIC_SHARED names: it ends where inaccessible memory begins.
class DynamicShared {
 public:
  explicit DynamicShared(size_t largest);
  ~DynamicShared();
  DynamicShared(const DynamicShared&) = delete;
  DynamicShared& operator=(const DynamicShared&) = delete;

  /// `bytes` for the next block, filled with NaN; bytes around it that no one may touch.
  void before_block(size_t bytes);
  /// Whether the bytes around are as they were.
  bool intact() const;

  void* begin() const { return begin_; }
  /// Whether an access to `address` is one beyond the end.
  bool overflows_at(const void* address) const;

 private:
  std::byte* guard_end() const { return begin_ + (bytes_ + 15) / 16 * 16; }

  std::byte* memory_ = nullptr;
  size_t usable_ = 0;
  std::byte* begin_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace plsc::standin
