#include "race_detector.h"

// There where the process is linked to the sanitizer's library, else null.
extern "C" {
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void* fibre);
__attribute__((weak)) void __tsan_switch_to_fiber(void* fibre, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);
}

namespace plsc::standin {
namespace {

// A switch orders the accesses before and after it, or not.
constexpr unsigned kOrdered = 0;
constexpr unsigned kUnordered = 1;

}  // namespace

RaceDetector::RaceDetector() {
  if (__tsan_get_current_fiber != nullptr) outside_ = __tsan_get_current_fiber();
}

RaceDetector::~RaceDetector() {
  for (void* fibre : fibres_) __tsan_destroy_fiber(fibre);
}

void RaceDetector::begin_block(int threads) {
  if (!active()) return;
  while (fibres_.size() < static_cast<size_t>(threads)) fibres_.push_back(__tsan_create_fiber(0));
  for (int thread = 0; thread < threads; ++thread) {
    __tsan_switch_to_fiber(fibres_[static_cast<size_t>(thread)], kOrdered);
    switch_to(outside_);
  }
}

void RaceDetector::end_block(int threads) {
  if (!active()) return;
  for (int thread = 0; thread < threads; ++thread) {
    switch_to(fibres_[static_cast<size_t>(thread)]);
    __tsan_switch_to_fiber(outside_, kOrdered);
  }
}

void RaceDetector::switch_to(void* fibre) { __tsan_switch_to_fiber(fibre, kUnordered); }

void RaceDetector::arrive(const std::byte& place) {
  if (__tsan_release != nullptr) __tsan_release(const_cast<std::byte*>(&place));
}

void RaceDetector::pass(const std::byte& place) {
  if (__tsan_acquire != nullptr) __tsan_acquire(const_cast<std::byte*>(&place));
}

}  // namespace plsc::standin
