/* Values of ggml's blocks: one rounding a product and a difference, as its dequantize_row functions. */
#include "blocks.h"

static const float iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
static const float mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* `n` values of scale * (code - half) + shift; a shift of 0 is added too only where `shifted`. */
ALWAYS_INLINE void scale_codes(const uint8_t *codes, int n, int half, float scale, int shifted,
                               float shift, float *out) {
    if (shifted) for (int k = 0; k < n; k++) out[k] = scale * (float)(codes[k] - half) + shift;
    else for (int k = 0; k < n; k++) out[k] = scale * (float)(codes[k] - half);
}

ALWAYS_INLINE void values_of(unsigned type, const block_parts *b, float *out) {
    const float d = from_half(b->scale), m = from_half(b->minimum);
    uint32_t bits;
    float unit;
    switch (type) {
    case Q4_0: scale_codes(b->codes, 32, 8, d, 0, 0, out); break;
    case Q5_0: scale_codes(b->codes, 32, 16, d, 0, 0, out); break;
    case Q4_1: case Q5_1: scale_codes(b->codes, 32, 0, d, 1, m, out); break;
    case Q8_0:
        for (int k = 0; k < 32; k++) out[k] = d * (float)(int8_t)b->codes[k];
        break;
    case Q2_K: case Q4_K: case Q5_K: {
        const int n = type == Q2_K ? 16 : 32;
        for (int j = 0; j < 256 / n; j++)
            scale_codes(b->codes + n * j, n, 0, d * (float)b->scales[j], 1,
                        -(m * (float)b->minima[j]), out + n * j);
        break;
    }
    case Q3_K:
        for (int j = 0; j < 16; j++)
            scale_codes(b->codes + 16 * j, 16, 4, d * (float)(b->scales[j] - 32), 0, 0,
                        out + 16 * j);
        break;
    case Q6_K:
        for (int j = 0; j < 16; j++)
            scale_codes(b->codes + 16 * j, 16, 32, d * (float)(int8_t)b->scales[j], 0, 0,
                        out + 16 * j);
        break;
    case IQ4_NL:
        for (int k = 0; k < 32; k++) out[k] = d * iq4_values[b->codes[k]];
        break;
    case IQ4_XS:
        for (int j = 0; j < 8; j++)
            for (int k = 0; k < 32; k++)
                out[32 * j + k] = d * (float)(b->scales[j] - 32) * iq4_values[b->codes[32 * j + k]];
        break;
    default:
        bits = b->scales[0] < 2 ? 0x200000u << b->scales[0] : (uint32_t)(b->scales[0] - 1) << 23;
        memcpy(&unit, &bits, 4);
        for (int k = 0; k < 32; k++) out[k] = unit * mxfp4_values[b->codes[k]];
    }
}

ALWAYS_INLINE void values_of_all(const quantised_shape *shape, const uint8_t *blocks, size_t count,
                                 float *values) {
    block_parts parts;
    memset(&parts, 0, sizeof parts);
    for (; count; count--, blocks += shape->bytes, values += shape->elements) {
        spread_block(shape->number, blocks, &parts);
        values_of(shape->number, &parts, values);
    }
}

static void values_narrow(const quantised_shape *shape, const uint8_t *blocks, size_t count,
                          float *values) {
    values_of_all(shape, blocks, count, values);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void values_wide(const quantised_shape *shape,
                                                        const uint8_t *blocks, size_t count,
                                                        float *values) {
    values_of_all(shape, blocks, count, values);
}
#endif

void quantised_values(int wide, const quantised_shape *shape, const uint8_t *blocks, size_t count,
                      float *values) {
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx2")) {
        values_wide(shape, blocks, count, values);
        return;
    }
#endif
    (void)wide;
    values_narrow(shape, blocks, count, values);
}
