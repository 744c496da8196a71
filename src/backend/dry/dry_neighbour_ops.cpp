// The search for nearest rows: the memory that it takes.
#include "backend/dry/dry_ops.h"

namespace plsc {
namespace {

class DryNeighbourSearch final : public NeighbourSearch {
 public:
  DryNeighbourSearch(DryDevice& device, OpMemory& memory, const NeighbourSearchSpec& spec)
      : lists_{device.tensor({spec.queries, spec.candidates}),
               device.tensor({spec.queries, spec.candidates}, Dtype::i64)},
        memory_(memory.search(spec)) {}

  void score(const NeighbourBlock& block) override { memory_->score(block); }
  void measure(const NeighbourBlock&) override {}
  void sort() override {}
  const TopRows& lists() const override { return lists_; }

 private:
  TopRows lists_;
  std::unique_ptr<SearchMemory> memory_;
};

class DryNeighbourOps final : public NeighbourOps {
 public:
  DryNeighbourOps(DryDevice& device, OpMemory& memory) : device_(device), memory_(memory) {}

  void read_rows(RowSource&, int64_t, Tensor&) override {}
  std::unique_ptr<NeighbourSearch> start(const NeighbourSearchSpec& spec) override {
    return std::make_unique<DryNeighbourSearch>(device_, memory_, spec);
  }

 private:
  DryDevice& device_;
  OpMemory& memory_;
};

}  // namespace

std::unique_ptr<NeighbourOps> make_dry_neighbour_ops(DryDevice& device, OpMemory& memory) {
  return std::make_unique<DryNeighbourOps>(device, memory);
}

}  // namespace plsc
