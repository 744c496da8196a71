// Direct exchanges of non-blocking point-to-point messages. A request is a small state machine that poll() drives;
// messages of different requests are told apart by tags, so any number of them may be under way at once.
#include "comm/mpi_collective.h"

#include <mpi.h>

#include <algorithm>
#include <vector>

#include "base/threads.h"
#include "comm/mpi_progress.h"
#include "comm/reduce.h"

namespace plsc {
namespace {

using mpi::Call, mpi::check, mpi::Work;

constexpr int kTags = 8192, kStages = 2;  // the standard promises tags up to 32767

std::byte* bytes_of(const Tensor& t) { return static_cast<std::byte*>(t.raw()); }

class Broadcast final : public Work {
 public:
  Broadcast(const Call& call, const Tensor& t, int root) : Work(call), tensor_(t) {
    messages_.broadcast(tensor_.raw(), static_cast<int64_t>(tensor_.bytes()), root);
  }

 private:
  Tensor tensor_;
};

class Barrier final : public Work {
 public:
  explicit Barrier(const Call& call) : Work(call) { messages_.barrier(); }
};

class AllGather final : public Work {
 public:
  AllGather(const Call& call, const Tensor& from, const Tensor& to) : Work(call), from_(from), to_(to) {
    const auto bytes = static_cast<int64_t>(from.bytes());
    // Starting with the next rank spreads the load: not all ranks send to rank 0 first.
    for (int i = 1; i < call.size; ++i) {
      const int source = (call.rank - i + call.size) % call.size;
      messages_.receive(bytes_of(to) + source * bytes, bytes, source, call.tag);
    }
    for (int i = 1; i < call.size; ++i) messages_.send(from.raw(), bytes, (call.rank + i) % call.size, call.tag);
    std::byte* own = bytes_of(to) + call.rank * bytes;
    if (bytes > 0 && own != from.raw()) std::copy_n(bytes_of(from), bytes, own);
  }

 private:
  Tensor from_, to_;
};

/// Common to both reductions: the elements in slabs; of each, this rank receives its share from all, and sums it.
class Reduction : public Work {
 public:
  Reduction(const Call& call, Dtype dtype, ReduceOp op)
      : Work(call), dtype_(dtype), op_(op), width_(static_cast<int64_t>(dtype_size(dtype))), parts_(call.size) {}

 protected:
  /// Posts the exchange: share p of `from(p)` goes to rank p; `own` elements of each other rank come here.
  template <class From, class Count>
  void exchange(const From& from, const Count& count) {
    const int64_t own = count(call_.rank);
    buffer_.resize(static_cast<size_t>(own * width_ * (call_.size - 1)));
    std::byte* next = buffer_.data();
    parts_[static_cast<size_t>(call_.rank)] = from(call_.rank);
    for (int i = 1; i < call_.size; ++i) {
      const int source = (call_.rank - i + call_.size) % call_.size;
      parts_[static_cast<size_t>(source)] = next;
      messages_.receive(next, own * width_, source, call_.tag);
      next += own * width_;
    }
    for (int i = 1; i < call_.size; ++i) {
      const int target = (call_.rank + i) % call_.size;
      messages_.send(from(target), count(target) * width_, target, call_.tag);
    }
  }
  void reduce(void* out, int64_t elements) { reduce_parts(dtype_, op_, parts_, out, elements); }
  /// Elements of a slab that holds `shares` equal shares.
  int64_t slab_elements(int64_t shares) const { return std::max<int64_t>(kReductionSlab / width_ / shares, 1); }

  Dtype dtype_;
  ReduceOp op_;
  int64_t width_;  // bytes of an element

 private:
  std::vector<const void*> parts_;  // by rank
  std::vector<std::byte> buffer_;
};

class ReduceScatter final : public Reduction {
 public:
  ReduceScatter(const Call& call, const Tensor& from, const Tensor& to)
      : Reduction(call, from.dtype(), ReduceOp::sum), from_(from), to_(to) {}

 private:
  bool advance() override {
    if (count_ > 0) reduce(bytes_of(to_) + begin_ * width_, count_);
    begin_ += count_;
    count_ = std::min(slab_elements(call_.size), to_.elements() - begin_);
    if (count_ == 0) return false;
    exchange([&](int p) { return bytes_of(from_) + (p * to_.elements() + begin_) * width_; },
             [&](int) { return count_; });
    return true;
  }

  Tensor from_, to_;
  int64_t begin_ = 0, count_ = 0;  // of the slab under way, within a share
};

class AllReduce final : public Reduction {
 public:
  AllReduce(const Call& call, const Tensor& t, ReduceOp op) : Reduction(call, t.dtype(), op), tensor_(t) {}

