/* Differences between floats and a prediction of them, as docs/format-delta.md specifies them. The
 * same loops are compiled into each path, where the compiler makes vectors of them.
 *
 * Floats of one width are put into the order of their values (sign and magnitude to an unsigned
 * number), subtracted, turned by the prediction's sign so that a growing magnitude is positive, and
 * folded so that small numbers stand for small changes either way: the difference. A difference below
 * 16 is its own symbol; above, the symbol says how many bits it has and the three behind the first
 * one, and the rest are raw bits.
 */
#ifndef HARTONOMOUS_DIFFERENCES_H
#define HARTONOMOUS_DIFFERENCES_H

#include "rans.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define BLOCK_ELEMENTS 128
#define DIFFERENCE_ROWS 32
#define MOST_SUMMED 1023
#define STEPS 64 /* one for each value of the first bits of a mantissa: */
#define STEP_SHIFT 17

static inline uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* The raw bits that follow a symbol. */
static inline unsigned raw_width(unsigned symbol) { return symbol < 16 ? 0 : (symbol >> 3) - 1; }

ALWAYS_INLINE uint16_t difference_16(uint16_t x, uint16_t y) {
    const uint16_t mx = (uint16_t)((int16_t)x >> 15), my = (uint16_t)((int16_t)y >> 15);
    const uint16_t ox = (uint16_t)(x ^ (mx | 0x8000)), oy = (uint16_t)(y ^ (my | 0x8000));
    const uint16_t d = (uint16_t)(((uint16_t)(oy - ox) ^ mx) - mx);
    return (uint16_t)((uint16_t)(d << 1) ^ (uint16_t)((int16_t)d >> 15));
}

ALWAYS_INLINE uint16_t restored_16(uint16_t x, uint16_t z) {
    const uint16_t mx = (uint16_t)((int16_t)x >> 15), ox = (uint16_t)(x ^ (mx | 0x8000));
    const uint16_t d = (uint16_t)((z >> 1) ^ (uint16_t)-(z & 1));
    const uint16_t o = (uint16_t)(ox + (uint16_t)((d ^ mx) - mx));
    return (uint16_t)(o ^ ((uint16_t)~(uint16_t)((int16_t)o >> 15) | 0x8000));
}

ALWAYS_INLINE uint32_t difference_32(uint32_t x, uint32_t y) {
    const uint32_t mx = (uint32_t)((int32_t)x >> 31), my = (uint32_t)((int32_t)y >> 31);
    const uint32_t ox = x ^ (mx | 0x80000000u), oy = y ^ (my | 0x80000000u);
    const uint32_t d = ((oy - ox) ^ mx) - mx;
    return d << 1 ^ (uint32_t)((int32_t)d >> 31);
}

ALWAYS_INLINE uint32_t restored_32(uint32_t x, uint32_t z) {
    const uint32_t mx = (uint32_t)((int32_t)x >> 31), ox = x ^ (mx | 0x80000000u);
    const uint32_t d = z >> 1 ^ (0u - (z & 1)), o = ox + ((d ^ mx) - mx);
    return o ^ (~(uint32_t)((int32_t)o >> 31) | 0x80000000u);
}

/* A float's exponent and mantissa hold the number of bits and those behind the first one. */
ALWAYS_INLINE uint8_t symbol_of(uint32_t z) {
    const uint32_t shift = z >> 24 ? 8 : 0; /* a float holds 24 bits exactly */
    const uint32_t bits = bits_of((float)(int32_t)(z >> shift));
    const uint32_t small = 0u - (z < 8); /* no branch, so that it becomes vectors */
    return (uint8_t)((z & small) | (((bits >> 20) - 1032 + 8 * shift) & ~small));
}

ALWAYS_INLINE uint8_t row_of(uint32_t magnitude, unsigned shift, unsigned top) {
    const int32_t below = (int32_t)top - (int32_t)(magnitude >> shift);
    const int32_t least = below < 0 ? 0 : below;
    return (uint8_t)(least > DIFFERENCE_ROWS - 1 ? DIFFERENCE_ROWS - 1 : least);
}

/* --- the scaled prediction -------------------------------------------------------------------- */

/* A product counts where the factors and it are normal numbers and it is not the least exponent, so
 * that neither the payload of a NaN nor a processor that flushes small numbers to zero matters. */
ALWAYS_INLINE uint32_t product_32(uint32_t x, float factor) {
    const uint32_t product = bits_of(float_of(x) * factor);
    const uint32_t e = x >> 23 & 255, f = product >> 23 & 255;
    return e >= 1 && e <= 254 && f >= 2 && f <= 254 ? product : x;
}

