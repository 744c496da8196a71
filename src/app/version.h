// The version of the program: CMake's project version.
#pragma once

namespace plsc {
inline constexpr const char* kVersion = PLSC_VERSION;
}
