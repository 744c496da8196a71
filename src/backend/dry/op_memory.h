// What a device's ops take of its memory beside the tensors that they are given: workspaces, tiles, tables. One
// implementation a kind of device; the CPU's are its own ops, which leave the computing out.
#pragma once
#include <memory>

#include "backend/dry/dry_device.h"
#include "backend/head_ops.h"
#include "backend/neighbour_ops.h"
#include "backend/nn_ops.h"

namespace plsc {

/// What a search for nearest rows holds, beside its lists.
class SearchMemory {
 public:
  virtual ~SearchMemory() = default;
  /// A block of keys meets a block of queries.
  virtual void score(const NeighbourBlock& block) = 0;
};

class OpMemory {
 public:
  virtual ~OpMemory() = default;

  // Ops that take memory and do no more.
  virtual std::unique_ptr<ConvOp> conv(const ConvSpec& spec) = 0;
  virtual std::unique_ptr<LinearOp> linear(const LinearSpec& spec) = 0;
  virtual std::unique_ptr<PoolOp> pool(const PoolSpec& spec) = 0;

  /// A pass of the head. Returned are the bytes of memory that it moves because no cache holds a tile: what it writes
  /// of one and reads again, and what each tile reads and adds to. `dx`: the type that the embeddings' gradient is
  /// summed in.
  virtual double head_forward(RowSource& rows, const HeadPass& pass) = 0;
  virtual double head_backward(RowSource& rows, const HeadPass& pass, Dtype dx) = 0;

  virtual std::unique_ptr<SearchMemory> search(const NeighbourSearchSpec& spec) = 0;

  /// Images on their way to the device.
  virtual void upload(const Tensor& bytes) = 0;
};

std::unique_ptr<OpMemory> make_cpu_op_memory(DryDevice& device);

std::unique_ptr<OpMemory> make_gpu_op_memory(DryDevice& device, const GpuTraits& gpu);

}  // namespace plsc