ALWAYS_INLINE uint16_t product_bf16(uint16_t x, float factor) {
    const uint32_t product = bits_of(float_of((uint32_t)x << 16) * factor);
    const uint32_t e = x >> 7 & 255, f = product >> 23 & 255;
    const uint32_t rounded = (product + 0x7fff + (product >> 16 & 1)) >> 16;
    return (uint16_t)(e >= 1 && e <= 254 && f >= 2 && f <= 254 ? rounded : x);
}

ALWAYS_INLINE uint16_t product_f16(uint16_t x, float factor) {
    const uint32_t wide = (uint32_t)(x & 0x8000) << 16 | (((uint32_t)(x & 0x7fff) << 13) + (112u << 23));
    const uint32_t product = bits_of(float_of(wide) * factor);
    const uint32_t e = x >> 10 & 31, f = product >> 23 & 255;
    const uint32_t magnitude = (product & 0x7fffffff) - (112u << 23);
    const uint32_t rounded = (magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13;
    return (uint16_t)(e >= 1 && e <= 30 && f >= 113 && f <= 142 ? (product >> 16 & 0x8000) | rounded
                                                               : x);
}

ALWAYS_INLINE void scale_elements(const difference_kind *kind, const uint8_t *from, size_t count,
                                  float factor, uint8_t *out) {
    if (kind->width == 4)
        for (size_t i = 0; i < count; i++)
            store32(out + 4 * i, product_32(load32(from + 4 * i), factor));
    else if (kind->mantissa == 7)
        for (size_t i = 0; i < count; i++)
            store16(out + 2 * i, product_bf16(load16(from + 2 * i), factor));
    else
        for (size_t i = 0; i < count; i++)
            store16(out + 2 * i, product_f16(load16(from + 2 * i), factor));
}

/* F32 moved towards zero, in units of the last place, by as much as is told for the first bits of its
 * mantissa. A step has 16 bits, so it changes neither the sign nor a normal number to another kind
 * but the next infinity. */
ALWAYS_INLINE uint32_t stepped(uint32_t x, const int32_t *steps) {
    const uint32_t step = (uint32_t)steps[x >> STEP_SHIFT & (STEPS - 1)];
    const uint32_t e = x >> 23 & 255;
    return e >= 1 && e <= 254 ? x - step : x;
}

ALWAYS_INLINE void step_elements(const uint8_t *restrict from, size_t count,
                                 const int32_t *restrict steps, uint8_t *restrict out) {
    for (size_t i = 0; i < count; i++) store32(out + 4 * i, stepped(load32(from + 4 * i), steps));
}

/* The sum of each block's differences, where a larger one than MOST_SUMMED counts as that, so that
 * one outlier does not outweigh the block. */
ALWAYS_INLINE void sum_blocks(const difference_kind *kind, const uint8_t *prediction,
                              const uint8_t *elements, size_t count, uint32_t *out) {
    for (size_t first = 0; first < count; first += BLOCK_ELEMENTS) {
        const size_t some = count - first < BLOCK_ELEMENTS ? count - first : BLOCK_ELEMENTS;
        const uint8_t *x = prediction + kind->width * first, *y = elements + kind->width * first;
        uint32_t sum = 0;
        for (size_t i = 0; i < some; i++) {
            const uint32_t z = kind->width == 4
                                   ? difference_32(load32(x + 4 * i), load32(y + 4 * i))
                                   : difference_16(load16(x + 2 * i), load16(y + 2 * i));
            sum += z < MOST_SUMMED ? z : MOST_SUMMED;
        }
        *out++ = sum;
    }
}

/* --- encoding --------------------------------------------------------------------------------- */

ALWAYS_INLINE size_t measure_block_16(const uint8_t *restrict x, const uint8_t *restrict y,
                                      size_t some, unsigned shift, unsigned top,
                                      uint8_t *restrict differences, uint8_t *restrict symbols,
                                      uint8_t *restrict rows) {
    uint16_t any = 0, changed = 0;
    for (size_t i = 0; i < some; i++) {
        const uint16_t z = difference_16(load16(x + 2 * i), load16(y + 2 * i));
        store16(differences + 2 * i, z);
        any |= z;
        changed = (uint16_t)(changed + (z != 0));
    }
    if (!any) return 0;
    for (size_t i = 0; i < some; i++) symbols[i] = symbol_of(load16(differences + 2 * i));
    for (size_t i = 0; i < some; i++)
        rows[i] = row_of(load16(x + 2 * i) & 0x7fffu, shift, top);
    return changed;
}

ALWAYS_INLINE size_t measure_block_32(const uint8_t *restrict x, const uint8_t *restrict y,
                                      size_t some, unsigned shift, unsigned top,
                                      uint8_t *restrict differences, uint8_t *restrict symbols,
                                      uint8_t *restrict rows) {
    uint32_t any = 0, changed = 0;
    for (size_t i = 0; i < some; i++) {
        const uint32_t z = difference_32(load32(x + 4 * i), load32(y + 4 * i));
        store32(differences + 4 * i, z);
        any |= z;
        changed += z != 0;
    }
    if (!any) return 0;
    for (size_t i = 0; i < some; i++) symbols[i] = symbol_of(load32(differences + 4 * i));
    for (size_t i = 0; i < some; i++)
        rows[i] = row_of(load32(x + 4 * i) & 0x7fffffffu, shift, top);
    return changed;
}

ALWAYS_INLINE void measure_elements(const difference_kind *kind, const uint8_t *x, const uint8_t *y,
                                    size_t count, measured *out) {
    const unsigned shift = kind->mantissa - 1;
    out->count = out->changed = 0;
    for (size_t first = 0, b = 0; first < count; first += BLOCK_ELEMENTS, b++) {
        const size_t some = count - first < BLOCK_ELEMENTS ? count - first : BLOCK_ELEMENTS;
        const size_t at = kind->width * first, to = out->count;
        size_t changed;
        if (kind->width == 4)
            changed = measure_block_32(x + at, y + at, some, shift, out->top,
                                       out->differences + 4 * to, out->symbols + to,
                                       out->rows + to);
        else
            changed = measure_block_16(x + at, y + at, some, shift, out->top,
                                       out->differences + 2 * to, out->symbols + to,
                                       out->rows + to);
        out->live[b] = changed != 0;
        out->changed += changed;
        out->count += changed ? some : 0;
    }
}

/* Raw bits while they are written; fewer than 8 are held between two pushes. */
typedef struct {
    uint64_t held;
    unsigned bits;
    uint8_t *out;
} bit_writer;

ALWAYS_INLINE void push_bits(bit_writer *to, uint64_t value, unsigned bits) {
    to->held |= value << to->bits;
    to->bits += bits;
    memcpy(to->out, &to->held, 8);
    to->out += to->bits >> 3;
    to->held >>= to->bits & ~7u;
    to->bits &= 7;
}

/* Push the raw bits of `some` differences at once, which take at most 56. */
ALWAYS_INLINE void push_some(bit_writer *to, const uint8_t *symbols, const uint8_t *differences,
                             unsigned some, unsigned width) {
    uint64_t value = 0;
    unsigned bits = 0;
    for (unsigned k = 0; k < some; k++) {
        const unsigned r = raw_width(symbols[k]);
        const uint32_t z = width == 4 ? load32(differences + 4 * k) : load16(differences + 2 * k);
        value |= (uint64_t)(z & ((1u << r) - 1)) << bits;
        bits += r;
    }
    push_bits(to, value, bits);
}

/* Pack the raw bits of all differences, the first lowest; returns where they end. 8 bytes behind
 * that are written too. */
ALWAYS_INLINE uint8_t *pack_raw_bits(const uint8_t *symbols, const uint8_t *differences,
                                     size_t count, unsigned width, uint8_t *out) {
    bit_writer to = {0, 0, out};
    const unsigned some = 8 / width; /* 4 of at most 12 bits, 2 of at most 28 */
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        if (!(load64(symbols + i) & 0xf0f0f0f0f0f0f0f0u)) continue; /* below 16: no raw bits */
        for (unsigned k = 0; k < 8; k += some)
            push_some(&to, symbols + i + k, differences + width * (i + k), some, width);
    }
    for (; i < count; i++) push_some(&to, symbols + i, differences + width * i, 1, width);
    return to.out + (to.bits != 0);
}

