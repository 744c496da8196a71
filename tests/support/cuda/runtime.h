// The machine that the stand-in plays: its options, and which devices a process sees of it.
#pragma once
#include "standin.h"

namespace plsc::standin {

/// What the environment says. Throws std::runtime_error where it cannot be understood.
Options options_from_environment();

}  // namespace plsc::standin
