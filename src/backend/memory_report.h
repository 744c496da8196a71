// What an error says that there is no more memory on a GPU: what was asked for, where the memory is, what to change.
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

#include "backend/device.h"

namespace plsc {

inline constexpr size_t kMemoryUses = static_cast<size_t>(MemoryUse::workspace) + 1;  // the last one's place, and one
using BytesByUse = std::array<size_t, kMemoryUses>;  // by static_cast<size_t>(MemoryUse)

/// "class centres"
std::string_view memory_use_name(MemoryUse use);

struct MemoryReport {
  size_t asked = 0;
  MemoryUse use = MemoryUse::other;  // what it was asked for
  BytesByUse in_use{};
  size_t kept = 0;      // for reuse, in pieces that are too small or cannot be given back
  size_t recorded = 0;  // of the recorded steps, and nobody else's
  size_t free = 0;      // on the device, to everybody
  size_t total = 0;     // the device's
  size_t limit = 0;     // what this process may take; 0: all
};

/// Throws Error. Its hint names the first key to change, by the largest use.
[[noreturn]] void fail_out_of_memory(const MemoryReport& report);

}  // namespace plsc
