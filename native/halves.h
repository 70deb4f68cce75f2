/* Bits of f16 from those of float32 and back; what a NaN becomes is the caller's matter. */
#ifndef HARTONOMOUS_HALVES_H
#define HARTONOMOUS_HALVES_H

#include "planes.h"

/* Round a magnitude that is no NaN to nearest, ties to even. */
ALWAYS_INLINE uint32_t half_of_size(uint32_t size) {
    float small;
    uint32_t out;
    if (size >= 0x47800000) return 0x7c00;
    if (size >= 0x38800000) return (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    memcpy(&small, &size, 4);
    small += 0.5f; /* its last bit is the smallest f16 */
    memcpy(&out, &small, 4);
    return out - 0x3f000000;
}

/* Widen; a NaN keeps its payload. */
ALWAYS_INLINE uint32_t bits_of_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    const float small = (float)rest * 0x1p-24f;
    uint32_t bits;
    memcpy(&bits, &small, 4);
    if (rest >= 0x400) bits = rest >= 0x7c00 ? 0x7f800000 | rest << 13 : (rest << 13) + 0x38000000;
    return sign | bits;
}

#endif
