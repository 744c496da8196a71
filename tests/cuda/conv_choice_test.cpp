// Which of cuDNN's algorithms a convolution takes: repeatable ones where that is asked for, within its memory, once for
// each spec, and never at the cost of somebody's tensor.
#include "conv_backend.h"
#include "parity/backend/values.h"
#include "standin_test.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

namespace {

ConvSpec small_spec() {
  ConvSpec s;
  s.batch = 2;
  s.height = s.width = 6;
  s.in_channels = 16;
  s.out_channels = 24;
  return s;
}
Shape x_shape(const ConvSpec& s) { return {s.batch, s.height, s.width, s.in_channels}; }
Shape y_shape(const ConvSpec& s) { return {s.batch, s.out_height(), s.out_width(), s.out_channels}; }
Shape w_shape(const ConvSpec& s) { return {s.out_channels, s.in_channels, s.kernel, s.kernel}; }

/// The three results of one convolution, `times` times, each time by the same op.
std::vector<Values> results(Backend& backend, const ConvSpec& s, int times) {
  Device& device = *backend.device;
  const auto conv = backend.nn->make_conv(s);
  const Tensor x = upload(device, random_values(x_shape(s), 1, s.dtype), x_shape(s), s.dtype);
  const Tensor dy = upload(device, random_values(y_shape(s), 2, s.dtype), y_shape(s), s.dtype);
  const Tensor w = upload(device, random_values(w_shape(s), 3, Dtype::f32), w_shape(s));
  std::vector<Values> all;
  for (int i = 0; i < times; ++i) {
    Tensor y = device.tensor(y_shape(s), s.dtype), dx = device.tensor(x_shape(s), s.dtype);
    Tensor dw = device.tensor(w_shape(s));
    conv->forward(x, w, y);
    conv->backward_data(dy, w, dx);
    conv->backward_weight(x, dy, dw, false);
    for (const Tensor* t : {&y, &dx, &dw}) all.push_back(download(device, *t));
  }
  return all;
}

/// The message of the LogicError that `work` throws.
template <class Work>
std::string bug_text(const Work& work) {
  try {
    work();
  } catch (const LogicError& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("convolution: deterministic repeats bit for bit, and nothing else promises to") {
  standin::TestMachine machine;
  Backend fast = conv_backend(), repeatable = conv_backend({.deterministic = true});
  const auto a = results(repeatable, small_spec(), 2);
  CHECK(a[0] == a[3]);
  CHECK(a[1] == a[4]);
  CHECK(a[2] == a[5]);
  const auto b = results(fast, small_spec(), 2);
  CHECK((b[1] != b[4] || b[2] != b[5]));  // so that the checks above can fail
}

TEST_CASE("convolution: fp32 is fp32 unless tf32 is asked for") {
  standin::TestMachine machine;
  Backend strict = conv_backend({.deterministic = true}), rounded = conv_backend({.tf32 = true, .deterministic = true});
  const auto a = results(strict, small_spec(), 1), b = results(rounded, small_spec(), 1);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(a[i] != b[i]);
    // TF32 keeps 11 bits of a factor: a product is off by up to 2^-10, a sum by about that part of its usual size.
    require_close(b[i], a[i], 0, 4.0 / 1024);
  }
}

TEST_CASE("convolution: a second op of a spec takes what the first one found") {
  standin::TestMachine machine;
  Backend backend = conv_backend();
  results(backend, small_spec(), 1);
  const int64_t before = standin::counters().synchronisations;
  const auto conv = backend.nn->make_conv(small_spec());
  const ConvSpec s = small_spec();
  const Tensor x = upload(*backend.device, random_values(x_shape(s), 1, s.dtype), x_shape(s));
  const Tensor w = upload(*backend.device, random_values(w_shape(s), 3, s.dtype), w_shape(s));
  Tensor y = backend.device->tensor(y_shape(s));
  conv->forward(x, w, y);
  CHECK(standin::counters().synchronisations == before);  // a race would wait for the device
}

TEST_CASE("convolution: a race overwrites neither its inputs nor what a gradient is added to") {
  standin::TestMachine machine;
  Backend backend = conv_backend();
  ConvSpec s = small_spec();
  s.kernel = 1;  // fp32 and one place: the gradient is added by cuDNN itself, in place
  s.pad = 0;
  const Values x = random_values(x_shape(s), 1, s.dtype), dy = random_values(y_shape(s), 2, s.dtype);
  const Tensor tx = upload(*backend.device, x, x_shape(s)), tdy = upload(*backend.device, dy, y_shape(s));
  const Values old = random_values(w_shape(s), 3, s.dtype);
  Tensor dw = upload(*backend.device, old, w_shape(s)), once = upload(*backend.device, old, w_shape(s));
  const auto conv = backend.nn->make_conv(s);
  conv->backward_weight(tx, tdy, dw, true);     // with the race
  conv->backward_weight(tx, tdy, once, false);  // without
  require_close(download(*backend.device, dw), moved(download(*backend.device, once), 1, old), 0, 1e-5);
  CHECK(download(*backend.device, tx) == x);
  CHECK(download(*backend.device, tdy) == dy);
}

TEST_CASE("convolution: a workspace beyond the bound is not taken") {
  standin::TestMachine machine;
  const ConvSpec s = small_spec();
  const auto workspaces = [&](const CudaRuntimeOptions& options) {
    Backend backend = conv_backend(options);
    results(backend, s, 1);
    std::vector<size_t> bytes;
    for (ConvPass pass : {ConvPass::forward, ConvPass::data, ConvPass::weight}) {
      bytes.push_back(runtime_of(backend).convs->find(s, pass).value().workspace);
    }
    return bytes;
  };
  const size_t weight_bytes = static_cast<size_t>(w_shape(s).elements()) * 4;
  const auto free = workspaces({.deterministic = true});
  CHECK(free[1] >= weight_bytes);  // so that the check below can fail
  // No repeatable algorithm of the backward passes fits then: an error that says so.
  Backend tight = conv_backend({.deterministic = true, .conv_workspace = weight_bytes - 1});
  const std::string text = error_text([&] { results(tight, s, 1); });
  CHECK(contains(text, "no repeatable algorithm"));
  CHECK(contains(text, "(2, 6, 6, 16)"));
  for (size_t bytes : workspaces({.conv_workspace = weight_bytes})) CHECK(bytes <= weight_bytes);
}

namespace {

/// A device with room for little, all of it taken but for one converted weight.
struct FullDevice {
  explicit FullDevice(bool deterministic)
      : backend(conv_backend({.deterministic = deterministic},
                             {.memory_limit = static_cast<int64_t>(Arena::kSmallSegment)})) {
    Tensor converted_weight = backend.device->tensor(w_shape(s));
    for (size_t bytes = Arena::kSmall; bytes >= Arena::kAlignment;) {
      try {
        filling.push_back(backend.device->tensor({static_cast<int64_t>(bytes)}, Dtype::u8));
      } catch (const Error&) {
        bytes /= 2;
      }
    }
  }
  standin::TestMachine machine;
  ConvSpec s = small_spec();
  Backend backend;
  Tensor x = upload(*backend.device, random_values(x_shape(s), 1, s.dtype), x_shape(s));
  Tensor dy = upload(*backend.device, random_values(y_shape(s), 2, s.dtype), y_shape(s));
  Tensor w = upload(*backend.device, random_values(w_shape(s), 3, s.dtype), w_shape(s));
  Tensor y = backend.device->tensor(y_shape(s)), dx = backend.device->tensor(x_shape(s));
  std::vector<Tensor> filling;
};

}  // namespace

TEST_CASE("convolution: where memory is short, an algorithm without workspace") {
  FullDevice full(false);
  ConvAlgorithms& known = *runtime_of(full.backend).convs;
  known.remember(full.s, ConvPass::forward, {1, CUDNN_FMA_MATH, 9 * 256});
  full.backend.nn->make_conv(full.s)->forward(full.x, full.w, full.y);
  CHECK(known.find(full.s, ConvPass::forward).value().workspace == 0);
  full.filling.clear();
  Backend roomy = conv_backend({.deterministic = true});
  CHECK(download(*full.backend.device, full.y) == results(roomy, full.s, 1)[0]);
}

TEST_CASE("convolution: where memory is short and every algorithm wants some, the device says so") {
  FullDevice full(true);
  const auto conv = full.backend.nn->make_conv(full.s);
  const std::string text = error_text([&] { conv->backward_data(full.dy, full.w, full.dx); });
  CHECK(contains(text, "workspace"));
  CHECK(contains(text, "hint"));
  full.filling.clear();
  conv->backward_data(full.dy, full.w, full.dx);  // nothing is broken
  Backend roomy = conv_backend({.deterministic = true});
  CHECK(download(*full.backend.device, full.dx) == results(roomy, full.s, 1)[1]);
}

TEST_CASE("convolution: what CUDA does not offer is refused by name") {
  standin::TestMachine machine;
  Backend backend = conv_backend();
  const ConvSpec s = small_spec();
  const auto conv = backend.nn->make_conv(s);
  const Tensor x = backend.device->zeros(x_shape(s)), dy = backend.device->zeros(y_shape(s));
  Tensor dw = backend.device->zeros(w_shape(s), Dtype::f64);
  CHECK(contains(bug_text([&] { conv->backward_weight(x, dy, dw, false); }), "fp64 are not offered on CUDA"));
  LinearSpec linear{.batch = 2, .channels = 4, .out_features = 3};
  linear.fixed_order = true;
  CHECK(contains(bug_text([&] { backend.nn->make_linear(linear); }), "fixed order"));
  Tensor host(host_allocator(), y_shape(s), Dtype::f32);
  CHECK(contains(bug_text([&] { conv->forward(x, backend.device->zeros(w_shape(s)), host); }), "host memory"));
  ConvSpec huge = s;
  huge.batch = 1 << 20;
  huge.height = huge.width = 64;
  CHECK(contains(error_text([&] { backend.nn->make_conv(huge); }), "hint: fewer samples"));
}
