// The step's state in tests.
#pragma once
#include "runtime/context.h"

namespace plsc::test {

inline math::StepState state_of(Backend& backend) { return to_step_state(start_state_read(backend)->get()); }
inline math::StepState state_of(Context& context) { return state_of(context.backend); }
inline void set_fresh_state(Backend& backend) {
  const Tensor fresh = make_step_state(*backend.device);
  backend.device->copy(fresh, backend.step_state);
}
inline void set_fresh_state(Context& context) { set_fresh_state(context.backend); }

}  // namespace plsc::test
