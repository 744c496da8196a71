// One block of an emulated launch: its threads as fibres, their barriers and exchanges.
#pragma once
#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drawn_order.h"
#include "emulator.h"
#include "fibre.h"
#include "race_detector.h"

namespace plsc::standin {

namespace emulator = plsc::kernels::cuda::emulator;

/// Runs blocks one after another, each thread until it waits for others; which goes on is drawn. One for each thread of
/// the process, whose fibres it keeps.
class BlockRunner {
 public:
  /// Runs `thread` once for each thread of the block that threadIdx, blockIdx and the like tell of. Throws what a
  /// thread throws.
  void run(int threads, const std::function<void()>& thread, Draw& draw);

  // Called by the running thread.
  void meet_block(emulator::Place place);
  const uint64_t* meet_warp(emulator::Meeting meeting, emulator::Place place, size_t bytes, uint64_t value);

  /// Whether an access to `address` overflows the running thread's stack.
  bool overflows_at(const void* address) const { return running_ != nullptr && running_->overflows_at(address); }

 private:
  /// What threads come to together, and the first of them.
  struct Gathering {
    emulator::Meeting meeting{};
    emulator::Place place{};
    size_t bytes = 0;
    int first_thread = 0;
    int arrived = 0;
  };
  struct Warp {
    Order32 order;
    uint32_t runnable = 0;            // a bit for each place in `order`
    std::array<Fibre*, 32> fibres{};  // of the lanes that wait; null before a lane's first text
    Gathering exchange;
    std::array<std::array<uint64_t, 32>, 2> values{};  // of the exchange that gathers, and of the one before
    int gathering_values = 0;
    std::array<std::byte, 2> order_places{};  // likewise, for the race detector
    int in_barrier = 0;                       // lanes
    int ended = 0;                            // lanes
  };

  static void work();
  void prepare(int threads);
  void run_threads();
  void end_thread();
  void wait();
  /// From the fibre `from` to that of the current thread: one of its own where it waited, else an idle one.
  void leave_for_current(Fibre& from);
  void release_block();
  /// Makes another runnable thread the current one; false where there is none.
  bool choose();
  void set_runnable(int warp, uint32_t lanes_by_place);
  Fibre* idle_fibre();
  Warp& warp() { return warps_[static_cast<size_t>(current_ / 32)]; }
  /// The current thread has come to `gathering`, or it does not belong there: misuse.
  void join(Gathering& gathering, emulator::Meeting meeting, emulator::Place place, size_t bytes);

  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Fibre*> idle_;
  std::optional<Fibre> outside_;
  Fibre* running_ = nullptr;

  const std::function<void()>* thread_ = nullptr;
  Draw* draw_ = nullptr;
  std::array<Warp, 32> warps_;
  Order32 warp_order_;
  uint32_t runnable_warps_ = 0;  // a bit for each place in warp_order_
  int threads_ = 0;
  int current_ = 0;
  int ended_ = 0;
  int last_ended_ = 0;
  Gathering barrier_;
  int gathering_barrier_ = 0;                  // one of two: a thread may pass one late
  std::array<std::byte, 2> barrier_places_{};  // for the race detector
  RaceDetector races_;
  int64_t switches_ = 0;
  std::exception_ptr error_;
};

/// "launch: block (x, y), thread t": what messages call the running thread.
std::string running_thread();

}  // namespace plsc::standin
