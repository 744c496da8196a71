// From a tensor's Dtype to the element type that kernels know.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tensor/tensor.h"

namespace plsc {

template <class T>
struct KernelDtype;
template <>
struct KernelDtype<float> {
  static constexpr Dtype value = Dtype::f32;
};
template <>
struct KernelDtype<double> {
  static constexpr Dtype value = Dtype::f64;
};
template <>
struct KernelDtype<__nv_bfloat16> {
  static constexpr Dtype value = Dtype::bf16;
};
template <>
struct KernelDtype<__half> {
  static constexpr Dtype value = Dtype::f16;
};

/// The elements, null where the tensor is undefined; the type must be the tensor's.
template <class T>
T* elements(const Tensor& t) {
  if (!t.defined()) return nullptr;
  PLSC_CHECK(t.dtype() == KernelDtype<T>::value, "a {} tensor given to a kernel for {}", dtype_name(t.dtype()),
             dtype_name(KernelDtype<T>::value));
  return static_cast<T*>(t.raw());
}

/// body(a value of the element type) for the types of activations.
template <class Body>
void with_activation_type(Dtype dtype, const Body& body) {
  if (dtype == Dtype::f32) return body(float{});
  if (dtype == Dtype::bf16) return body(__nv_bfloat16{});
  if (dtype == Dtype::f16) return body(__half{});
  PLSC_CHECK(false, "activations of {}", dtype_name(dtype));
}

}  // namespace plsc
