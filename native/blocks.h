/* Blocks of ggml's quantised types, taken apart and put together (ggml-common.h), and f16. */
#ifndef HARTONOMOUS_BLOCKS_H
#define HARTONOMOUS_BLOCKS_H

#include "halves.h"
#include "quantised.h"

enum {
    Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
    Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, MXFP4 = 39
};

/* What a block says: scales as they are stored, one code an element in the order of the elements. */
typedef struct {
    uint16_t scale, minimum;             /* f16; of the whole block */
    uint8_t scales[16], minima[16];      /* of its sub-blocks; MXFP4's exponent is scales[0] */
    uint8_t codes[256];
} block_parts;

ALWAYS_INLINE float from_half(uint16_t half) {
    const uint32_t bits = bits_of_half(half);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Round to nearest, ties to even; NaN becomes 0. */
ALWAYS_INLINE uint16_t to_half(float value) {
    uint32_t bits;
    if (value != value) return 0;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits >> 16 & 0x8000) | half_of_size(bits & 0x7fffffff));
}

/* Fields of `bits` bits: in each group of `group` bytes all lowest fields come first. */
ALWAYS_INLINE void spread_fields(const uint8_t *packed, unsigned bytes, unsigned group,
                                 unsigned bits, unsigned shift, int first, uint8_t *codes) {
    const unsigned fields = 8 / bits, mask = (1u << bits) - 1;
    for (unsigned at = 0; at < bytes; at += group)
        for (unsigned f = 0; f < fields; f++, codes += group)
            for (unsigned k = 0; k < group; k++) {
                uint8_t field = (uint8_t)((packed[at + k] >> (bits * f) & mask) << shift);
                codes[k] = first ? field : codes[k] | field;
            }
}

ALWAYS_INLINE void gather_fields(const uint8_t *codes, unsigned bytes, unsigned group,
                                 unsigned bits, unsigned shift, uint8_t *restrict packed) {
    const unsigned fields = 8 / bits, mask = (1u << bits) - 1;
    for (unsigned at = 0; at < bytes; at += group)
        for (unsigned f = 0; f < fields; f++, codes += group)
            for (unsigned k = 0; k < group; k++) {
                uint8_t field = (uint8_t)((codes[k] >> shift & mask) << (bits * f));
                packed[at + k] = f ? packed[at + k] | field : field;
            }
}

