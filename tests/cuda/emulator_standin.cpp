#include "emulator_standin.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "standin.h"

namespace plsc::test {
namespace {

const void* host_memory = nullptr;
int tell_to = -1;  // a pipe, in a process that ends with a misuse

}  // namespace

HostMemory::HostMemory(const void* p) { host_memory = p; }
HostMemory::~HostMemory() { host_memory = nullptr; }

std::string fault_of(void (*body)()) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) throw std::runtime_error("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    tell_to = ends[1];
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 512> part{};
  for (ssize_t n = 0; (n = read(ends[0], part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return text;
}

}  // namespace plsc::test

namespace plsc::standin {

void enqueue(cudaStream_t, std::string, std::function<void()> work) { work(); }

bool is_device_memory(const void* p, size_t) {
  const auto* host = static_cast<const std::byte*>(plsc::test::host_memory);
  return host == nullptr || p < host - 1 || p > host;
}

void misuse_text(const std::string& what) {
  if (plsc::test::tell_to < 0) throw plsc::test::EmulatorMisuse(what);
  const bool told = write(plsc::test::tell_to, what.data(), what.size()) == static_cast<ssize_t>(what.size());
  _exit(told ? 1 : 2);
}

}  // namespace plsc::standin
