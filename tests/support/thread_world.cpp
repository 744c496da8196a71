// Each collective is a numbered slot into which every rank copies its input; once all have, each rank computes its own
// result from the copies. The copies are what makes in-place operations and early leavers safe.
#include "support/thread_world.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/math/bf16.h"

namespace plsc::test {
namespace {

/// The error of a rank whose only trouble is that another one failed.
struct OtherRankFailed : Error {
  using Error::Error;
};

struct Slot {
  std::string signature;  // operation, type, size: must be the same on all ranks
  std::vector<std::vector<std::byte>> inputs;
  int posted = 0, left = 0;
};

/// One communicator's shared part.
struct Board {
  explicit Board(int size) : ranks(size) {}
  const int ranks;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, Slot> slots;
  bool failed = false;
  std::map<std::pair<int64_t, int>, std::unique_ptr<Board>>
      groups;  // of a split, in the order of splits, and its place

  Board& group(int64_t split, int place, int size) {
    std::lock_guard lock(mutex);
    auto& board = groups[{split, place}];
    if (!board) board = std::make_unique<Board>(size);
    board->failed = failed;
    return *board;
  }
  void post(int64_t number, int rank, const std::string& signature, const Tensor& input) {
    std::lock_guard lock(mutex);
    Slot& slot = slots[number];
    if (slot.inputs.empty()) {
      slot.inputs.resize(static_cast<size_t>(ranks));
      slot.signature = signature;
    }
    PLSC_CHECK(slot.signature == signature, "collective {}: rank {} calls {}, another rank {}", number, rank, signature,
               slot.signature);
    const auto* data = static_cast<const std::byte*>(input.raw());
    slot.inputs[static_cast<size_t>(rank)].assign(data, data + input.bytes());
    ++slot.posted;
    changed.notify_all();
  }
  void leave(int64_t number) {
    std::lock_guard lock(mutex);
    if (++slots.at(number).left == ranks) slots.erase(number);
  }
  void fail_all() {
    std::lock_guard lock(mutex);
    failed = true;
    changed.notify_all();
    for (auto& [key, board] : groups) board->fail_all();
  }
};

template <class T>
T combined(T a, T b, ReduceOp op) {
  if (op == ReduceOp::sum) return static_cast<T>(a + b);
  return op == ReduceOp::max ? std::max(a, b) : std::min(a, b);
}

/// out = the ranks' elements [offset, offset + out.elements()), combined in rank order.
template <class T>
void reduce_as(const Slot& slot, int64_t offset, Tensor& out, ReduceOp op) {
  T* to = out.data<T>();
  for (int64_t i = 0; i < out.elements(); ++i) {
    T value = reinterpret_cast<const T*>(slot.inputs[0].data())[offset + i];
    for (size_t r = 1; r < slot.inputs.size(); ++r) {
      value = combined(value, reinterpret_cast<const T*>(slot.inputs[r].data())[offset + i], op);
    }
    to[i] = value;
  }
}
/// What start_all_reduce_bf16 promises: rounded values, summed in fp32 in rank order, rounded.
void reduce_narrow(const Slot& slot, Tensor& out) {
  const auto rounded = [](float value) { return math::bf16_to_float(math::float_to_bf16(value)); };
  for (int64_t i = 0; i < out.elements() && slot.inputs.size() > 1; ++i) {
    const auto element = [&](size_t r) { return rounded(reinterpret_cast<const float*>(slot.inputs[r].data())[i]); };
    float sum = element(0);
    for (size_t r = 1; r < slot.inputs.size(); ++r) sum += element(r);
    out.data<float>()[i] = rounded(sum);
  }
}
void reduce_bf16(const Slot& slot, int64_t offset, Tensor& out, ReduceOp op) {
  for (int64_t i = 0; i < out.elements(); ++i) {
    const auto element = [&](size_t r) {
      return math::bf16_to_float(reinterpret_cast<const bf16_t*>(slot.inputs[r].data())[offset + i].bits);
    };
    float value = element(0);
    for (size_t r = 1; r < slot.inputs.size(); ++r) value = combined(value, element(r), op);
    out.data<bf16_t>()[i].bits = math::float_to_bf16(value);
  }
}
void reduce(const Slot& slot, int64_t offset, Tensor& out, ReduceOp op) {
  switch (out.dtype()) {
    case Dtype::f32:
      return reduce_as<float>(slot, offset, out, op);
    case Dtype::f64:
      return reduce_as<double>(slot, offset, out, op);
    case Dtype::i64:
      return reduce_as<int64_t>(slot, offset, out, op);
    case Dtype::i32:
      return reduce_as<int32_t>(slot, offset, out, op);
    case Dtype::u8:
      return reduce_as<uint8_t>(slot, offset, out, op);
    case Dtype::bf16:
      return reduce_bf16(slot, offset, out, op);
    case Dtype::f16:
      break;
  }
  fail("a reduction of {}", dtype_name(out.dtype()));
}

class SlotRequest final : public Request {
 public:
  SlotRequest(Board& board, int64_t number, std::function<void(const Slot&)> finish)
      : board_(board), number_(number), finish_(std::move(finish)) {}

