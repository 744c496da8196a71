#include "shared_memory.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <string_view>

#include "standin.h"

namespace plsc::standin {
namespace {

constexpr std::byte kNan{0xFF};
constexpr std::byte kGuard{0xA5};
// What lies in front of dynamic shared memory and is looked at after each block.
constexpr size_t kFrontBytes = 1024;
constexpr size_t kInaccessible = size_t{64} << 10;

// A variable inside a function of this namespace, by the C++ ABI's rules for names.
constexpr std::string_view kLocalOfKernels = "_ZZN4plsc7kernels4cuda";

std::vector<char> read_executable() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// How far the executable lies from where its symbols say.
uintptr_t load_offset() {
  uintptr_t offset = 0;
  const auto take_first = [](dl_phdr_info* info, size_t, void* result) {
    *static_cast<uintptr_t*>(result) = info->dlpi_addr;
    return 1;
  };
  dl_iterate_phdr(take_first, &offset);
  return offset;
}

/// Whether every byte is `value`: it is the first's, and each is its neighbour's.
bool is(std::span<const std::byte> memory, std::byte value) {
  return memory.empty() ||
         (memory[0] == value && std::memcmp(memory.data(), memory.data() + 1, memory.size() - 1) == 0);
}

}  // namespace

StaticShared::StaticShared() {
  const std::vector<char> file = read_executable();
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(file.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(file.data() + header->e_shoff);
  const auto* table = std::find_if(sections, sections + header->e_shnum,
                                   [](const Elf64_Shdr& section) { return section.sh_type == SHT_SYMTAB; });
  if (table == sections + header->e_shnum) misuse("the executable has no symbols: shared memory cannot be found");
  const char* names = file.data() + sections[table->sh_link].sh_offset;
  const auto* symbols = reinterpret_cast<const Elf64_Sym*>(file.data() + table->sh_offset);
  const uintptr_t offset = load_offset();
  for (const Elf64_Sym& symbol : std::span(symbols, table->sh_size / sizeof(Elf64_Sym))) {
    const bool variable = ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT && symbol.st_shndx < header->e_shnum &&
                          sections[symbol.st_shndx].sh_type == SHT_NOBITS;
    if (!variable || !std::string_view(names + symbol.st_name).starts_with(kLocalOfKernels)) continue;
    variables_.push_back({{reinterpret_cast<std::byte*>(offset + symbol.st_value), symbol.st_size}});
  }
}

void StaticShared::before_block(int64_t blocks_done) {
  for (Variable& variable : variables_) {
    if (blocks_done == 0) variable.written = false;
    if (blocks_done == 0 || variable.written) std::ranges::fill(variable.memory, kNan);
  }
}

void StaticShared::after_block(int64_t blocks_done) {
  if ((blocks_done & (blocks_done - 1)) != 0) return;
  for (Variable& variable : variables_) variable.written = variable.written || !is(variable.memory, kNan);
}

size_t StaticShared::bytes() const {
  size_t sum = 0;
  for (const Variable& variable : variables_) sum += variable.memory.size();
  return sum;
}

DynamicShared::DynamicShared(size_t largest) : usable_((largest + kFrontBytes + 4095) / 4096 * 4096) {
  void* memory = mmap(nullptr, usable_ + kInaccessible, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  if (mprotect(memory_, usable_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  begin_ = memory_ + usable_;
}

DynamicShared::~DynamicShared() { munmap(memory_, usable_ + kInaccessible); }

void DynamicShared::before_block(size_t bytes) {
  bytes_ = bytes;
  begin_ = memory_ + usable_ - (bytes + 15) / 16 * 16;
  std::fill_n(begin_ - kFrontBytes, kFrontBytes, kGuard);
  std::fill_n(begin_, bytes, kNan);
  std::fill(begin_ + bytes, guard_end(), kGuard);
}

bool DynamicShared::intact() const {
  return is({begin_ - kFrontBytes, begin_}, kGuard) && is({begin_ + bytes_, guard_end()}, kGuard);
}

bool DynamicShared::overflows_at(const void* address) const {
  const auto* byte = static_cast<const std::byte*>(address);
  return byte >= memory_ + usable_ && byte < memory_ + usable_ + kInaccessible;
}

}  // namespace plsc::standin
