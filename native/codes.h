/* Ranges of floats and the codes that they become, eight floats at a time. */
#ifndef HARTONOMOUS_CODES_H
#define HARTONOMOUS_CODES_H

#include "planes.h"

#include <math.h>

/* --- ranges ---------------------------------------------------------------------------------- */

typedef struct {
    float low, high; /* +inf and -inf where every value is NaN; zeros are positive */
} range;

/* Eight floats; the compiler makes what the machine has of them. */
typedef float floats __attribute__((vector_size(32)));
typedef int32_t masks __attribute__((vector_size(32)));
typedef uint8_t eight_bytes __attribute__((vector_size(8)));

#if defined(__clang__)
#define SHUFFLED(v, a, b, c, d, e, f, g, h) __builtin_shufflevector(v, v, a, b, c, d, e, f, g, h)
#else
#define SHUFFLED(v, a, b, c, d, e, f, g, h) __builtin_shuffle(v, (masks){a, b, c, d, e, f, g, h})
#endif
#define CHOSEN(mask, a, b) ((floats)(((mask) & (masks)(a)) | (~(mask) & (masks)(b))))
#define LESS(a, b) CHOSEN((a) < (b), a, b)
#define MORE(a, b) CHOSEN((a) > (b), a, b)
#define ALL(x) ((floats){x, x, x, x, x, x, x, x})
#define FOLD(kept, v)                                      \
    v = kept(SHUFFLED(v, 4, 5, 6, 7, 0, 1, 2, 3), v);      \
    v = kept(SHUFFLED(v, 2, 3, 0, 1, 6, 7, 4, 5), v);      \
    v = kept(SHUFFLED(v, 1, 0, 3, 2, 5, 4, 7, 6), v)

ALWAYS_INLINE range range_of(const float *x, int n) {
    floats low = ALL(INFINITY), high = ALL(-INFINITY);
    range out;
    for (int at = 0; at < n; at += 8) {
        floats v;
        memcpy(&v, x + at, sizeof v);
        low = LESS(v, low);
        high = MORE(v, high);
    }
    FOLD(LESS, low);
    FOLD(MORE, high);
    out.low = low[0] + 0.0f;
    out.high = high[0] + 0.0f;
    return out;
}

/* The value of the largest magnitude, the first of equals; 0 where every value is NaN. */
ALWAYS_INLINE float peak_of(const float *x, int n, range found) {
    float peak = found.high > -found.low ? found.high : found.low;
    if (__builtin_expect(found.high == -found.low, 0)) {
        peak = 0.0f;
        for (int k = n - 1; found.high > 0 && k >= 0; k--)
            if (x[k] == found.high || x[k] == -found.high) peak = x[k];
    }
    return peak;
}

ALWAYS_INLINE float inverse(float x) { return x != 0 ? 1.0f / x : 0.0f; }

/* --- codes ----------------------------------------------------------------------------------- */

/* NaN becomes `low`. */
ALWAYS_INLINE float clip(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

ALWAYS_INLINE void store_codes(const masks *values, uint8_t *codes) {
    const eight_bytes narrow = __builtin_convertvector(*values, eight_bytes);
    memcpy(codes, &narrow, sizeof narrow);
}

/* Codes of values that were brought to the codes' scale: the nearest integers, halves to even, as the
   last bits say once 1.5 * 2^23 was added. `n` is a multiple of eight. */
ALWAYS_INLINE void round_codes(const float *x, int n, float low, float high, int bias,
                               uint8_t *codes) {
    for (int at = 0; at < n; at += 8) {
        floats v;
        masks whole;
        memcpy(&v, x + at, sizeof v);
        v = MORE(v, ALL(low));
        v = LESS(v, ALL(high)) + 12582912.0f;
        whole = (masks)v - 0x4b400000 + bias;
        store_codes(&whole, codes + at);
    }
}

ALWAYS_INLINE void floor_codes(const float *x, int n, float high, uint8_t *codes) {
    for (int k = 0; k < n; k++) codes[k] = (uint8_t)(int32_t)clip(x[k], 0.0f, high);
}

/* Halves away from zero, as roundf; `n` is a multiple of eight. */
ALWAYS_INLINE void round_away_codes(const float *x, int n, uint8_t *codes) {
    for (int at = 0; at < n; at += 8) {
        floats v, size;
        masks whole, below;
        memcpy(&v, x + at, sizeof v);
        below = v < ALL(0.0f);
        size = (floats)((masks)v & 0x7fffffff);
        size = MORE(size, ALL(0.0f)); /* NaN becomes 0 */
        size = LESS(size, ALL(127.0f));
        whole = __builtin_convertvector(size, masks);
        whole -= size - __builtin_convertvector(whole, floats) >= ALL(0.5f);
        whole = (whole ^ below) - below;
        store_codes(&whole, codes + at);
    }
}

/* Halves between ggml's kvalues_iq4nl. */
static const float iq4_borders[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
                                      7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  101.0f};

ALWAYS_INLINE void iq4_codes(const float *x, int n, uint8_t *codes) {
    int32_t found[32];
    for (int k = 0; k < n; k++) found[k] = 0;
    for (int b = 0; b < 15; b++)
        for (int k = 0; k < n; k++) found[k] += x[k] >= iq4_borders[b];
    for (int k = 0; k < n; k++) codes[k] = (uint8_t)found[k];
}

/* The first nearest of 0, 1, 2, 3, 4, 6, 8, 12 times `unit`, and the sign as bit 3. */
ALWAYS_INLINE void mxfp4_codes(const float *x, int n, float unit, uint8_t *codes) {
    static const float values[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    for (int at = 0; at < n; at += 8) {
        floats v, best;
        masks found = {0}, sign;
        memcpy(&v, x + at, sizeof v);
        sign = v < ALL(0.0f);
        v = (floats)((masks)v & 0x7fffffff);
        best = v;
        for (int m = 1; m < 8; m++) {
            floats distance = ALL(values[m] * unit) - v;
            masks nearer;
            distance = (floats)((masks)distance & 0x7fffffff);
            nearer = distance < best;
            best = CHOSEN(nearer, distance, best);
            found = (nearer & m) | (~nearer & found);
        }
        found |= sign & (found != 0) & 8;
        for (int k = 0; k < 8; k++) codes[at + k] = (uint8_t)found[k];
    }
}

#endif
