#include "backend/table_memory.h"

#include "base/large_pages.h"

namespace plsc {
namespace {

class HostTables final : public Allocator {
 public:
  void* allocate(size_t bytes) override { return map_large(bytes, "class centres in host memory"); }
  void release(void* data, size_t bytes) noexcept override { unmap_large(data, bytes); }
  bool is_host() const override { return true; }
};

}  // namespace

Allocator& host_table_memory() {
  static HostTables tables;
  return tables;
}

}  // namespace plsc
