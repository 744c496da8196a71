// A collective that passes everything on and remembers what it was asked for.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "comm/collective.h"

namespace plsc::test {

class CountedCollective final : public Collective {
 public:
  explicit CountedCollective(Collective& inner) : inner_(inner), calls_(std::make_shared<std::vector<std::string>>()) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }

  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    note("all-reduce", t);
    return inner_.start_all_reduce(t, op);
  }
  Pending start_all_reduce_bf16(Tensor& t) override {
    note("all-reduce in bf16", t);
    return inner_.start_all_reduce_bf16(t);
  }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    note("all-gather", from);
    return inner_.start_all_gather(from, to);
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    note("reduce-scatter", from);
    return inner_.start_reduce_scatter(from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override {
    note("broadcast", t);
    return inner_.start_broadcast(t, root);
  }
  Pending start_barrier() override {
    calls_->push_back(of_ + "barrier");
    return inner_.start_barrier();
  }
  void wait(Pending pending, const std::string& what) override {
    calls_->push_back(of_ + "wait: " + what);
    inner_.wait(std::move(pending), what);
  }
  int64_t bytes_sent() const override { return inner_.bytes_sent(); }

  /// A group's calls are among these, each behind the word group.
  std::unique_ptr<Collective> split(int ranks, Collective& host) override {
    auto owned = inner_.split(ranks, host);
    auto group = std::make_unique<CountedCollective>(*owned);
    group->owned_ = std::move(owned);
    group->calls_ = calls_;
    group->of_ = "group ";
    return group;
  }

  /// Puts a word between the calls.
  void mark(const std::string& word) { calls_->push_back(word); }
  /// "all-reduce f32 (128)", "wait: gradient bucket 0", ...: in the order of the calls.
  const std::vector<std::string>& calls() const { return *calls_; }
  /// Calls that begin like that.
  int64_t count(const std::string& what) const {
    return std::ranges::count_if(*calls_, [&](const std::string& call) { return call.starts_with(what); });
  }

 private:
  void note(const char* what, const Tensor& t) {
    calls_->push_back(fmt::format("{}{} {} {}", of_, what, dtype_name(t.dtype()), t.shape().text()));
  }

  Collective& inner_;
  std::unique_ptr<Collective> owned_;
  std::shared_ptr<std::vector<std::string>> calls_;
  std::string of_;
};

}  // namespace plsc::test
