// One binary for every x86-64 node: a function marked PLSC_CLONES is compiled for several instruction sets, and the
// loader picks one when the program starts. Helpers that such a function calls must be inlined into it (PLSC_INLINE).
#pragma once

#define PLSC_INLINE inline __attribute__((always_inline))

#if defined(PLSC_SANITIZE) || !defined(__x86_64__)
#define PLSC_CLONES
#else
#define PLSC_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif
