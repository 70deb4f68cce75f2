/* Predictions of scales and codes from float values, and the blocks that they make. Floats are handled
 * in an order that vectors keep: no sum of more than two, smallest and largest values apart. */
#include "quantised.h"

#include "blocks.h"
#include "codes.h"
#include "quantised_search.h"

#define PLAIN_RECIPES (1u << QUANTISED_REFERENCE | 1u << QUANTISED_STORED)
#define K_RECIPES (1u << QUANTISED_STORED | 1u << QUANTISED_SEARCHED)

static const quantised_shape shapes[] = {
    {Q4_0, 32, 18, 2, PLAIN_RECIPES},
    {Q4_1, 32, 20, 4, PLAIN_RECIPES},
    {Q5_0, 32, 22, 2, PLAIN_RECIPES},
    {Q5_1, 32, 24, 4, PLAIN_RECIPES},
    {Q8_0, 32, 34, 2, PLAIN_RECIPES},
    {Q2_K, 256, 84, 36, K_RECIPES},
    {Q3_K, 256, 110, 18, K_RECIPES},
    {Q4_K, 256, 144, 20, K_RECIPES},
    {Q5_K, 256, 176, 20, K_RECIPES},
    {Q6_K, 256, 210, 18, K_RECIPES},
    {IQ4_NL, 32, 18, 2, 1u << QUANTISED_STORED},
    {IQ4_XS, 256, 136, 10, 1u << QUANTISED_STORED},
    {MXFP4, 32, 17, 1, 1u << QUANTISED_STORED},
};

const quantised_shape *quantised_shape_of(unsigned number) {
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        if (shapes[k].number == number) return shapes + k;
    return NULL;
}

/* --- what is kept as a difference -------------------------------------------------------------- */

/* Where differences are read from (decoding) or written to. */
typedef struct {
    int decoding;
    const uint8_t *in;
    uint8_t *out;
} differences;

ALWAYS_INLINE void settle_16(differences *kept, uint16_t *value, uint16_t predicted) {
    if (kept->decoding) {
        uint16_t z = load16(kept->in);
        *value = (uint16_t)(predicted + ((z >> 1) ^ -(z & 1)));
        kept->in += 2;
    } else {
        uint16_t d = (uint16_t)(*value - predicted);
        store16(kept->out, (uint16_t)(d << 1 ^ (d & 0x8000 ? 0xffff : 0)));
        kept->out += 2;
    }
}

ALWAYS_INLINE void settle_8(differences *kept, uint8_t *values, const uint8_t *predicted, int n,
                            unsigned mask) {
    if (kept->decoding) {
        for (int k = 0; k < n; k++) values[k] = (uint8_t)((predicted[k] + kept->in[k]) & mask);
        kept->in += n;
    } else {
        for (int k = 0; k < n; k++) kept->out[k] = (uint8_t)((values[k] - predicted[k]) & mask);
        kept->out += n;
    }
}

/* Scales of sub-blocks in units of the block's, rounded. */
ALWAYS_INLINE void round_scales(const float *x, int n, float unit, float low, float high, int bias,
                                uint8_t *out) {
    const float factor = inverse(unit);
    float scaled[16];
    for (int k = 0; k < n; k++) scaled[k] = x[k] * factor;
    round_codes(scaled, n, low, high, bias, out);
}

/* --- types ------------------------------------------------------------------------------------ */

static const float iq4_peak = -127.0f;

