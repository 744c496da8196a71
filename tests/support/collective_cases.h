// What every collective on device memory must do, on any number of ranks. All ranks call the same case together; what
// is wrong is thrown, because ranks may be threads. Values are whole numbers below 2^24, so that even float sums are
// exact.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "backend/device.h"
#include "comm/collective.h"
#include "support/narrow_sums.h"

namespace plsc::test {

class CollectiveCases {
 public:
  CollectiveCases(Device& device, Collective& comm) : device_(device), comm_(comm) {}

  void all() {
    types<float>();
    types<double>();
    types<int64_t>();
    types<int32_t>();
    types<uint8_t>();  // at most 50 a rank: no overflow with four
    gather_in_place();
    order();
    many_at_once();
    polling();
    narrow_sums();
    sum_hands_on_nan();
    refusals();
    comm_.barrier();
  }
  /// Where nothing stages it.
  void refuses_host_memory() {
    Tensor host = Tensor::from<float>({1.0F}, {1});
    refused("host memory", [&] { comm_.all_reduce(host, ReduceOp::sum); });
  }

 private:
  /// What rank r holds at element i.
  static int64_t value(int64_t r, int64_t i) { return (i * 7 + r * 31) % 50; }
  int64_t reduced(int64_t i, ReduceOp op) const {
    int64_t all = value(0, i);
    for (int r = 1; r < comm_.size(); ++r) {
      const int64_t v = value(r, i);
      all = op == ReduceOp::sum ? all + v : op == ReduceOp::max ? std::max(all, v) : std::min(all, v);
    }
    return all;
  }
  template <class T>
  Tensor filled(int64_t n) {
    Tensor host(host_allocator(), {n}, DtypeOf<T>::value);
    for (int64_t i = 0; i < n; ++i) host.data<T>()[i] = static_cast<T>(value(comm_.rank(), i));
    Tensor t = device_.tensor({n}, host.dtype());
    device_.copy(host, t);
    return t;
  }
  template <class T, class Expected>
  void expect(const Tensor& t, const char* what, const Expected& expected) {
    Tensor host(host_allocator(), t.shape(), t.dtype());
    device_.copy(t, host);
    for (int64_t i = 0; i < t.elements(); ++i) {
      if (host.data<T>()[i] == static_cast<T>(expected(i))) continue;
      fail("{} of {} {} on rank {} of {}: element {} is {} and not {}", what, t.elements(), dtype_name(t.dtype()),
           comm_.rank(), comm_.size(), i, host.data<T>()[i], expected(i));
    }
  }

