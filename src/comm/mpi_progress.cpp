#include "comm/mpi_progress.h"

#include "comm/mpi_collective.h"

#include <chrono>

namespace plsc {
namespace {

/// Between two looks. Open MPI takes up to 128 KiB from a connection at each: a link of 1 Gbit/s a peer is kept busy.
/// Three times as many cost four ranks on two cores a fifth of their rate.
constexpr std::chrono::microseconds kLook{1000};
constexpr std::chrono::seconds kPatience{1};

}  // namespace

MpiProgress::MpiProgress() : thread_([this] { run(); }) {}

MpiProgress::~MpiProgress() { stop(); }

void MpiProgress::add(mpi::Work* work) {
  works_.push_back(work);
  try {
    poll_all();
  } catch (...) {
    // Kept for the next poll: messages of this work may be under way, so its request must come to be.
  }
  if (!works_.empty()) changed_.notify_one();
}

void MpiProgress::remove(mpi::Work* work) {
  const Lock held = lock();
  std::erase(works_, work);
}

bool MpiProgress::poll(const mpi::Work* work) {
  if (work->done()) return true;
  const Lock held(mutex_, std::try_to_lock);
  if (held.owns_lock()) poll_all();
  return work->done();
}

void MpiProgress::poll_all() {
  if (error_) std::rethrow_exception(error_);
  try {
    for (mpi::Work* work : works_) work->poll();
  } catch (...) {
    error_ = std::current_exception();
    throw;
  }
  std::erase_if(works_, [](const mpi::Work* work) { return work->done(); });
}

void MpiProgress::run() {
  Lock held = lock();
  while (!stop_) {
    if (works_.empty() || error_) {
      changed_.wait(held);
      continue;
    }
    try {
      poll_all();
    } catch (...) {
      continue;  // kept: the next who asks is told
    }
    // Without the lock, so that whoever waits for a result is not kept from it.
    held.unlock();
    std::this_thread::sleep_for(kLook);
    held.lock();
  }
  ended_ = true;
  changed_.notify_all();
}

void MpiProgress::stop() noexcept {
  if (!thread_.joinable()) return;
  Lock held(mutex_, kPatience);
  bool ended = false;
  if (held.owns_lock()) {
    stop_ = true;
    changed_.notify_all();
    ended = changed_.wait_for(held, kPatience, [&] { return ended_; });
    held.unlock();
  }
  if (ended) thread_.join();
  if (!ended) thread_.detach();  // inside MPI: the process is about to be ended
}

std::shared_ptr<MpiProgress> make_mpi_progress() { return std::make_shared<MpiProgress>(); }

void stop_mpi_progress(MpiProgress& progress) noexcept { progress.stop(); }

}  // namespace plsc
