#include "backend/cuda/pinned_ring.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/check.h"

namespace plsc {

PinnedRing::PinnedRing(size_t bytes, const Waiter& waiter) : waiter_(waiter), bytes_(bytes) {
  PLSC_CHECK(bytes > 0 && bytes % (4 * kAlignment) == 0, "a ring of {} bytes", bytes);
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  data_ = static_cast<std::byte*>(data);
}

PinnedRing::~PinnedRing() { cudaFreeHost(data_); }

void PinnedRing::upload(const void* from, void* to, size_t bytes, cudaStream_t stream) {
  const size_t largest = bytes_ / 4;  // so that the host fills one piece while the device fetches others
  for (size_t at = 0; at < bytes; at += largest) {
    const size_t size = std::min(largest, bytes - at);
    std::byte* piece = take(size);
    std::memcpy(piece, static_cast<const std::byte*>(from) + at, size);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, piece, size, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
    // The piece is the device's from here on; its event makes it ours again.
    Event sent = new_event();
    sent.record(stream);
    pieces_.push_back({static_cast<size_t>(piece - data_), std::move(sent)});
    next_ = static_cast<size_t>(piece - data_) + (size + kAlignment - 1) / kAlignment * kAlignment;
  }
}

/// Where the next `bytes` bytes may be written. Pieces become free in the order in which they were taken.
std::byte* PinnedRing::take(size_t bytes) {
  free_sent();
  while (!find_room(bytes)) {
    waiter_.wait(pieces_.front().sent);
    free_sent();
  }
  return data_ + next_;
}

/// Moves next_ to where `bytes` bytes are free in one piece. With pieces on their way, [front, next_) is taken; next_
/// at the front means that all is.
bool PinnedRing::find_room(size_t bytes) {
  if (pieces_.empty()) {
    next_ = 0;
    return true;
  }
  const size_t front = pieces_.front().begin;
  if (next_ <= front) return front - next_ >= bytes;
  if (bytes_ - next_ >= bytes) return true;
  if (front < bytes) return false;
  next_ = 0;
  return true;
}

void PinnedRing::free_sent() {
  while (!pieces_.empty() && pieces_.front().sent.done()) {
    events_.push_back(std::move(pieces_.front().sent));
    pieces_.pop_front();
  }
}

Event PinnedRing::new_event() {
  if (events_.empty()) return {};
  Event event = std::move(events_.back());
  events_.pop_back();
  return event;
}

}  // namespace plsc
