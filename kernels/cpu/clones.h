// One binary for every x86-64 node: a function marked PLSC_CLONES is compiled for several instruction sets, and the
// loader picks one when the program starts. Helpers that such a function calls must be inlined into it (PLSC_INLINE).
#pragma once

#define PLSC_INLINE inline __attribute__((always_inline))

// The sets are named by level: a name such as arch=skylake-avx512 would match that one CPU model alone, and every newer
// one would run the default. clang has no clones that callers in other files could reach: up to 14 what it makes of the
// attribute behind a declaration is one function for the first set, which ends on a CPU without it. So its builds,
// which are there for its warnings, keep to what every x86-64 has.
#if defined(PLSC_SANITIZE) || defined(__clang__) || !defined(__x86_64__)
#define PLSC_CLONES
#else
#define PLSC_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
