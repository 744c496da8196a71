#include "elements.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cstdint>

namespace plsc::standin {

size_t element_size(Element type) { return type == Element::f32 ? 4 : 2; }

float load(const void* array, Element type, size_t i) {
  switch (type) {
    case Element::bf16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(array)[i]);
    case Element::f16:
      return __half2float(static_cast<const __half*>(array)[i]);
    case Element::f32:
      break;
  }
  return static_cast<const float*>(array)[i];
}

float rounded_to_tf32(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7F800000u) == 0x7F800000u) return value;  // infinite, or no number
  return std::bit_cast<float>((bits + 0x1000u) & ~0x1FFFu);
}

void store(void* array, Element type, size_t i, double value) {
  const auto f = static_cast<float>(value);
  switch (type) {
    case Element::bf16:
      static_cast<__nv_bfloat16*>(array)[i] = __float2bfloat16_rn(f);
      return;
    case Element::f16:
      static_cast<__half*>(array)[i] = __float2half_rn(f);
      return;
    case Element::f32:
      static_cast<float*>(array)[i] = f;
      return;
  }
}

void require_device_memory(const char* call, std::initializer_list<Span> spans) {
  for (const Span& s : spans) {
    if (s.bytes > 0 && !is_device_memory(s.data, s.bytes)) {
      misuse("{}: {} ({} bytes at {}) is not in live device memory", call, s.name, s.bytes, s.data);
    }
  }
}

void require_apart(const char* call, const Span& written, std::initializer_list<Span> others) {
  const auto begin = [](const Span& s) { return reinterpret_cast<uintptr_t>(s.data); };
  for (const Span& s : others) {
    if (written.bytes == 0 || s.bytes == 0) continue;
    if (begin(written) < begin(s) + s.bytes && begin(s) < begin(written) + written.bytes) {
      misuse("{}: {} overlaps {}", call, written.name, s.name);
    }
  }
}

void require_aligned(const char* call, const Span& span, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(span.data) % bytes != 0) {
    misuse("{}: {} at {} is not aligned to {} bytes", call, span.name, span.data, bytes);
  }
}

}  // namespace plsc::standin
