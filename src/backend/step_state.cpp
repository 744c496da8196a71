// The step's state, written and read through the device like any other memory.
#include <cstring>

#include "backend/backend.h"

namespace plsc {
namespace {

constexpr int64_t kElements = static_cast<int64_t>(sizeof(math::StepState) / sizeof(double));

/// Element of the state's tensor that a field begins at.
constexpr int64_t place(size_t offset) { return static_cast<int64_t>(offset / sizeof(double)); }

/// Copies `value` over the state from element `at` on.
template <class T>
void write(Backend& backend, int64_t at, const T& value) {
  static_assert(sizeof(T) % sizeof(double) == 0);
  const Shape shape{static_cast<int64_t>(sizeof(T) / sizeof(double))};
  Tensor host(host_allocator(), shape, Dtype::f64);
  std::memcpy(host.raw(), &value, sizeof value);
  Tensor to = backend.step_state.slice(at, shape);
  backend.device->copy(host, to);
}

}  // namespace

Tensor make_step_state(Device& device) {
  const math::StepState fresh;
  Tensor host(host_allocator(), {kElements}, Dtype::f64);
  std::memcpy(host.raw(), &fresh, sizeof fresh);
  Tensor state = device.tensor({kElements}, Dtype::f64);
  device.copy(host, state);
  return state;
}

void begin_step(Backend& backend, const math::StepInputs& inputs) {
  next_micro_batch(backend, inputs);
  write(backend, place(offsetof(math::StepState, overflow)), 0.0);
}

void next_micro_batch(Backend& backend, const math::StepInputs& inputs) {
  write(backend, place(offsetof(math::StepState, in)), inputs);
}

std::unique_ptr<HostRead> start_state_read(Backend& backend) { return backend.device->start_read(backend.step_state); }

math::StepState to_step_state(const Tensor& host) {
  PLSC_CHECK(host.on_host() && host.elements() == kElements);
  math::StepState state;
  std::memcpy(&state, host.raw(), sizeof state);
  return state;
}

Tensor step_flags(Backend& backend) {
  static_assert(offsetof(math::StepState, failed) == offsetof(math::StepState, overflow) + sizeof(double));
  return backend.step_state.slice(place(offsetof(math::StepState, overflow)), {2});
}

void set_loss_scale(Backend& backend, const math::LossScale& scale) {
  write(backend, place(offsetof(math::StepState, loss_scale)), scale);
}

void set_updates(Backend& backend, int64_t updates) {
  write(backend, place(offsetof(math::StepState, updates)), static_cast<double>(updates));
}

}  // namespace plsc
