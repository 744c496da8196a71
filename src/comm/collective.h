// The communication seam: collectives over all ranks. All ranks call the same sequence with the same sizes.
// Device memory is used in the device's order (backend/device.h): a collective begins behind all that the device was
// given before it was started, and what the device is given after `wait` finds its result. In between neither host nor
// device touches its tensors, which the caller keeps alive. Host memory is as plain as that: complete after `wait`.
// Implementations: single (one rank), mpi (host memory), nccl (device memory), and what runtime/staged_collective.h
// makes of the first two for device memory. Nothing waits for ever: a wait polls, and after the time-out throws Error
// that names the rank that is missing. With nccl `wait` puts the device behind the result and returns; then the wait is
// where the host next waits for the device.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace plsc {

enum class ReduceOp { sum, max, min };

/// A collective that has been started. It must be waited for (`Collective::wait`) before its tensors are touched.
class Request {
 public:
  virtual ~Request() = default;
  /// Makes progress; true once complete. Throws Error when the collective failed.
  virtual bool poll() = 0;
  /// When it was complete, by steady_seconds (base/clock.h), where that is known; its waiter may come later.
  virtual std::optional<double> ended() const { return std::nullopt; }
};
using Pending = std::unique_ptr<Request>;

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// In place, every element. The order of the sum is fixed for a given size of the world and of the tensor.
  [[nodiscard]] virtual Pending start_all_reduce(Tensor& t, ReduceOp op) = 0;
  /// The sum of fp32 elements, in place, for half the bytes: each rank's values are rounded to bf16, summed in fp32 in
  /// rank order, and the sum is rounded to bf16 again. Nothing is rounded in a world of one rank.
  [[nodiscard]] virtual Pending start_all_reduce_bf16(Tensor& t) = 0;
  /// to = (size * rows of from), rank r's part at r * from.elements().
  [[nodiscard]] virtual Pending start_all_gather(const Tensor& from, Tensor& to) = 0;
  /// from holds `size` equal parts; part r summed over the ranks arrives in `to` on rank r.
  [[nodiscard]] virtual Pending start_reduce_scatter(const Tensor& from, Tensor& to) = 0;
  [[nodiscard]] virtual Pending start_broadcast(Tensor& t, int root) = 0;
  [[nodiscard]] virtual Pending start_barrier() = 0;

  /// The group of this rank where all ranks are split into groups of `ranks` consecutive ones, of which there is a
  /// whole number. Made by all ranks together, with their host values' collective; must not outlive this one. All
  /// groups are given the same sequence of calls, in its place among those of all ranks. Groups are not split again.
  [[nodiscard]] virtual std::unique_ptr<Collective> split(int ranks, Collective& host) = 0;

  /// Polls until complete; `what` names the work in a time-out's message ("gradient bucket 3").
  virtual void wait(Pending pending, const std::string& what) = 0;

  /// Bytes of tensors that this rank has sent to others since the begin of the run, without what a protocol adds. Where
  /// a library moves them by ways of its own (nccl, broadcasts) the least that it can be.
  virtual int64_t bytes_sent() const = 0;

  // Blocking forms.
  void all_reduce(Tensor& t, ReduceOp op, const std::string& what = "all-reduce") {
    wait(start_all_reduce(t, op), what);
  }
  void all_gather(const Tensor& from, Tensor& to, const std::string& what = "all-gather") {
    wait(start_all_gather(from, to), what);
  }
  void reduce_scatter(const Tensor& from, Tensor& to, const std::string& what = "reduce-scatter") {
    wait(start_reduce_scatter(from, to), what);
  }
  void broadcast(Tensor& t, int root, const std::string& what = "broadcast") { wait(start_broadcast(t, root), what); }
  void barrier(const std::string& what = "barrier") { wait(start_barrier(), what); }
};

/// The one-rank world: every collective is a copy or nothing.
std::unique_ptr<Collective> make_single_collective();

// Small host values over a host collective, for control flow.

/// Every rank's value, by rank.
std::vector<int64_t> gather_values(Collective& host, int64_t value);
std::vector<double> gather_values(Collective& host, double value);
/// Every rank's text, by rank. Texts may differ in length.
std::vector<std::string> gather_texts(Collective& host, const std::string& text);
/// Rank `root`'s text on every rank.
std::string broadcast_text(Collective& host, const std::string& text, int root = 0);
/// Ends an "each rank may have failed" section: `error` is empty where this rank succeeded. If any rank failed, every
/// rank throws AgreedError (comm/errors.h) with the first failing rank's message, so that no rank goes on alone. It
/// begins with the rank's number unless all ranks failed alike.
void agree_or_fail(Collective& host, const std::string& error);
/// Runs `work` on rank 0 alone; if it throws, every rank throws the same Error.
void on_rank_0(Collective& host, const std::function<void()>& work);

}  // namespace plsc
