// Work of a step that is recorded once and then played back: the device's part as recordings, and between them the
// collectives, which stay calls of the host because they cross ranks (a recording is cut wherever one stands).
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/device.h"
#include "comm/collective.h"

namespace plsc {

/// What was recorded, in order.
class Program {
 public:
  bool empty() const { return parts_.empty(); }
  void play() const {
    for (const auto& part : parts_) part();
  }
  int64_t recordings() const { return recordings_; }

 private:
  friend class Tape;
  std::vector<std::function<void()>> parts_;
  int64_t recordings_ = 0;
};

/// A collective that passes everything on to another, but while it records: then what it is asked to start or to wait
/// for becomes a part of the program, as does all work of the device in between.
class Tape final : public Collective {
 public:
  /// Both outlive the tape and its programs.
  Tape(Device& device, Collective& inner);
  ~Tape() override;

  /// Calls `work`, of which nothing is done before the program is played: the device records it, and collectives wait
  /// their turn. What `work` starts it must also wait for. Programs that are always played in the same order may share
  /// `memory`: what one has released, a later one uses again. Tensors that `work` has used stay where they are as long
  /// as the program lives. All ranks record the same programs.
  Program record(const std::shared_ptr<RecordingMemory>& memory, const std::function<void()>& work);

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  Pending start_all_reduce(Tensor& t, ReduceOp op) override {
    return start(&Collective::start_all_reduce, inner_, t, op);
  }
  Pending start_all_reduce_bf16(Tensor& t) override { return start(&Collective::start_all_reduce_bf16, inner_, t); }
  Pending start_all_gather(const Tensor& from, Tensor& to) override {
    return start(&Collective::start_all_gather, inner_, from, to);
  }
  Pending start_reduce_scatter(const Tensor& from, Tensor& to) override {
    return start(&Collective::start_reduce_scatter, inner_, from, to);
  }
  Pending start_broadcast(Tensor& t, int root) override { return start(&Collective::start_broadcast, inner_, t, root); }
  Pending start_barrier() override { return start(&Collective::start_barrier, inner_); }
  /// Of a group's collective what stands in a recording is a part of its program, too.
  std::unique_ptr<Collective> split(int ranks, Collective& host) override;
  void wait(Pending pending, const std::string& what) override;
  int64_t bytes_sent() const override { return inner_.bytes_sent(); }

 private:
  struct Session;
  class Group;
  /// The collective `which` of `inner`, now or where it will stand in the program. Tensors are kept by value: they
  /// share the storage that the program works on.
  template <class Which, class... Arguments>
  Pending start(Which which, Collective& inner, Arguments... arguments) {
    if (!session_) return (inner.*which)(arguments...);
    return start_later([which, &inner, arguments...]() mutable { return (inner.*which)(arguments...); });
  }
  Pending start_later(std::function<Pending()> call);
  void wait_of(Collective& inner, Pending pending, const std::string& what);
  void cut(std::function<void()> call);
  void begin_part();
  void end_part();

  Device& device_;
  Collective& inner_;
  std::unique_ptr<Session> session_;  // while it records
};

}  // namespace plsc
