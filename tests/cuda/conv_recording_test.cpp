// Convolutions and the linear layer in recorded work: a replay gives what a call gives, on the values of its time, also
// where the recording is the first that an op is used for.
#include "conv_backend.h"
#include "parity/backend/values.h"
#include "standin_test.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// A convolution and a linear layer behind it, there and back, in tensors that stay.
struct TinyNet {
  explicit TinyNet(Backend& b) : backend(b) {
    conv_spec.batch = 3;
    conv_spec.height = conv_spec.width = 4;
    conv_spec.in_channels = 16;
    conv_spec.out_channels = 8;
    conv = backend.nn->make_conv(conv_spec);
    linear = backend.nn->make_linear({.batch = 3, .height = 4, .width = 4, .channels = 8, .out_features = 5});
  }
  void give(uint64_t seed) {
    for (Tensor* t : {&x, &dy, &w, &rows, &lw, &bias, &dz}) {
      backend.device->copy(upload(random_values(t->shape(), seed++, Dtype::f32), t->shape()), *t);
    }
  }
  void run() {
    conv->forward(x, w, y);
    conv->backward_data(dy, w, dx);
    conv->backward_weight(x, dy, dw, false);
    linear->forward(rows, lw, bias, z);
    linear->backward_data(dz, lw, drows);
    linear->backward_weight(rows, dz, dlw, dbias, false);
  }
  void forget() {
    for (Tensor* t : {&y, &dx, &dw, &z, &drows, &dlw, &dbias}) backend.device->fill_zero(*t);
  }
  std::vector<Values> results() const {
    std::vector<Values> all;
    for (const Tensor* t : {&y, &dx, &dw, &z, &drows, &dlw, &dbias}) all.push_back(download(*backend.device, *t));
    return all;
  }

  Backend& backend;
  ConvSpec conv_spec;
  std::unique_ptr<ConvOp> conv;
  std::unique_ptr<LinearOp> linear;
  Tensor x = made({3, 4, 4, 16}), dx = made({3, 4, 4, 16}), y = made({3, 4, 4, 8}), dy = made({3, 4, 4, 8});
  Tensor w = made({8, 16, 3, 3}), dw = made({8, 16, 3, 3});
  Tensor rows = made({3, 4, 4, 8}), drows = made({3, 4, 4, 8}), lw = made({5, 128}), dlw = made({5, 128});
  Tensor bias = made({5}), dbias = made({5}), z = made({3, 5}), dz = made({3, 5});

 private:
  Tensor made(const Shape& shape) const { return backend.device->tensor(shape); }
  Tensor upload(const Values& values, const Shape& shape) const {
    return plsc::test::upload(*backend.device, values, shape);
  }
};

}  // namespace

TEST_CASE("convolution and linear layer: a replay gives what a call gives") {
  const bool first_use = GENERATE(true, false);
  const uint64_t seed = GENERATE(1u, 2u, 3u);
  standin::TestMachine machine(seed);
  // Repeatable, so that results compare by their bits.
  Backend backend = conv_backend({.deterministic = true});
  TinyNet net(backend);
  net.give(10);
  if (!first_use) net.run();
  backend.device->begin_recording(backend.device->make_recording_memory());
  net.run();
  const auto recording = backend.device->end_recording();
  for (uint64_t values : {20u, 40u}) {
    net.give(values);
    net.forget();
    recording->replay();
    const auto replayed = net.results();
    net.forget();
    net.run();
    CHECK(replayed == net.results());
  }
}

TEST_CASE("convolution: no race inside a recording") {
  standin::TestMachine machine;
  Backend backend = conv_backend();
  TinyNet net(backend);
  net.give(10);
  backend.device->begin_recording(backend.device->make_recording_memory());
  net.run();
  const auto recording = backend.device->end_recording();
  recording->replay();
  const auto replayed = net.results();
  net.run();
  const auto called = net.results();
  for (size_t i = 0; i < called.size(); ++i) require_close(replayed[i], called[i], 0, 10 * kFp32);
}
