// The least of a stand-in, for the emulator's own tests: a launch runs at once, and a misuse is an exception.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace plsc::test {

struct EmulatorMisuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// While it lives, `p` points to host memory, and everything else to the device's.
class HostMemory {
 public:
  explicit HostMemory(const void* p);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
};

/// The sentence with which `body`'s misuse ends; empty where it finds none.
template <class Body>
std::string misuse_of(Body&& body) {
  try {
    std::forward<Body>(body)();
  } catch (const EmulatorMisuse& misuse) {
    return misuse.what();
  }
  return "";
}

/// The same for what cannot be an exception, a memory fault: `body` runs in a process of its own.
std::string fault_of(void (*body)());

}  // namespace plsc::test
