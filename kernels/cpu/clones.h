// One binary for every x86-64 node: a function marked PLSC_CLONES is compiled for several instruction sets, and the
// loader picks one when the program starts. Helpers that such a function calls must be inlined into it (PLSC_INLINE).
#pragma once

#define PLSC_INLINE inline __attribute__((always_inline))

// The sets are named by level (GCC) or feature (clang, whose levels are broken up to 14): a name such as
// arch=skylake-avx512 would match that one CPU model alone, and every newer one would run the default.
#if defined(PLSC_SANITIZE) || !defined(__x86_64__)
#define PLSC_CLONES
#elif defined(__clang__)
#define PLSC_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PLSC_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