ALWAYS_INLINE void spread_k_scales(const uint8_t *packed, block_parts *out) {
    for (int j = 0; j < 4; j++) {
        out->scales[j] = packed[j] & 63;
        out->minima[j] = packed[j + 4] & 63;
        out->scales[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        out->minima[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

ALWAYS_INLINE void gather_k_scales(const block_parts *in, uint8_t *packed) {
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(in->scales[j] | in->scales[j + 4] >> 4 << 6);
        packed[j + 4] = (uint8_t)(in->minima[j] | in->minima[j + 4] >> 4 << 6);
        packed[j + 8] = (uint8_t)((in->scales[j + 4] & 15) | (in->minima[j + 4] & 15) << 4);
    }
}

ALWAYS_INLINE void spread_block(unsigned type, const uint8_t *b, block_parts *out) {
    switch (type) {
    case Q5_1: case Q4_1:
        out->minimum = load16(b + 2);
        out->scale = load16(b);
        if (type == Q5_1) spread_fields(b + 4, 4, 1, 1, 4, 1, out->codes);
        spread_fields(b + (type == Q5_1 ? 8 : 4), 16, 16, 4, 0, type == Q4_1, out->codes);
        break;
    case Q5_0: case Q4_0: case IQ4_NL:
        out->scale = load16(b);
        if (type == Q5_0) spread_fields(b + 2, 4, 1, 1, 4, 1, out->codes);
        spread_fields(b + (type == Q5_0 ? 6 : 2), 16, 16, 4, 0, type != Q5_0, out->codes);
        break;
    case Q8_0:
        out->scale = load16(b);
        memcpy(out->codes, b + 2, 32);
        break;
    case Q2_K:
        for (int j = 0; j < 16; j++) {
            out->scales[j] = b[j] & 15;
            out->minima[j] = b[j] >> 4;
        }
        spread_fields(b + 16, 64, 32, 2, 0, 1, out->codes);
        out->scale = load16(b + 80);
        out->minimum = load16(b + 82);
        break;
    case Q3_K:
        spread_fields(b, 32, 32, 1, 2, 1, out->codes);
        spread_fields(b + 32, 64, 32, 2, 0, 0, out->codes);
        spread_fields(b + 96, 8, 8, 4, 0, 1, out->scales);
        spread_fields(b + 104, 4, 4, 2, 4, 0, out->scales);
        out->scale = load16(b + 108);
        break;
    case Q4_K:
        out->scale = load16(b);
        out->minimum = load16(b + 2);
        spread_k_scales(b + 4, out);
        spread_fields(b + 16, 128, 32, 4, 0, 1, out->codes);
        break;
    case Q5_K:
        out->scale = load16(b);
        out->minimum = load16(b + 2);
        spread_k_scales(b + 4, out);
        spread_fields(b + 16, 32, 32, 1, 4, 1, out->codes);
        spread_fields(b + 48, 128, 32, 4, 0, 0, out->codes);
        break;
    case Q6_K:
        spread_fields(b, 128, 64, 4, 0, 1, out->codes);
        spread_fields(b + 128, 64, 32, 2, 4, 0, out->codes);
        memcpy(out->scales, b + 192, 16);
        out->scale = load16(b + 208);
        break;
    case IQ4_XS:
        out->scale = load16(b);
        spread_fields(b + 2, 2, 1, 2, 4, 1, out->scales);
        spread_fields(b + 4, 4, 1, 4, 0, 0, out->scales);
        for (int k = 0; k < 8; k++)
            spread_fields(b + 8 + 16 * k, 16, 16, 4, 0, 1, out->codes + 32 * k);
        break;
    default: /* MXFP4 */
        out->scales[0] = b[0];
        spread_fields(b + 1, 16, 16, 4, 0, 1, out->codes);
    }
}

ALWAYS_INLINE void gather_block(unsigned type, const block_parts *in, uint8_t *b) {
    switch (type) {
    case Q5_1: case Q4_1:
        store16(b, in->scale);
        store16(b + 2, in->minimum);
        if (type == Q5_1) gather_fields(in->codes, 4, 1, 1, 4, b + 4);
        gather_fields(in->codes, 16, 16, 4, 0, b + (type == Q5_1 ? 8 : 4));
        break;
    case Q5_0: case Q4_0: case IQ4_NL:
        store16(b, in->scale);
        if (type == Q5_0) gather_fields(in->codes, 4, 1, 1, 4, b + 2);
        gather_fields(in->codes, 16, 16, 4, 0, b + (type == Q5_0 ? 6 : 2));
        break;
    case Q8_0:
        store16(b, in->scale);
        memcpy(b + 2, in->codes, 32);
        break;
    case Q2_K:
        for (int j = 0; j < 16; j++) b[j] = (uint8_t)(in->scales[j] | in->minima[j] << 4);
        gather_fields(in->codes, 64, 32, 2, 0, b + 16);
        store16(b + 80, in->scale);
        store16(b + 82, in->minimum);
        break;
    case Q3_K:
        gather_fields(in->codes, 32, 32, 1, 2, b);
        gather_fields(in->codes, 64, 32, 2, 0, b + 32);
        gather_fields(in->scales, 8, 8, 4, 0, b + 96);
        gather_fields(in->scales, 4, 4, 2, 4, b + 104);
        store16(b + 108, in->scale);
        break;
    case Q4_K: case Q5_K:
        store16(b, in->scale);
        store16(b + 2, in->minimum);
        gather_k_scales(in, b + 4);
        if (type == Q5_K) gather_fields(in->codes, 32, 32, 1, 4, b + 16);
        gather_fields(in->codes, 128, 32, 4, 0, b + (type == Q5_K ? 48 : 16));
        break;
    case Q6_K:
        gather_fields(in->codes, 128, 64, 4, 0, b);
        gather_fields(in->codes, 64, 32, 2, 4, b + 128);
        memcpy(b + 192, in->scales, 16);
        store16(b + 208, in->scale);
        break;
    case IQ4_XS:
        store16(b, in->scale);
        gather_fields(in->scales, 2, 1, 2, 4, b + 2);
        gather_fields(in->scales, 4, 1, 4, 0, b + 4);
        for (int k = 0; k < 8; k++)
            gather_fields(in->codes + 32 * k, 16, 16, 4, 0, b + 8 + 16 * k);
        break;
    default: /* MXFP4 */
        b[0] = in->scales[0];
        gather_fields(in->codes, 16, 16, 4, 0, b + 1);
    }
}

#endif
