// Races between the threads of an emulated block, found by the thread sanitizer.
#pragma once
#include <cstddef>
#include <vector>

namespace plsc::standin {

/// Tells the thread sanitizer, in a process that is linked to it, which thread of the block runs and what orders two
/// threads' accesses: a barrier of the block or of the warp, nothing else. Blocks count as ordered. In other processes
/// it does nothing. Compile the kernels alone with it.
class RaceDetector {
 public:
  RaceDetector();
  ~RaceDetector();
  RaceDetector(const RaceDetector&) = delete;
  RaceDetector& operator=(const RaceDetector&) = delete;

  bool active() const { return outside_ != nullptr; }

  /// Before a block's first thread and after its last.
  void begin_block(int threads);
  void end_block(int threads);
  /// What runs from here on is this thread's text, or the emulator's own.
  void enter(int thread) {
    if (active()) switch_to(fibres_[static_cast<size_t>(thread)]);
  }
  void leave() {
    if (active()) switch_to(outside_);
  }

  /// What meets orders all before arrive() before all after pass(), for those of the same `place`.
  static void arrive(const std::byte& place);
  static void pass(const std::byte& place);

 private:
  static void switch_to(void* fibre);

  void* outside_ = nullptr;  // null without the sanitizer
  std::vector<void*> fibres_;
};

}  // namespace plsc::standin
