#include "nccl_board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

namespace plsc::standin {

static_assert(std::atomic<uint64_t>::is_always_lock_free, "processes share these");

ncclUniqueId make_unique_id() {
  std::random_device random;
  ncclUniqueId id = {};
  const std::string name = fmt::format("/plsc-standin-{:08x}{:08x}{:08x}", random(), random(), random());
  std::memcpy(id.internal, name.c_str(), name.size());
  return id;
}

Board::Board(const ncclUniqueId& id, int ranks, int rank, int device) : ranks_(ranks) {
  name_ = std::string(id.internal, strnlen(id.internal, sizeof(id.internal)));
  if (!name_.starts_with("/plsc-standin-")) misuse("a NCCL unique id that ncclGetUniqueId did not make");
  if (ranks > kMostRanks) misuse("the stand-in's communicators have at most {} ranks", kMostRanks);
  const int file = shm_open(name_.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0) misuse("shared memory {}: {}", name_, std::strerror(errno));
  // Every rank sets the same size; fresh bytes are zero.
  void* p = MAP_FAILED;
  if (ftruncate(file, sizeof(Table)) == 0) {
    p = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  const int error = errno;
  close(file);
  if (p == MAP_FAILED) misuse("shared memory {}: {}", name_, std::strerror(error));
  table_ = static_cast<Table*>(p);
  Seat& mine = seat(rank);
  if (mine.taken.exchange(1) != 0) misuse("two processes are rank {} of one communicator", rank);
  mine.ranks = ranks;
  mine.device = device;
  mine.ready.store(1);
}

Board::~Board() {
  munmap(table_, sizeof(Table));
  if (named_) shm_unlink(name_.c_str());
}

bool Board::complete() {
  if (!all([](const Seat& s) { return s.ready.load() == 1; })) return false;
  if (named_) shm_unlink(name_.c_str());  // whoever is first; nobody needs the name any more
  named_ = false;
  return true;
}

std::string Board::duplicate_device() const {
  for (int a = 0; a < ranks_; ++a) {
    const Seat& first = table_->seats[a];
    if (first.ranks != ranks_) misuse("rank {} believes in {} ranks, another in {}", a, first.ranks, ranks_);
    for (int b = a + 1; b < ranks_; ++b) {
      if (first.device == table_->seats[b].device) {
        return fmt::format("Duplicate GPU detected : rank {} and rank {} both on device {}", a, b, first.device);
      }
    }
  }
  return "";
}

bool Board::all_published(uint64_t phase) const {
  return all([&](const Seat& s) { return s.published.load(std::memory_order_acquire) >= phase; });
}
bool Board::all_consumed(uint64_t phase) const {
  return all([&](const Seat& s) { return s.consumed.load(std::memory_order_acquire) >= phase; });
}
bool Board::all_finalized() const {
  return all([](const Seat& s) { return s.finalized.load() == 1; });
}

}  // namespace plsc::standin
