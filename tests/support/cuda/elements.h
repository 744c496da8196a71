// Numbers as the vendor's libraries store them, for the stand-ins of those libraries.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <string>

#include "standin.h"

namespace plsc::standin {

enum class Element { f32, bf16, f16 };
size_t element_size(Element type);

/// Element i of an array, as it is and as TF32's 10 bits after the point leave it.
float load(const void* array, Element type, size_t i);
float rounded_to_tf32(float value);
/// Rounded to the nearest.
void store(void* array, Element type, size_t i, double value);

/// A piece of memory that a call was given.
struct Span {
  const char* name;
  const void* data;
  size_t bytes;
};
/// Misuse where one of them is not live device memory. `call` is the vendor's function.
void require_device_memory(const char* call, std::initializer_list<Span> spans);
/// Misuse where `written` shares memory with one of the others. Spans without bytes share none.
void require_apart(const char* call, const Span& written, std::initializer_list<Span> others);
/// Misuse where the address is no multiple of `bytes`.
void require_aligned(const char* call, const Span& span, size_t bytes);

}  // namespace plsc::standin
