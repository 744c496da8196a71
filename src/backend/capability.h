// What devices can: GPUs by their compute capability (90 for 9.0), and the CPU here.
#pragma once

namespace plsc {

/// From which on they have fast products of a type.
inline constexpr int kFp16Capability = 70, kBf16Capability = 80, kTf32Capability = 80;

/// Whether this machine's CPU has bf16 instructions (AVX-512 BF16 or AMX). Without them oneDNN computes bf16 slowly, or
/// not at all (AVX2).
bool cpu_has_bf16();

}  // namespace plsc
