// The affinity mask, and OpenMP loops that carry exceptions out of their threads.
#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <exception>
#include <thread>

#include "base/cpu_quota.h"
#include "base/error.h"

namespace plsc {

std::vector<int> affinity_cores() {
  // The mask's size is not known beforehand: the kernel answers EINVAL while it is too small.
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    std::vector<cpu_set_t> mask(static_cast<size_t>(capacity) / (8 * sizeof(cpu_set_t)));
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    std::vector<int> cores;
    for (int core = 0; core < capacity; ++core) {
      if (CPU_ISSET_S(static_cast<size_t>(core), bytes, mask.data())) cores.push_back(core);
    }
    if (!cores.empty()) return cores;
  }
  std::vector<int> all(std::max(1U, std::thread::hardware_concurrency()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
  return all;
}

int available_cores() {
  const int cores = static_cast<int>(affinity_cores().size());
  const double quota = cpu_quota();
  return quota > 0 ? std::clamp(static_cast<int>(std::ceil(quota)), 1, cores) : cores;
}

void parallel_ranges(int64_t n, int parts, const std::function<void(int64_t begin, int64_t end, int part)>& body) {
  PLSC_CHECK(n >= 0 && parts >= 1, "{} elements in {} parts", n, parts);
  if (parts == 1) {
    body(0, n, 0);
    return;
  }
  // An exception must not leave a parallel region; each part has a place of its own, so no lock is needed.
  std::vector<std::exception_ptr> errors(static_cast<size_t>(parts));
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    try {
      body(range_begin(n, parts, part), range_begin(n, parts, part + 1), part);
    } catch (...) {
      errors[static_cast<size_t>(part)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace plsc