  template <class T>
  void types() {
    // 1: fewer than ranks. 4097: just over MPI's form for small tensors in f32. 70001: over 2^16.
    for (const int64_t n : {0, 1, 2, 3, 5, 64, 1000, 4097, 70001}) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        Tensor t = filled<T>(n);
        comm_.all_reduce(t, op);
        expect<T>(t, "an all-reduce", [&](int64_t i) { return reduced(i, op); });
      }
      const Tensor from = filled<T>(n * comm_.size());
      Tensor to = device_.tensor({n}, from.dtype());
      comm_.reduce_scatter(from, to);
      expect<T>(to, "a reduce-scatter", [&](int64_t i) { return reduced(n * comm_.rank() + i, ReduceOp::sum); });
      Tensor all = device_.tensor({comm_.size(), n}, from.dtype());
      comm_.all_gather(filled<T>(n), all);
      expect<T>(all, "an all-gather", [&](int64_t i) { return value(i / n, i % n); });
      for (int root = 0; root < comm_.size(); ++root) {
        Tensor t = filled<T>(n);
        comm_.broadcast(t, root);
        expect<T>(t, "a broadcast", [&](int64_t i) { return value(root, i); });
      }
    }
  }

  void gather_in_place() {
    Tensor all = device_.zeros({comm_.size(), 37});
    Tensor own = all.rows(comm_.rank(), 1);
    device_.copy(filled<float>(37), own);
    comm_.all_gather(own, all);
    expect<float>(all, "an all-gather in place", [&](int64_t i) { return value(i / 37, i % 37); });
  }

  /// A collective begins behind what the device was given, and what the device is given after the wait finds its
  /// result: without the host in between.
  void order() {
    const int64_t n = 5000;
    for (int round = 0; round < 10; ++round) {
      const Tensor source = filled<float>(n);
      Tensor t = device_.zeros({n});
      Tensor gathered = device_.tensor({comm_.size(), n}), copy = device_.tensor({comm_.size(), n});
      device_.copy(source, t);
      Pending sum = comm_.start_all_reduce(t, ReduceOp::sum);
      Pending gather = comm_.start_all_gather(source, gathered);
      comm_.wait(std::move(sum), "a sum");
      Tensor again = device_.zeros({n});
      device_.copy(t, again);
      device_.fill_zero(t);
      comm_.wait(std::move(gather), "a gather");
      device_.copy(gathered, copy);
      device_.fill_zero(gathered);
      expect<float>(again, "a sum used at once", [&](int64_t i) { return reduced(i, ReduceOp::sum); });
      expect<float>(copy, "a gather used at once", [&](int64_t i) { return value(i / n, i % n); });
    }
  }

  void many_at_once() {
    for (int round = 0; round < 5; ++round) {
      std::vector<Tensor> sums, gathered;
      std::vector<Pending> pending;
      for (int64_t k = 0; k < 8; ++k) {
        const int64_t n = 1 + k * 5000 + round;
        pending.push_back(comm_.start_all_reduce(sums.emplace_back(filled<float>(n)), ReduceOp::sum));
        const Tensor mine = filled<int64_t>(n);  // ends here: the request keeps its memory
        pending.push_back(
            comm_.start_all_gather(mine, gathered.emplace_back(device_.tensor({comm_.size(), n}, Dtype::i64))));
        pending.push_back(comm_.start_barrier());
      }
      // Each rank finishes in an order of its own.
      for (size_t i = 0; i < pending.size(); ++i) {
        comm_.wait(std::move(pending[(i * 7 + static_cast<size_t>(comm_.rank()) * 5) % pending.size()]), "one of many");
      }
      for (size_t k = 0; k < sums.size(); ++k) {
        const int64_t n = sums[k].elements();
        expect<float>(sums[k], "one of many sums", [&](int64_t i) { return reduced(i, ReduceOp::sum); });
        expect<int64_t>(gathered[k], "one of many gathers", [&](int64_t i) { return value(i / n, i % n); });
      }
    }
  }

  void polling() {
    Tensor t = filled<float>(100'000);
    Pending pending = comm_.start_all_reduce(t, ReduceOp::sum);
    while (!pending->poll()) {
    }
    comm_.wait(std::move(pending), "what is complete");
    expect<float>(t, "a polled sum", [&](int64_t i) { return reduced(i, ReduceOp::sum); });
  }

  void narrow_sums() {
    for (const int64_t n : {0, 1, 2, 5, 1000, 70001}) {
      Tensor host(host_allocator(), {n}, Dtype::f32), t = device_.tensor({n});
      for (int64_t i = 0; i < n; ++i) host.data<float>()[i] = narrow_sample(comm_.rank(), i);
      device_.copy(host, t);
      comm_.wait(comm_.start_all_reduce_bf16(t), "a narrow sum");
      expect<float>(t, "a narrow sum", [&](int64_t i) { return narrow_sum(comm_.size(), i); });
    }
  }

  void sum_hands_on_nan() {
    for (int bad = 0; bad < comm_.size(); ++bad) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      Tensor host = Tensor::from<float>({comm_.rank() == bad ? nan : 1.0F}, {1}), t = device_.tensor({1});
      device_.copy(host, t);
      comm_.all_reduce(t, ReduceOp::sum);
      device_.copy(t, host);
      if (!std::isnan(host.data<float>()[0])) fail("a NaN of rank {} was lost", bad);
    }
  }

  template <class Work>
  static void refused(const char* what, const Work& work) {
    try {
      work();
    } catch (const LogicError&) {
      return;
    }
    fail("{} was not refused", what);
  }
  /// What cannot be carried is refused before anything is sent.
  void refusals() {
    Tensor half = device_.zeros({8}, Dtype::bf16), halves = device_.zeros({8 * comm_.size()}, Dtype::bf16);
    Tensor all = device_.zeros({8 * comm_.size()}), short_one = device_.zeros({7});
    refused("a sum of bf16", [&] { comm_.all_reduce(half, ReduceOp::sum); });
    refused("a scattered sum of bf16", [&] { comm_.reduce_scatter(halves, half); });
    refused("a gather of unlike sizes", [&] { comm_.all_gather(short_one, all); });
    refused("a root beyond the ranks", [&] { comm_.broadcast(all, comm_.size()); });
    comm_.all_gather(half, halves);  // as bytes any type travels
  }

  Device& device_;
  Collective& comm_;
};

}  // namespace plsc::test