 private:
  bool advance() override {
    if (summing_) {
      reduce(share(call_.rank), share_elements(call_.rank));
      summing_ = false;
      spread();
      return true;
    }
    begin_ += count_;
    count_ = std::min(slab_elements(1), tensor_.elements() - begin_);
    if (count_ == 0) return false;
    exchange([&](int p) { return share(p); }, [&](int p) { return share_elements(p); });
    return summing_ = true;
  }
  void spread() {
    for (int i = 1; i < call_.size; ++i) {
      const int source = (call_.rank - i + call_.size) % call_.size, target = (call_.rank + i) % call_.size;
      messages_.receive(share(source), share_elements(source) * width_, source, call_.tag + 1);
      messages_.send(share(call_.rank), share_elements(call_.rank) * width_, target, call_.tag + 1);
    }
  }
  std::byte* share(int p) const { return bytes_of(tensor_) + (begin_ + range_begin(count_, call_.size, p)) * width_; }
  int64_t share_elements(int p) const {
    return range_begin(count_, call_.size, p + 1) - range_begin(count_, call_.size, p);
  }

  Tensor tensor_;
  int64_t begin_ = 0, count_ = 0;  // of the slab under way
  bool summing_ = false;           // the first of its two stages
};

/// A small tensor: everybody sends everything and sums all of it. One stage instead of two, and the same bits.
class SmallAllReduce final : public Reduction {
 public:
  SmallAllReduce(const Call& call, const Tensor& t, ReduceOp op) : Reduction(call, t.dtype(), op), tensor_(t) {
    exchange([&](int) { return bytes_of(tensor_); }, [&](int) { return tensor_.elements(); });
  }

 private:
  bool advance() override {
    // The sends are complete too, so the tensor may change now.
    reduce(tensor_.raw(), tensor_.elements());
    return false;
  }
  Tensor tensor_;
};

/// A sum for half the bytes. As AllReduce, with narrow copies of what is sent and received; a rank's own share takes
/// part as rounded as the others', so that the sum does not depend on who computes it.
class NarrowAllReduce final : public Work {
 public:
  NarrowAllReduce(const Call& call, const Tensor& t) : Work(call), tensor_(t) {}

 private:
  bool advance() override {
    switch (stage_) {
      case Stage::gather:
        return next_slab();
      case Stage::sum:
        sum_own();
        spread();
        stage_ = Stage::widen;
        return true;
      case Stage::widen:
        widen_bf16(narrow_.data(), values(), count_);
        return next_slab();
    }
    return false;
  }
  bool next_slab() {
    begin_ += count_;
    count_ = std::min(kReductionSlab / static_cast<int64_t>(sizeof(float)), tensor_.elements() - begin_);
    if (count_ == 0 || call_.size == 1) return false;  // one rank alone rounds nothing
    narrow_.resize(static_cast<size_t>(count_));
    narrow_to_bf16(values(), narrow_.data(), count_);
    const int64_t own = share_elements(call_.rank);
    received_.resize(static_cast<size_t>(own * call_.size));
    for (int i = 1; i < call_.size; ++i) {
      const int source = (call_.rank - i + call_.size) % call_.size;
      messages_.receive(received_.data() + source * own, own * kWidth, source, call_.tag);
    }
    for (int i = 1; i < call_.size; ++i) {
      const int target = (call_.rank + i) % call_.size;
      messages_.send(share(target), share_elements(target) * kWidth, target, call_.tag);
    }
    stage_ = Stage::sum;
    return true;
  }
  void sum_own() {
    const int64_t own = share_elements(call_.rank);
    std::copy_n(share(call_.rank), own, received_.data() + call_.rank * own);
    sum_bf16(received_.data(), call_.size, own, share(call_.rank));
  }
  void spread() {
    for (int i = 1; i < call_.size; ++i) {
      const int source = (call_.rank - i + call_.size) % call_.size, target = (call_.rank + i) % call_.size;
      messages_.receive(share(source), share_elements(source) * kWidth, source, call_.tag + 1);
      messages_.send(share(call_.rank), share_elements(call_.rank) * kWidth, target, call_.tag + 1);
    }
  }
  float* values() const { return tensor_.data<float>() + begin_; }
  uint16_t* share(int p) { return narrow_.data() + range_begin(count_, call_.size, p); }
  int64_t share_elements(int p) const {
    return range_begin(count_, call_.size, p + 1) - range_begin(count_, call_.size, p);
  }