/* --- decoding --------------------------------------------------------------------------------- */

/* Differences of symbols; `bits` may be read 8 bytes behind the last raw bit. */
ALWAYS_INLINE void expand_symbols(const uint8_t *symbols, size_t count, unsigned width,
                                  const uint8_t *bits, uint64_t *bit, uint8_t *out) {
    uint64_t at = *bit;
    for (size_t i = 0; i < count; i++) {
        const unsigned s = symbols[i], r = raw_width(s);
        const uint64_t raw = load64(bits + (at >> 3)) >> (at & 7) & ((1ull << r) - 1);
        const uint32_t z = (s < 8 ? s : (s & 7) | 8) << r | (uint32_t)raw;
        if (width == 4) store32(out + 4 * i, z);
        else store16(out + 2 * i, (uint16_t)z);
        at += r;
    }
    *bit = at;
}

ALWAYS_INLINE void contexts_of_rows(const uint8_t *rows, size_t count, const uint8_t *context_of,
                                    uint8_t *out) {
    for (size_t i = 0; i < count; i++) out[i] = context_of[rows[i]];
}

ALWAYS_INLINE void rows_of(const difference_kind *kind, const uint8_t *restrict x, size_t count,
                           unsigned top, uint8_t *restrict rows) {
    const unsigned shift = kind->mantissa - 1;
    if (kind->width == 4)
        for (size_t i = 0; i < count; i++)
            rows[i] = row_of(load32(x + 4 * i) & 0x7fffffffu, shift, top);
    else
        for (size_t i = 0; i < count; i++)
            rows[i] = row_of(load16(x + 2 * i) & 0x7fffu, shift, top);
}

