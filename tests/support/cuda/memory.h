// The device memory and the pinned host memory of the stand-in: which block an address lies in.
#pragma once
#include <optional>

#include "standin.h"

namespace plsc::standin {

enum class MemoryKind { device, pinned };

struct Block {
  std::byte* data = nullptr;
  size_t bytes = 0;  // as asked for
  MemoryKind kind = MemoryKind::device;
  int device = 0;
};

/// The live block that `p` points into.
std::optional<Block> find_block(const void* p);

/// Makes whole pages at `data` and what follows them fresh: bytes of 0xFF.
void fill_fresh(std::byte* data, size_t bytes);

/// Device memory can be touched only while it is open: queued work opens it, and it closes before host code goes on, so
/// that a host that reads or writes it fails as it would with a real device.
void open_device_memory(bool open);

/// From the first call on, the process says in a sentence that it is the host that touched device memory, before it
/// ends.
void explain_host_access();

/// Misuse where somebody wrote beside a live block; `after` says what ran last.
void check_guards(const std::string& after);

/// Device memory that is in use on a device, with what the blocks are rounded up to.
size_t used_memory(int device);

/// Prints what is still allocated.
void report_live_blocks();

}  // namespace plsc::standin
