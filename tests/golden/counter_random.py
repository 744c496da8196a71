"""The project's counter-based random numbers (kernels/math/rng.h, normal.h) in numpy, for the golden generators."""

import numpy as np

CENTER_INIT, WEIGHT_INIT, SYNTHETIC = 1, 2, 8
MASK = (1 << 64) - 1


def philox(key, low, high):
    """Philox4x32-10 of arrays of counters; returns four uint32 arrays."""
    low = np.asarray(low, np.uint64)
    high = np.broadcast_to(np.asarray(high, np.uint64), low.shape)
    word = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c = [low & word, low >> shift, high & word, high >> shift]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0 = c[0] * np.uint64(0xD2511F53)
        p1 = c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & word, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & word]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def key_of(seed, purpose):
    k = (seed + 0x9E3779B97F4A7C15 * purpose) & MASK
    k = ((k ^ (k >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    k = ((k ^ (k >> 27)) * 0x94D049BB133111EB) & MASK
    return k ^ (k >> 31)


def unit(seed, purpose, a, count):
    """`count` uniforms in (0, 1): element i is lane i % 4 of the block i // 4."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    words = np.stack(philox(key_of(seed, purpose), blocks, a), axis=1).astype(np.float64)
    return ((words + 0.5) / 4294967296.0).reshape(-1)[:count]


def uniform(seed, purpose, a, count):
    """`count` uniforms in (-1, 1)."""
    return 2 * unit(seed, purpose, a, count) - 1


def normal(seed, purpose, a, count):
    u = unit(seed, purpose, a, (count + 3) // 4 * 4).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(u[:, 0]))
    angle = 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]