  bool poll() override { return wait_for(0); }

  bool wait_for(double seconds) {
    if (done_) return true;
    std::unique_lock lock(board_.mutex);
    const Slot& slot = board_.slots.at(number_);
    const auto ready = [&] { return board_.failed || slot.posted == board_.ranks; };
    if (!board_.changed.wait_for(lock, std::chrono::duration<double>(seconds), ready)) return false;
    if (slot.posted < board_.ranks) throw OtherRankFailed("another rank failed");
    lock.unlock();  // a full slot does not change any more, and stays until this rank leaves it
    finish_(slot);
    board_.leave(number_);
    done_ = true;
    return true;
  }

 private:
  Board& board_;
  int64_t number_;
  std::function<void(const Slot&)> finish_;
  bool done_ = false;
};

class ThreadCollective final : public Collective {
 public:
  ThreadCollective(Board& board, int rank, double timeout) : board_(board), rank_(rank), timeout_(timeout) {}
  int rank() const override { return rank_; }
  int size() const override { return board_.ranks; }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    return start("all_reduce " + std::to_string(static_cast<int>(op)), t,
                 [t, op](const Slot& slot) mutable { reduce(slot, 0, t, op); });
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    return start("all_reduce_bf16", t, [t](const Slot& slot) mutable { reduce_narrow(slot, t); });
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    PLSC_CHECK(to.elements() == from.elements() * size() && to.dtype() == from.dtype());
    return start("all_gather", from, [to](const Slot& slot) {
      auto* out = static_cast<std::byte*>(to.raw());
      for (const auto& input : slot.inputs) out = std::copy(input.begin(), input.end(), out);
    });
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    PLSC_CHECK(from.elements() == to.elements() * size() && to.dtype() == from.dtype());
    return start("reduce_scatter", from, [to, rank = rank_](const Slot& slot) mutable {
      reduce(slot, to.elements() * rank, to, ReduceOp::sum);
    });
  }
  Pending start_broadcast(Tensor& t, int root) override {
    return start("broadcast " + std::to_string(root), t, [t, root](const Slot& slot) {
      const auto& input = slot.inputs[static_cast<size_t>(root)];
      std::copy(input.begin(), input.end(), static_cast<std::byte*>(t.raw()));
    });
  }
  Pending start_barrier() override {
    return start("barrier", Tensor(host_allocator(), Shape{0}, Dtype::u8), [](const Slot&) {});
  }
  std::unique_ptr<Collective> split(int ranks, Collective&) override {
    PLSC_CHECK(ranks > 0 && size() % ranks == 0);
    return std::make_unique<ThreadCollective>(board_.group(splits_++, rank_ / ranks, ranks), rank_ % ranks, timeout_);
  }
  void wait(Pending pending, const std::string& what) override {
    if (!static_cast<SlotRequest&>(*pending).wait_for(timeout_)) {
      fail("{}: rank {} waited {} s for the others", what, rank_, timeout_);
    }
  }
  int64_t bytes_sent() const override { return 0; }

 private:
  Pending start(const std::string& name, const Tensor& input, std::function<void(const Slot&)> finish) {
    PLSC_CHECK(input.on_host());
    const int64_t number = next_++;
    board_.post(number, rank_,
                name + " " + std::string(dtype_name(input.dtype())) + " " + std::to_string(input.elements()), input);
    return std::make_unique<SlotRequest>(board_, number, std::move(finish));
  }

  Board& board_;
  int rank_;
  double timeout_;
  int64_t next_ = 0, splits_ = 0;
};

}  // namespace

void run_ranks(int ranks, const std::function<void(ThreadRank&)>& body, double timeout) {
  Board tensors(ranks), values(ranks);
  std::mutex mutex;
  std::exception_ptr first, secondary;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      ThreadCollective comm(tensors, r, timeout), host(values, r, timeout);
      ThreadRank self{r, ranks, comm, host};
      try {
        body(self);
      } catch (const OtherRankFailed&) {
        std::lock_guard lock(mutex);
        secondary = std::current_exception();
      } catch (...) {
        {
          std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        tensors.fail_all();
        values.fail_all();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
  if (secondary) std::rethrow_exception(secondary);
}

}  // namespace plsc::test
