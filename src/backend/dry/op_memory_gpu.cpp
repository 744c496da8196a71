// The memory of a GPU's ops, without the vendor's libraries: sizes as in backend/cuda, and an ASSUMPTION where cuDNN
// alone knows: that a convolution of NHWC tensors takes twice its weights in fp32 for workspace. No test without a GPU
// holds it against cuDNN: the tests' stand-in wants what is assumed here.
#include "backend/cuda/head_tile_plan.h"
#include "backend/cuda/neighbour_ops_cuda.h"
#include "backend/cuda/product_workspace.h"
#include "backend/dry/counting.h"
#include "backend/dry/op_memory.h"

namespace plsc {
namespace {

using counting::kValue, counting::number;

Tensor scratch(Device& device, const Shape& shape, Dtype dtype = Dtype::f32) {
  const MemoryScope use(device, MemoryUse::workspace);
  return device.tensor(shape, dtype);
}

/// A workspace that all products of a stream share, from the first on.
class ProductWorkspace {
 public:
  explicit ProductWorkspace(Device& device) : device_(device) {}
  void take() {
    if (!memory_.defined()) memory_ = scratch(device_, {static_cast<int64_t>(kProductWorkspace)}, Dtype::u8);
  }

 private:
  Device& device_;
  Tensor memory_;
};

class GpuConv final : public ConvOp {
 public:
  GpuConv(Device& device, const ConvSpec& spec) : device_(device), spec_(spec) {}
  void forward(const Tensor&, const Tensor&, Tensor& y) override { pass(0, y); }
  void backward_data(const Tensor&, const Tensor&, Tensor& dx) override { pass(1, dx); }
  void backward_weight(const Tensor&, const Tensor&, Tensor& dweight, bool) override { pass(2, dweight); }

 private:
  void pass(size_t which, const Tensor& out) {
    const Shape weights{spec_.out_channels, spec_.kernel, spec_.kernel, spec_.in_channels};
    const bool as_kept = spec_.dtype == Dtype::f32 && (spec_.kernel == 1 || spec_.in_channels == 1);
    const Tensor converted = as_kept ? Tensor() : scratch(device_, weights, spec_.dtype);
    // The race that finds a pass's algorithm writes an output of its own.
    const Tensor raced = known_[which] ? Tensor() : scratch(device_, out.shape(), out.dtype());
    known_[which] = true;
    const Tensor workspace = scratch(device_, {2 * weights.elements()});
  }

  Device& device_;
  ConvSpec spec_;
  std::array<bool, 3> known_{};
};

class GpuLinear final : public LinearOp {
 public:
  GpuLinear(Device& device, ProductWorkspace& products, const LinearSpec& spec)
      : device_(device), products_(products), spec_(spec) {}
  void forward(const Tensor&, const Tensor&, const Tensor&, Tensor&) override { pass(); }
  void backward_data(const Tensor&, const Tensor&, Tensor&) override { pass(); }
  void backward_weight(const Tensor&, const Tensor&, Tensor&, Tensor&, bool) override { pass(); }

 private:
  void pass() {
    products_.take();
    const int64_t pixels = spec_.height * spec_.width;
    if (pixels > 1 && spec_.channels > 1) scratch(device_, {spec_.batch, pixels * spec_.channels});
  }

  Device& device_;
  ProductWorkspace& products_;
  LinearSpec spec_;
};

class GpuPool final : public PoolOp {
 public:
  GpuPool(Device& device, const PoolSpec& spec) : device_(device), spec_(spec) {}
  void forward(const Tensor&, Tensor& y) override {
    if (spec_.kind == PoolSpec::Kind::max) places_ = device_.tensor(y.shape(), Dtype::u8);
  }
  void backward(const Tensor&, Tensor&) override {}

 private:
  Device& device_;
  PoolSpec spec_;
  Tensor places_;
};

/// One pass of the head over rows.
struct Tiling {
  int64_t rows = 0, samples = 0, columns = 0;
  Dtype compute = Dtype::f32;
};

/// What a pass over tiles that no cache holds moves of memory beside the stored rows: each product and kernel of
/// backend/cuda/head_tiles_cuda.cpp, head_forward_cuda.cpp and head_backward_cuda.cpp writes what it makes and reads
/// what it is given once.
class TileTraffic {
 public:
  TileTraffic(RowSource& rows, const HeadPass& pass, const HeadTilePlan& plan)
      : cached_(plan.cached || plan.tiles == 0),
        element_(number(static_cast<int64_t>(dtype_size(pass.compute)))),
        logits_(number(rows.count()) * number(HeadTilePlan::stride(pass.x.dim(0)))),
        rows_(number(rows.count() * rows.columns())),
        embeddings_(number(plan.tiles) * number(pass.x.elements())),
        in_place_(!cached_ && takes_in_place(rows, pass)) {}

  /// Operands and dot products are written and read once, the embeddings read for each tile.
  double forward() const {
    if (cached_) return 0;
    return 2 * kValue * logits_ + (in_place_ ? 1 : 2) * element_ * rows_ + element_ * embeddings_;
  }
  /// The same, and then: the gradient of the logits is written, and read by two products, of which one reads the
  /// operands and adds to the embeddings' gradient, the other reads the embeddings and writes the rows' gradient, which
  /// is read.
  double backward() const {
    if (cached_) return 0;
    return forward() + 3 * element_ * logits_ + (element_ + 2 * kValue) * rows_ + (element_ + 2 * kValue) * embeddings_;
  }

