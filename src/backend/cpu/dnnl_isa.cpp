// Names of the instruction sets that oneDNN knows. They are sets of bits, each including those below it.
#include <fmt/format.h>

#include "backend/capability.h"
#include "backend/cpu/dnnl_shim.h"

namespace plsc {
namespace {

unsigned effective_isa() { return static_cast<unsigned>(dnnl::get_effective_cpu_isa()); }

bool includes(unsigned isa, dnnl::cpu_isa part) {
  const auto bits = static_cast<unsigned>(part);
  return (isa & bits) == bits;
}

}  // namespace

std::string dnnl_isa_name() {
  const struct {
    dnnl::cpu_isa isa;
    const char* name;
  } known[] = {
      {dnnl::cpu_isa::avx512_core_amx, "avx512_core_amx"},
      {dnnl::cpu_isa::avx512_core_bf16, "avx512_core_bf16"},
      {dnnl::cpu_isa::avx512_core_vnni, "avx512_core_vnni"},
      {dnnl::cpu_isa::avx512_core, "avx512_core"},
      {dnnl::cpu_isa::avx2_vnni, "avx2_vnni"},
      {dnnl::cpu_isa::avx2, "avx2"},
      {dnnl::cpu_isa::avx, "avx"},
      {dnnl::cpu_isa::sse41, "sse41"},
  };
  const unsigned isa = effective_isa();
  for (const auto& k : known) {
    if (static_cast<unsigned>(k.isa) == isa) return k.name;
  }
  // A set newer than this list: its nearest ancestor, and the bits, because the resume check compares this text.
  for (const auto& k : known) {
    if (includes(isa, k.isa)) return fmt::format("{}+{:x}", k.name, isa);
  }
  return fmt::format("isa {:x}", isa);
}

std::string dnnl_version_text() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

bool cpu_has_bf16() { return includes(effective_isa(), dnnl::cpu_isa::avx512_core_bf16); }

}  // namespace plsc