ALWAYS_INLINE void restore_elements(const difference_kind *kind, const uint8_t *restrict x,
                                    const uint8_t *restrict z, size_t count,
                                    uint8_t *restrict out) {
    if (kind->width == 4)
        for (size_t i = 0; i < count; i++)
            store32(out + 4 * i, restored_32(load32(x + 4 * i), load32(z + 4 * i)));
    else
        for (size_t i = 0; i < count; i++)
            store16(out + 2 * i, restored_16(load16(x + 2 * i), load16(z + 2 * i)));
}

/* The functions of a path; EXPAND and LOOK_UP do whole blocks, as expand_symbols and contexts_of_rows
 * do. place() and restore() take one block at most. */
#define DIFFERENCE_LOOPS(ATTRIBUTES, NAME, EXPAND, LOOK_UP)                                        \
    ATTRIBUTES static void scale_##NAME(const difference_kind *kind, const uint8_t *from,          \
                                        size_t count, float factor, uint8_t *out) {                \
        scale_elements(kind, from, count, factor, out);                                            \
    }                                                                                              \
    ATTRIBUTES static void step_##NAME(const uint8_t *from, size_t count, const int32_t *steps,    \
                                       uint8_t *out) {                                             \
        step_elements(from, count, steps, out);                                                    \
    }                                                                                              \
    ATTRIBUTES static void sums_##NAME(const difference_kind *kind, const uint8_t *prediction,     \
                                       const uint8_t *elements, size_t count, uint32_t *out) {     \
        sum_blocks(kind, prediction, elements, count, out);                                        \
    }                                                                                              \
    ATTRIBUTES static void measure_##NAME(const difference_kind *kind, const uint8_t *prediction,  \
                                          const uint8_t *elements, size_t count, measured *out) {  \
        measure_elements(kind, prediction, elements, count, out);                                  \
    }                                                                                              \
    ATTRIBUTES static uint8_t *pack_##NAME(const difference_kind *kind, const uint8_t *symbols,    \
                                           const uint8_t *differences, size_t count,               \
                                           uint8_t *out) {                                         \
        if (kind->width == 4) return pack_raw_bits(symbols, differences, count, 4, out);           \
        return pack_raw_bits(symbols, differences, count, 2, out);                                 \
    }                                                                                              \
    ATTRIBUTES static void place_##NAME(const difference_kind *kind, const uint8_t *prediction,    \
                                        size_t count, unsigned top, const uint8_t *context_of,     \
                                        uint8_t *contexts) {                                       \
        uint8_t rows[BLOCK_ELEMENTS];                                                              \
        rows_of(kind, prediction, count, top, rows);                                               \
        if (count == BLOCK_ELEMENTS) LOOK_UP(rows, count, context_of, contexts);                   \
        else contexts_of_rows(rows, count, context_of, contexts);                                  \
    }                                                                                              \
    ATTRIBUTES static void restore_##NAME(const difference_kind *kind, const uint8_t *prediction,  \
                                          const uint8_t *symbols, size_t count,                    \
                                          const uint8_t *bits, uint64_t *bit, uint8_t *elements) { \
        uint8_t differences[4 * BLOCK_ELEMENTS];                                                   \
        if (count == BLOCK_ELEMENTS)                                                               \
            EXPAND(symbols, count, kind->width, bits, bit, differences);                           \
        else expand_symbols(symbols, count, kind->width, bits, bit, differences);                  \
        restore_elements(kind, prediction, differences, count, elements);                          \
    }

#endif