  enum class Stage { gather, sum, widen };
  static constexpr int64_t kWidth = sizeof(uint16_t);
  Tensor tensor_;
  std::vector<uint16_t> narrow_;    // of the slab under way: what is sent, and then what comes back
  std::vector<uint16_t> received_;  // this rank's share of it, by rank
  int64_t begin_ = 0, count_ = 0;   // of the slab under way
  Stage stage_ = Stage::gather;
};

class MpiRequest final : public Request {
 public:
  MpiRequest(std::shared_ptr<MpiProgress> progress, std::unique_ptr<Work> work)
      : progress_(std::move(progress)), work_(std::move(work)) {
    progress_->add(work_.get());
  }
  ~MpiRequest() override {
    progress_->remove(work_.get());
    // Unfinished: an error is on its way out and the run will be aborted. The library may still write into the
    // buffers until then, so they are never freed.
    if (!work_->done()) static_cast<void>(work_.release());
  }
  bool poll() override { return progress_->poll(work_.get()); }
  std::optional<double> ended() const override { return work_->done() ? std::optional(work_->ended()) : std::nullopt; }

 private:
  std::shared_ptr<MpiProgress> progress_;  // shared by the collectives of the process and their requests
  std::unique_ptr<Work> work_;
};

class MpiCollective final : public Collective {
 public:
  MpiCollective(const WaitPolicy& policy, std::shared_ptr<MpiProgress> progress)
      : policy_(policy), progress_(std::move(progress)) {
    const MpiProgress::Lock held = progress_->lock();
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    know_place();
  }
  /// The part of `all` that has the same `group`, in its order.
  MpiCollective(const MpiCollective& all, int group) : policy_(all.policy_), progress_(all.progress_) {
    const MpiProgress::Lock held = progress_->lock();
    check(MPI_Comm_split(all.comm_, group, all.rank_, &comm_), "MPI_Comm_split");
    know_place();
  }
  // The communicator is left to MPI_Finalize: freeing it is a collective call, which an error must not make.

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    check_host(t);
    PLSC_CHECK(can_reduce(t.dtype()), "an all-reduce of {}: convert to f32 first", dtype_name(t.dtype()));
    const Call call = next_call();
    if (static_cast<int64_t>(t.bytes()) <= kSmallAllReduce) return pending<SmallAllReduce>(call, t, op);
    return pending<AllReduce>(call, t, op);
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    check_host(t);
    PLSC_CHECK(t.dtype() == Dtype::f32, "an all-reduce in bf16 of {}", dtype_name(t.dtype()));
    return pending<NarrowAllReduce>(next_call(), t);
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    check_shares(to, from);
    return pending<AllGather>(next_call(), from, to);
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    check_shares(from, to);
    PLSC_CHECK(can_reduce(from.dtype()), "a reduce-scatter of {}: convert to f32 first", dtype_name(from.dtype()));
    return pending<ReduceScatter>(next_call(), from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override {
    check_host(t);
    PLSC_CHECK(root >= 0 && root < size_, "root {} of {} ranks", root, size_);
    return pending<Broadcast>(next_call(), t, root);
  }
  Pending start_barrier() override { return pending<Barrier>(next_call()); }
  int64_t bytes_sent() const override { return sent_; }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks > 0 && size_ % ranks == 0, "{} ranks in groups of {}", size_, ranks);
    barrier("all ranks to be split into groups");  // which a rank can miss; what follows blocks inside of MPI
    return std::make_unique<MpiCollective>(*this, rank_ / ranks);
  }

  void wait(Pending request, const std::string& what) override {
    PLSC_CHECK(request != nullptr, "a wait for nothing: {}", what);
    wait_for(*request, what, policy_);
  }

 private:
  void know_place() {
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }
  template <class W, class... Args>
  Pending pending(Args&&... args) {
    const MpiProgress::Lock held = progress_->lock();
    return std::make_unique<MpiRequest>(progress_, std::make_unique<W>(std::forward<Args>(args)...));
  }
  static void check_host(const Tensor& t) {
    PLSC_CHECK(t.defined() || t.elements() == 0, "an undefined tensor");
    PLSC_CHECK(t.on_host(), "device memory in a host collective");
  }
  void check_shares(const Tensor& whole, const Tensor& share) const {
    check_host(whole);
    check_host(share);
    PLSC_CHECK(whole.dtype() == share.dtype() && whole.elements() == size_ * share.elements(),
               "{} {} is not {} shares of {} {}", dtype_name(whole.dtype()), whole.shape().text(), size_,
               dtype_name(share.dtype()), share.shape().text());
  }
  Call next_call() { return {comm_, rank_, size_, static_cast<int>(calls_++ % kTags) * kStages, &sent_}; }

  WaitPolicy policy_;
  std::shared_ptr<MpiProgress> progress_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  int64_t calls_ = 0;
  std::atomic<int64_t> sent_ = 0;
};

}  // namespace

std::unique_ptr<Collective> make_mpi_collective(const WaitPolicy& policy, std::shared_ptr<MpiProgress> progress) {
  return std::make_unique<MpiCollective>(policy, std::move(progress));
}

}  // namespace plsc