/* Q4_K, Q5_K, Q2_K: x = scale * code - minimum. */
ALWAYS_INLINE void settle_minima(const float *x, int n, int most, int steps, int searched,
                                 block_parts *b, differences *kept, uint8_t *codes) {
    const int subs = 256 / n;
    range found[16];
    float width[16], depth[16], widest = 0, deepest = 0, scale, minimum;
    block_parts search;
    for (int j = 0; j < subs; j++) {
        found[j] = range_of(x + n * j, n);
        found[j].low = found[j].low < 0 ? found[j].low : 0.0f;
        width[j] = (found[j].high - found[j].low) / (float)most;
        depth[j] = -found[j].low;
        widest = width[j] > widest ? width[j] : widest;
        deepest = depth[j] > deepest ? depth[j] : deepest;
    }
    if (searched) search_minima(x, n, most, steps, &search);
    settle_16(kept, &b->scale, searched ? search.scale : to_half(widest / (float)steps));
    settle_16(kept, &b->minimum, searched ? search.minimum : to_half(deepest / (float)steps));
    scale = from_half(b->scale);
    minimum = from_half(b->minimum);
    if (!searched) {
        round_scales(width, subs, scale, 0.0f, (float)steps, 0, search.scales);
        round_scales(depth, subs, minimum, 0.0f, (float)steps, 0, search.minima);
    }
    settle_8(kept, b->scales, search.scales, subs, (unsigned)steps);
    settle_8(kept, b->minima, search.minima, subs, (unsigned)steps);
    for (int j = 0; j < subs; j++) {
        const float d = scale * (float)b->scales[j], m = minimum * (float)b->minima[j];
        const float *part = x + n * j;
        float scaled[32];
        if (d == 0 && searched) {
            memcpy(codes + n * j, search.codes + n * j, (size_t)n);
            continue;
        }
        if (d == 0) {
            float wide = found[j].high - found[j].low, factor = wide != 0 ? (float)most / wide : 0;
            for (int k = 0; k < n; k++) scaled[k] = (part[k] - found[j].low) * factor;
        } else {
            for (int k = 0; k < n; k++) scaled[k] = (part[k] + m) / d;
        }
        round_codes(scaled, n, 0.0f, (float)most, 0, codes + n * j);
    }
}

/* Q6_K, Q3_K: x = scale * (code - half). */
ALWAYS_INLINE void settle_symmetric(const float *x, int half, int steps, int bias, int searched,
                                    block_parts *b, differences *kept, uint8_t *codes) {
    float top_of[16], peak[16], greatest = 0, scale;
    block_parts search;
    for (int j = 0; j < 16; j++) {
        top_of[j] = peak_of(x + 16 * j, 16, range_of(x + 16 * j, 16));
        peak[j] = top_of[j] / (float)-half;
        greatest = fabsf(peak[j]) > fabsf(greatest) ? peak[j] : greatest;
    }
    if (searched) search_symmetric(x, half, steps, &search);
    settle_16(kept, &b->scale, searched ? search.scale : to_half(greatest / (float)-steps));
    scale = from_half(b->scale);
    if (!searched)
        round_scales(peak, 16, scale, (float)-steps, (float)(steps - 1), bias, search.scales);
    settle_8(kept, b->scales, search.scales, 16, bias ? 63 : 255);
    for (int j = 0; j < 16; j++) {
        const int stored = bias ? b->scales[j] - bias : (int8_t)b->scales[j];
        const float d = scale * (float)stored, *part = x + 16 * j;
        float scaled[16];
        if (d == 0 && searched) {
            memcpy(codes + 16 * j, search.codes + 16 * j, 16);
            continue;
        }
        if (d == 0 && fabsf(top_of[j]) < 1e-15f) {
            memset(codes + 16 * j, 0, 16);
            continue;
        }
        if (d == 0) {
            float factor = (float)-half / top_of[j];
            for (int k = 0; k < 16; k++) scaled[k] = part[k] * factor;
        } else {
            for (int k = 0; k < 16; k++) scaled[k] = part[k] / d;
        }
        round_codes(scaled, 16, (float)-half, (float)(half - 1), half, codes + 16 * j);
    }
}

ALWAYS_INLINE void settle_iq4_xs(const float *x, block_parts *b, differences *kept,
                                 uint8_t *codes) {
    uint8_t predicted[8];
    float peak[8], greatest = 0, scale;
    for (int j = 0; j < 8; j++) {
        peak[j] = peak_of(x + 32 * j, 32, range_of(x + 32 * j, 32)) / -iq4_peak;
        greatest = fabsf(peak[j]) > fabsf(greatest) ? peak[j] : greatest;
    }
    settle_16(kept, &b->scale, to_half(greatest / -32.0f));
    scale = from_half(b->scale);
    round_scales(peak, 8, scale, -32.0f, 31.0f, 32, predicted);
    settle_8(kept, b->scales, predicted, 8, 63);
    for (int j = 0; j < 8; j++) {
        const float factor = inverse(scale * (float)(b->scales[j] - 32));
        float scaled[32];
        for (int k = 0; k < 32; k++) scaled[k] = x[32 * j + k] * factor;
        iq4_codes(scaled, 32, codes + 32 * j);
    }
}

ALWAYS_INLINE void settle_iq4_nl(const float *x, block_parts *b, differences *kept,
                                 uint8_t *codes) {
    float scaled[32], factor;
    settle_16(kept, &b->scale, to_half(peak_of(x, 32, range_of(x, 32)) / -iq4_peak));
    factor = inverse(from_half(b->scale));
    for (int k = 0; k < 32; k++) scaled[k] = x[k] * factor;
    iq4_codes(scaled, 32, codes);
}

