#include "backend/cpu/cpu_device.h"

#include <cstring>

#include "backend/capability.h"
#include "backend/cpu/dnnl_shim.h"
#include "backend/cpu/parts.h"

namespace plsc {

CpuDevice::CpuDevice(int threads) : threads_(threads) { PLSC_CHECK(threads >= 1, "{} threads", threads); }

std::string CpuDevice::description() const { return fmt::format("cpu, {} threads, {}", threads_, dnnl_isa_name()); }

std::string CpuDevice::library_versions() const { return dnnl_version_text(); }

bool CpuDevice::supports(Dtype dtype) const {
  if (dtype == Dtype::bf16) return cpu_has_bf16();
  return dtype != Dtype::f16;
}

void CpuDevice::copy(const Tensor& from, Tensor& to) {
  PLSC_CHECK(from.dtype() == to.dtype() && from.elements() == to.elements(), "copy of {} {} to {} {}",
             dtype_name(from.dtype()), from.shape().text(), dtype_name(to.dtype()), to.shape().text());
  PLSC_CHECK(from.on_host() && to.on_host(), "the CPU device copies host memory");
  const auto* source = static_cast<const std::byte*>(from.raw());
  auto* target = static_cast<std::byte*>(to.raw());
  for_parts(static_cast<int64_t>(from.bytes()), kBytesPerPart, threads_, [&](int64_t begin, int64_t end, int) {
    std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
  });
}

void CpuDevice::fill_zero(Tensor& t) {
  PLSC_CHECK(t.on_host());
  auto* target = static_cast<std::byte*>(t.raw());
  for_parts(static_cast<int64_t>(t.bytes()), kBytesPerPart, threads_,
            [&](int64_t begin, int64_t end, int) { std::memset(target + begin, 0, static_cast<size_t>(end - begin)); });
}

}  // namespace plsc
