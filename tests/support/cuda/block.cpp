#include "block.h"

#include <bit>
#include <cstring>

#include "standin.h"

namespace plsc::standin {

using emulator::Meeting;
using emulator::Place;
using kernels::cuda::threadIdx;

namespace {

constexpr uint32_t kAll = 0xFFFFFFFFu;
// A second or so: no block of a test comes near.
constexpr int64_t kMostSwitches = int64_t{1} << 25;

// The one whose fibres run: their first text takes no argument.
thread_local BlockRunner* at_work = nullptr;

const char* name_of(Meeting meeting) {
  switch (meeting) {
    case Meeting::block_barrier:
      return "__syncthreads";
    case Meeting::warp_barrier:
      return "__syncwarp";
    case Meeting::shuffle:
      return "__shfl_sync";
    case Meeting::shuffle_xor:
      return "__shfl_xor_sync";
    case Meeting::shuffle_down:
      return "__shfl_down_sync";
    case Meeting::ballot:
      return "a vote";
  }
  return "";
}

std::string describe(Meeting meeting, Place place, size_t bytes) {
  const std::string path = place.file;
  const std::string of = bytes > 0 ? fmt::format(" of {} bytes", bytes) : "";
  return fmt::format("{}{} ({}:{})", name_of(meeting), of, path.substr(path.rfind('/') + 1), place.line);
}

}  // namespace

void BlockRunner::run(int threads, const std::function<void()>& thread, Draw& draw) {
  if (!outside_) outside_.emplace();
  thread_ = &thread;
  draw_ = &draw;
  prepare(threads);
  races_.begin_block(threads);
  choose();
  at_work = this;
  leave_for_current(*outside_);
  running_ = nullptr;
  races_.end_block(threads);
  if (races_.active()) {
    idle_.clear();
    for (const auto& fibre : fibres_) idle_.push_back(fibre.get());
  }
  if (!error_) return;
  // The fibres that still wait never go on.
  idle_.clear();
  fibres_.clear();
  std::rethrow_exception(std::exchange(error_, nullptr));
}

void BlockRunner::prepare(int threads) {
  threads_ = threads;
  ended_ = 0;
  switches_ = 0;
  barrier_ = {};
  runnable_warps_ = 0;
  warp_order_ = Order32(*draw_);
  for (int warp = 0; warp < threads / 32; ++warp) {
    Warp& state = warps_[static_cast<size_t>(warp)];
    state.fibres.fill(nullptr);
    state.exchange = {};
    state.in_barrier = 0;
    state.ended = 0;
    state.order = Order32(*draw_);
    set_runnable(warp, kAll);
  }
  current_ = static_cast<int>((*draw_)() % static_cast<uint32_t>(threads));  // its warp begins
}

void BlockRunner::set_runnable(int warp, uint32_t lanes_by_place) {
  warps_[static_cast<size_t>(warp)].runnable = lanes_by_place;
  if (lanes_by_place != 0) runnable_warps_ |= 1u << warp_order_.place(warp);
}

bool BlockRunner::choose() {
  int warp = current_ / 32;
  if (warps_[static_cast<size_t>(warp)].runnable == 0) {
    if (runnable_warps_ == 0) return false;
    warp = warp_order_.item(std::countr_zero(runnable_warps_));
  }
  Warp& state = warps_[static_cast<size_t>(warp)];
  const int lane = state.order.item(std::countr_zero(state.runnable));
  state.runnable &= state.runnable - 1;
  if (state.runnable == 0) runnable_warps_ &= ~(1u << warp_order_.place(warp));
  current_ = warp * 32 + lane;
  threadIdx.x = static_cast<unsigned>(current_);
  return true;
}

Fibre* BlockRunner::idle_fibre() {
  if (idle_.empty()) return fibres_.emplace_back(std::make_unique<Fibre>(&BlockRunner::work)).get();
  Fibre* fibre = idle_.back();
  idle_.pop_back();
  return fibre;
}

// A fibre's whole text. It runs threads that have not begun yet; the ones that wait have fibres of their own.
void BlockRunner::work() {
  for (;;) {
    at_work->run_threads();
    Fibre* self = at_work->running_;
    if (!at_work->races_.active()) at_work->idle_.push_back(self);
    if (at_work->ended_ == at_work->threads_ || at_work->error_) {
      self->switch_to(*at_work->outside_);
    } else {
      at_work->leave_for_current(*self);
    }
  }
}

// Returns when the block has ended, or when the current thread is one that goes on elsewhere. Two threads of a block on
// one stack would look like a race to the detector: then each has its own.
void BlockRunner::run_threads() {
  try {
    do {
      races_.enter(current_);
      (*thread_)();
      end_thread();
      races_.leave();
    } while (choose() && warp().fibres[static_cast<size_t>(current_ % 32)] == nullptr && !races_.active());
  } catch (...) {
    error_ = std::current_exception();
    races_.leave();
  }
}

void BlockRunner::end_thread() {
  const auto check = [](const Gathering& gathering) {
    if (gathering.arrived == 0) return;
    misuse("{} ends, but thread {} waits for it at {}", running_thread(), gathering.first_thread,
           describe(gathering.meeting, gathering.place, gathering.bytes));
  };
  check(barrier_);
  check(warp().exchange);
  ++ended_;
  ++warp().ended;
  last_ended_ = current_;
}

void BlockRunner::wait() {
  if (++switches_ > kMostSwitches) misuse("{}: the block does not end", running_thread());
  races_.leave();
  Fibre* self = running_;
  warp().fibres[static_cast<size_t>(current_ % 32)] = self;
  choose();  // there is one: what all others wait for ends them before
  leave_for_current(*self);
}

void BlockRunner::leave_for_current(Fibre& from) {
  Fibre* next = warp().fibres[static_cast<size_t>(current_ % 32)];
  running_ = next != nullptr ? next : idle_fibre();
  races_.enter(current_);
  from.switch_to(*running_);
}

void BlockRunner::join(Gathering& gathering, Meeting meeting, Place place, size_t bytes) {
  const bool first = gathering.arrived == 0;
  if (first) {
    gathering = {meeting, place, bytes, current_, 0};
  } else if (gathering.meeting != meeting || gathering.bytes != bytes || gathering.place.line != place.line ||
             (gathering.place.file != place.file && std::strcmp(gathering.place.file, place.file) != 0)) {
    misuse("{} comes to {}, but thread {} waits for it at {}", running_thread(), describe(meeting, place, bytes),
           gathering.first_thread, describe(gathering.meeting, gathering.place, gathering.bytes));
  }
  ++gathering.arrived;
}

void BlockRunner::meet_block(Place place) {
  Warp& own = warp();
  if (ended_ > 0) {
    misuse("{} comes to {}, but thread {} of the block has ended", running_thread(),
           describe(Meeting::block_barrier, place, 0), last_ended_);
  }
  if (own.exchange.arrived > 0) join(own.exchange, Meeting::block_barrier, place, 0);
  join(barrier_, Meeting::block_barrier, place, 0);
  ++own.in_barrier;
  const std::byte& order_place = barrier_places_[static_cast<size_t>(gathering_barrier_)];
  RaceDetector::arrive(order_place);
  if (barrier_.arrived < threads_) {
    wait();
  } else {
    release_block();
  }
  RaceDetector::pass(order_place);
}

// The current thread is the last: all others may go on.
void BlockRunner::release_block() {
  gathering_barrier_ ^= 1;
  barrier_.arrived = 0;
  const int warps = threads_ / 32;
  for (int warp = 0; warp < warps; ++warp) {
    Warp& state = warps_[static_cast<size_t>(warp)];
    state.order = Order32(*draw_);
    state.in_barrier = 0;
    set_runnable(warp, kAll);
  }
  set_runnable(current_ / 32, kAll & ~(1u << warp().order.place(current_ % 32)));
}

const uint64_t* BlockRunner::meet_warp(Meeting meeting, Place place, size_t bytes, uint64_t value) {
  Warp& own = warp();
  if (own.ended > 0) {
    misuse("{} comes to {}, but {} of its warp's threads have ended", running_thread(), describe(meeting, place, bytes),
           own.ended);
  }
  if (own.in_barrier > 0) join(barrier_, meeting, place, bytes);
  join(own.exchange, meeting, place, bytes);
  std::array<uint64_t, 32>& values = own.values[static_cast<size_t>(own.gathering_values)];
  values[static_cast<size_t>(current_ % 32)] = value;
  // An exchange hands over its values and orders nothing else.
  const std::byte& order_place = own.order_places[static_cast<size_t>(own.gathering_values)];
  if (meeting == Meeting::warp_barrier) RaceDetector::arrive(order_place);
  if (own.exchange.arrived < 32) {
    wait();
  } else {
    own.exchange.arrived = 0;
    own.gathering_values ^= 1;
    own.order = Order32(*draw_);
    set_runnable(current_ / 32, kAll & ~(1u << own.order.place(current_ % 32)));
  }
  if (meeting == Meeting::warp_barrier) RaceDetector::pass(order_place);
  return values.data();
}

}  // namespace plsc::standin
