// Uploads that nobody waits for: bytes are copied into page-locked memory, from where the device fetches them in its
// own time.
#pragma once
#include <cstddef>
#include <deque>
#include <vector>

#include "backend/cuda/event.h"

namespace plsc {

/// A ring of page-locked bytes. A piece of it is used again once the device has passed the event behind its copy; the
/// host waits only where the whole ring is on its way. For one thread.
class PinnedRing {
 public:
  static constexpr size_t kAlignment = 256;

  /// `bytes`: a multiple of 4 kAlignment. `waiter` must outlive the ring.
  PinnedRing(size_t bytes, const Waiter& waiter);
  /// What is on its way must have been waited for.
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  /// Copies host memory to device memory behind what `stream` was given. `from` may be changed when this returns.
  void upload(const void* from, void* to, size_t bytes, cudaStream_t stream);

 private:
  struct Piece {
    size_t begin = 0;
    Event sent;
  };
  std::byte* take(size_t bytes);
  bool find_room(size_t bytes);
  void free_sent();
  Event new_event();

  const Waiter& waiter_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  size_t next_ = 0;            // where the next piece begins, if there is room
  std::deque<Piece> pieces_;   // on their way, oldest first
  std::vector<Event> events_;  // not in use
};

}  // namespace plsc