ALWAYS_INLINE void settle_mxfp4(const float *x, block_parts *b, differences *kept,
                                uint8_t *codes) {
    float largest = fabsf(peak_of(x, 32, range_of(x, 32))), unit;
    uint32_t bits;
    uint8_t exponent;
    memcpy(&bits, &largest, 4);
    bits >>= 23;
    exponent = (uint8_t)(bits > 2 ? bits - 2 : 0);
    settle_8(kept, b->scales, &exponent, 1, 255);
    bits = b->scales[0] < 2 ? 0x200000u << b->scales[0] : (uint32_t)(b->scales[0] - 1) << 23;
    memcpy(&unit, &bits, 4);
    mxfp4_codes(x, 32, unit, codes);
}

ALWAYS_INLINE void settle_q8_0(const float *x, unsigned recipe, block_parts *b, differences *kept,
                               uint8_t *codes) {
    float scale = fabsf(peak_of(x, 32, range_of(x, 32))) / 127.0f, factor, scaled[32];
    settle_16(kept, &b->scale, to_half(scale));
    factor = inverse(recipe == QUANTISED_REFERENCE ? scale : from_half(b->scale));
    for (int k = 0; k < 32; k++) scaled[k] = x[k] * factor;
    round_away_codes(scaled, 32, codes);
}

/* Q4_0 and Q5_0 (`half` is 8 or 16), Q4_1 and Q5_1 (0), by their scale before or after its rounding. */
ALWAYS_INLINE void settle_plain(const float *x, unsigned recipe, int half, int most,
                                block_parts *b, differences *kept, uint8_t *codes) {
    const range found = range_of(x, 32);
    float scale, low = found.low, factor, scaled[32];
    scale = half ? peak_of(x, 32, found) / (float)-half : (found.high - low) / (float)most;
    settle_16(kept, &b->scale, to_half(scale));
    if (!half) settle_16(kept, &b->minimum, to_half(low));
    if (recipe == QUANTISED_STORED) {
        scale = from_half(b->scale);
        low = from_half(b->minimum);
    }
    factor = inverse(scale);
    if (half) for (int k = 0; k < 32; k++) scaled[k] = x[k] * factor + ((float)half + 0.5f);
    else for (int k = 0; k < 32; k++) scaled[k] = (x[k] - low) * factor + 0.5f;
    floor_codes(scaled, 32, (float)most, codes);
}

/* Predict the scales of a block, take or give the differences, and predict its codes. */
ALWAYS_INLINE void settle_block(unsigned type, unsigned recipe, const float *x, block_parts *b,
                                differences *kept, uint8_t *codes) {
    const int searched = recipe == QUANTISED_SEARCHED;
    switch (type) {
    case Q4_0: settle_plain(x, recipe, 8, 15, b, kept, codes); break;
    case Q5_0: settle_plain(x, recipe, 16, 31, b, kept, codes); break;
    case Q4_1: settle_plain(x, recipe, 0, 15, b, kept, codes); break;
    case Q5_1: settle_plain(x, recipe, 0, 31, b, kept, codes); break;
    case Q8_0: settle_q8_0(x, recipe, b, kept, codes); break;
    case Q2_K: settle_minima(x, 16, 3, 15, searched, b, kept, codes); break;
    case Q4_K: settle_minima(x, 32, 15, 63, searched, b, kept, codes); break;
    case Q5_K: settle_minima(x, 32, 31, 63, searched, b, kept, codes); break;
    case Q3_K: settle_symmetric(x, 4, 32, 32, searched, b, kept, codes); break;
    case Q6_K: settle_symmetric(x, 32, 128, 0, searched, b, kept, codes); break;
    case IQ4_NL: settle_iq4_nl(x, b, kept, codes); break;
    case IQ4_XS: settle_iq4_xs(x, b, kept, codes); break;
    default: settle_mxfp4(x, b, kept, codes);
    }
}

ALWAYS_INLINE unsigned code_mask(unsigned type) {
    switch (type) {
    case Q2_K: return 3;
    case Q3_K: return 7;
    case Q5_0: case Q5_1: case Q5_K: return 31;
    case Q6_K: return 63;
    case Q8_0: return 255;
    default: return 15;
    }
}

/* --- many blocks ------------------------------------------------------------------------------ */