 private:
  /// As HeadTileLoop::begin has it. The first row tells of all.
  static bool takes_in_place(RowSource& rows, const HeadPass& pass) {
    const RowTile tile = rows.open(0, 1, RowAccess::read);
    return tile.in_order() && tile.lag.last_update == nullptr && tile.weight_type == pass.compute && !tile.far;
  }

  bool cached_;
  double element_;                     // bytes, as products take it
  double logits_, rows_, embeddings_;  // elements; of the embeddings, of all tiles together
  bool in_place_;                      // stored rows are the operands
};

class GpuOpMemory final : public OpMemory {
 public:
  GpuOpMemory(DryDevice& device, const GpuTraits& gpu)
      : device_(device), gpu_(gpu), products_(device), ahead_(device), searches_(device) {}

  std::unique_ptr<ConvOp> conv(const ConvSpec& spec) override { return std::make_unique<GpuConv>(device_, spec); }
  std::unique_ptr<LinearOp> linear(const LinearSpec& spec) override {
    return std::make_unique<GpuLinear>(device_, products_, spec);
  }
  std::unique_ptr<PoolOp> pool(const PoolSpec& spec) override { return std::make_unique<GpuPool>(device_, spec); }

  double head_forward(RowSource& rows, const HeadPass& pass) override {
    const Tiles tiles = take(tiling(rows, pass), ahead_);
    return TileTraffic(rows, pass, tiles.plan).forward();
  }
  double head_backward(RowSource& rows, const HeadPass& pass, Dtype) override {
    const Tiles tiles = take(tiling(rows, pass), ahead_);
    const double moved = TileTraffic(rows, pass, tiles.plan).backward();
    if (tiles.plan.tiles == 0) return moved;
    products_.take();
    const Tensor row_gradient = device_.tensor({tiles.plan.tile, rows.columns()});
    if (pass.compute == Dtype::bf16) {
      const Tensor gradient = device_.tensor({tiles.plan.tile, HeadTilePlan::stride(pass.x.dim(0))}, Dtype::bf16);
    }
    return moved;
  }

  std::unique_ptr<SearchMemory> search(const NeighbourSearchSpec& spec) override {
    return std::make_unique<Search>(*this, spec);
  }

  /// To one of two places in turn.
  void upload(const Tensor& bytes) override {
    Tensor& place = places_[turn_++ % places_.size()];
    if (place.defined() && place.bytes() >= bytes.bytes()) return;
    const MemoryScope use(device_, MemoryUse::activations);
    place = {};
    place = device_.tensor({static_cast<int64_t>(bytes.bytes()) + bytes.dim(0)}, Dtype::u8);
  }

 private:
  struct Tiles {
    HeadTilePlan plan;
    std::vector<Tensor> memory;
  };
  /// Keys are its rows, and parts of the queries its samples.
  class Search final : public SearchMemory {
   public:
    Search(GpuOpMemory& ops, const NeighbourSearchSpec& spec) : ops_(ops), spec_(spec) {}
    void score(const NeighbourBlock& block) override {
      const int64_t samples = std::min(CudaNeighbourOptions{}.query_rows, block.queries.dim(0));
      const Tiles tiles = ops_.take({block.keys.dim(0), samples, spec_.columns, spec_.scores}, ops_.searches_);
    }

   private:
    GpuOpMemory& ops_;
    NeighbourSearchSpec spec_;
  };
  static Tiling tiling(const RowSource& rows, const HeadPass& pass) {
    return {rows.count(), pass.x.dim(0), rows.columns(), pass.compute};
  }
  /// Two tiles: one is gathered and multiplied while the pass works on the other.
  Tiles take(const Tiling& of, ProductWorkspace& products) {
    Tiles tiles;
    tiles.plan =
        HeadTilePlan::make(of.rows, HeadTilePlan::bytes_per_row(of.samples, of.columns, of.compute), gpu_.cache, 0);
    if (of.compute == Dtype::bf16) tiles.memory.push_back(device_.tensor({of.samples, of.columns}, Dtype::bf16));
    if (tiles.plan.tiles > 0) products.take();
    for (int64_t slot = 0; slot < std::min<int64_t>(tiles.plan.tiles, 2); ++slot) {
      tiles.memory.push_back(device_.tensor({tiles.plan.tile, of.columns}, of.compute));
      tiles.memory.push_back(device_.tensor({tiles.plan.tile}));
      tiles.memory.push_back(device_.tensor({tiles.plan.tile, HeadTilePlan::stride(of.samples)}));
    }
    return tiles;
  }

  DryDevice& device_;
  GpuTraits gpu_;
  // Of the compute stream, of the head's stream, and of that of searches, which are the head's loop with its own.
  ProductWorkspace products_, ahead_, searches_;
  std::array<Tensor, 2> places_;
  size_t turn_ = 0;
};

}  // namespace

std::unique_ptr<OpMemory> make_gpu_op_memory(DryDevice& device, const GpuTraits& gpu) {
  return std::make_unique<GpuOpMemory>(device, gpu);
}

}  // namespace plsc
