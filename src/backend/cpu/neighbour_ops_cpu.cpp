// The ops that stand before a search; the search itself is in neighbour_search.cpp.
#include "backend/cpu/neighbour_ops_cpu.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/head_workspace.h"
#include "backend/cpu/neighbour_search.h"
#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "backend/cpu/row_weights.h"

namespace plsc {
namespace {

class CpuNeighbourOps final : public NeighbourOps {
 public:
  explicit CpuNeighbourOps(Device& device) : device_(device) {}

  void read_rows(RowSource& rows, int64_t begin, Tensor& out) override {
    const int64_t count = out.dim(0), columns = rows.columns();
    check_tensor("read_rows", out, {count, columns}, Dtype::f32);
    const RowTile tile = rows.open(begin, count, RowAccess::read);
    for_parts(count, kRowsPerPart, device_.threads(), [&](int64_t first, int64_t behind, int) {
      RowScratch buffers(columns);
      for (int64_t i = first; i < behind; ++i) {
        const float* w = current_row(tile, tile.stored_row(i), columns, buffers);
        std::copy_n(w, columns, out.data<float>() + i * columns);
      }
    });
    rows.close(tile, RowAccess::read);
  }

  std::unique_ptr<NeighbourSearch> start(const NeighbourSearchSpec& spec) override {
    return std::make_unique<CpuNeighbourSearch>(device_, spec);
  }

 private:
  static constexpr int64_t kRowsPerPart = 64;
  Device& device_;
};

}  // namespace

std::unique_ptr<NeighbourOps> make_cpu_neighbour_ops(Device& device) {
  return std::make_unique<CpuNeighbourOps>(device);
}

}  // namespace plsc