/* One call of split or join; the type is a constant in each use. */
typedef struct {
    const quantised_shape *shape;
    unsigned recipe;
    const uint8_t *in;      /* blocks, or differences of scales */
    uint8_t *out;           /* the other of the two */
    const float *source;
    const uint8_t *wrong;   /* joining: residual or NULL */
    uint8_t *residual;      /* splitting */
    size_t count, missed;
} work;

ALWAYS_INLINE void split_blocks(unsigned type, work *w) {
    const unsigned elements = w->shape->elements, mask = code_mask(type);
    differences kept = {0, NULL, w->out};
    const uint8_t *block = w->in;
    const float *x = w->source;
    uint8_t *residual = w->residual, codes[256] = {0};
    block_parts parts;
    memset(&parts, 0, sizeof parts);
    for (size_t k = 0; k < w->count; k++) {
        unsigned missed = 0;
        spread_block(type, block, &parts);
        settle_block(type, w->recipe, x, &parts, &kept, codes);
        for (unsigned e = 0; e < elements; e++) {
            residual[e] = (uint8_t)((parts.codes[e] - codes[e]) & mask);
            missed += residual[e] != 0;
        }
        w->missed += missed;
        block += w->shape->bytes;
        x += elements;
        residual += elements;
    }
}

ALWAYS_INLINE void join_blocks(unsigned type, work *w) {
    const unsigned elements = w->shape->elements, mask = code_mask(type);
    differences kept = {1, w->in, NULL};
    const float *x = w->source;
    const uint8_t *wrong = w->wrong;
    uint8_t *block = w->out;
    block_parts parts;
    memset(&parts, 0, sizeof parts);
    for (size_t k = 0; k < w->count; k++) {
        settle_block(type, w->recipe, x, &parts, &kept, parts.codes);
        if (wrong) {
            for (unsigned e = 0; e < elements; e++)
                parts.codes[e] = (uint8_t)((parts.codes[e] + wrong[e]) & mask);
            wrong += elements;
        }
        gather_block(type, &parts, block);
        block += w->shape->bytes;
        x += elements;
    }
}

/* Each type compiled alone, so that its numbers are constants in the loops. */
#define EVERY_TYPE(DO)                                                                        \
    switch (w->shape->number) {                                                               \
    case Q4_0: DO(Q4_0, w); break;                                                            \
    case Q4_1: DO(Q4_1, w); break;                                                            \
    case Q5_0: DO(Q5_0, w); break;                                                            \
    case Q5_1: DO(Q5_1, w); break;                                                            \
    case Q8_0: DO(Q8_0, w); break;                                                            \
    case Q2_K: DO(Q2_K, w); break;                                                            \
    case Q3_K: DO(Q3_K, w); break;                                                            \
    case Q4_K: DO(Q4_K, w); break;                                                            \
    case Q5_K: DO(Q5_K, w); break;                                                            \
    case Q6_K: DO(Q6_K, w); break;                                                            \
    case IQ4_NL: DO(IQ4_NL, w); break;                                                        \
    case IQ4_XS: DO(IQ4_XS, w); break;                                                        \
    default: DO(MXFP4, w);                                                                    \
    }

static void split_narrow(work *w) { EVERY_TYPE(split_blocks) }
static void join_narrow(work *w) { EVERY_TYPE(join_blocks) }

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void split_wide(work *w) { EVERY_TYPE(split_blocks) }
__attribute__((target("avx2"))) static void join_wide(work *w) { EVERY_TYPE(join_blocks) }
static int can_go_wide(void) { return __builtin_cpu_supports("avx2"); }
#else
#define split_wide split_narrow
#define join_wide join_narrow
static int can_go_wide(void) { return 0; }
#endif

size_t quantised_split(int wide, const quantised_shape *shape, unsigned recipe,
                       const uint8_t *blocks, const float *source, size_t count, uint8_t *header,
                       uint8_t *residual) {
    work w = {shape, recipe, blocks, header, source, NULL, residual, count, 0};
    if (wide && can_go_wide()) split_wide(&w);
    else split_narrow(&w);
    return w.missed;
}

void quantised_join(int wide, const quantised_shape *shape, unsigned recipe, const uint8_t *header,
                    const float *source, const uint8_t *residual, size_t count, uint8_t *blocks) {
    work w = {shape, recipe, header, blocks, source, residual, NULL, count, 0};
    if (wide && can_go_wide()) join_wide(&w);
    else join_narrow(&w);
}
