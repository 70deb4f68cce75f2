/* One element's casts in integers, and vectors of eight. A processor's own conversion of f16 makes
 * signalling NaNs quiet and keeps payloads, which is one of the rules; NaNs are put right after it. */
#include "casts.h"

#include "halves.h"

#include <string.h>

size_t cast_source_bytes(unsigned cast) { return cast < CAST_F16_F32 ? 4 : 2; }
size_t cast_target_bytes(unsigned cast) { return cast < CAST_F16_F32 ? 2 : 4; }

/* A NaN of float32 in a type of `mantissa` bits of mantissa. */
static uint16_t narrow_nan(uint32_t bits, int mantissa, unsigned rule) {
    const uint32_t quiet = 1u << (mantissa - 1), all = (1u << mantissa) - 1;
    const uint32_t exponent = 0x7fffu & ~all;
    uint32_t sign = bits >> 16 & 0x8000, payload = (bits & 0x7fffff) >> (23 - mantissa);
    switch (rule) {
    case NAN_QUIET: payload |= quiet; break;
    case NAN_KEPT: payload = payload ? payload : 1; break;
    case NAN_SIGNED: payload = quiet; break;
    case NAN_CANONICAL: payload = quiet, sign = 0; break;
    default: payload = all, sign = 0x8000;
    }
    return (uint16_t)(sign | exponent | payload);
}

ALWAYS_INLINE uint16_t half_of(uint32_t bits, unsigned rule) {
    const uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return narrow_nan(bits, 10, rule);
    return (uint16_t)((bits >> 16 & 0x8000) | half_of_size(size));
}

ALWAYS_INLINE uint16_t bfloat_of(uint32_t bits) {
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

ALWAYS_INLINE int has_nan(const uint8_t *source, size_t count) {
    uint32_t found = 0;
    for (size_t k = 0; k < count; k++) found |= (load32(source + 4 * k) & 0x7fffffff) > 0x7f800000;
    return found != 0;
}

#define AT_ONCE 1024 /* elements that are looked through for NaNs before they are cast */

ALWAYS_INLINE void to_bfloats(unsigned rule, const uint8_t *source, size_t count, uint8_t *target) {
    for (size_t done = 0, part; done < count; done += part) {
        const uint8_t *from = source + 4 * done;
        uint8_t *to = target + 2 * done;
        part = count - done < AT_ONCE ? count - done : AT_ONCE;
        for (size_t k = 0; k < part; k++) store16(to + 2 * k, bfloat_of(load32(from + 4 * k)));
        if (!has_nan(from, part)) continue;
        for (size_t k = 0; k < part; k++) {
            const uint32_t bits = load32(from + 4 * k);
            if ((bits & 0x7fffffff) > 0x7f800000) store16(to + 2 * k, narrow_nan(bits, 7, rule));
        }
    }
}

ALWAYS_INLINE void from_bfloats(const uint8_t *source, size_t count, uint8_t *target) {
    for (size_t k = 0; k < count; k++)
        store32(target + 4 * k, (uint32_t)load16(source + 2 * k) << 16);
}

static void to_halves(unsigned rule, const uint8_t *source, size_t count, uint8_t *target) {
    for (size_t k = 0; k < count; k++)
        store16(target + 2 * k, half_of(load32(source + 4 * k), rule));
}

static void from_halves(const uint8_t *source, size_t count, uint8_t *target) {
    for (size_t k = 0; k < count; k++)
        store32(target + 4 * k, bits_of_half(load16(source + 2 * k)));
}

static void cast_narrow(unsigned cast, unsigned rule, const uint8_t *source, size_t count,
                        uint8_t *target) {
    switch (cast) {
    case CAST_F32_F16: to_halves(rule, source, count, target); break;
    case CAST_F32_BF16: to_bfloats(rule, source, count, target); break;
    case CAST_F16_F32: from_halves(source, count, target); break;
    default: from_bfloats(source, count, target);
    }
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static int has_f16c(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1;
}

__attribute__((target("avx2,f16c"))) static void to_halves_wide(unsigned rule,
                                                               const uint8_t *source,
                                                               size_t count, uint8_t *target) {
    size_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const __m256 eight = _mm256_loadu_ps((const float *)(const void *)(source + 4 * k));
        const __m256 lost = _mm256_cmp_ps(eight, eight, _CMP_UNORD_Q);
        const __m128i made = _mm256_cvtps_ph(eight, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (__builtin_expect(_mm256_movemask_ps(lost), 0))
            to_halves(rule, source + 4 * k, 8, target + 2 * k);
        else _mm_storeu_si128((__m128i *)(void *)(target + 2 * k), made);
    }
    to_halves(rule, source + 4 * k, count - k, target + 2 * k);
}

__attribute__((target("avx2,f16c"))) static void from_halves_wide(const uint8_t *source,
                                                                 size_t count, uint8_t *target) {
    size_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(source + 2 * k));
        const __m256 made = _mm256_cvtph_ps(halves);
        const __m256 lost = _mm256_cmp_ps(made, made, _CMP_UNORD_Q);
        if (__builtin_expect(_mm256_movemask_ps(lost), 0))
            from_halves(source + 2 * k, 8, target + 4 * k);
        else _mm256_storeu_ps((float *)(void *)(target + 4 * k), made);
    }
    from_halves(source + 2 * k, count - k, target + 4 * k);
}

__attribute__((target("avx2,f16c"))) static void cast_wide(unsigned cast, unsigned rule,
                                                          const uint8_t *source, size_t count,
                                                          uint8_t *target) {
    switch (cast) {
    case CAST_F32_F16: to_halves_wide(rule, source, count, target); break;
    case CAST_F32_BF16: to_bfloats(rule, source, count, target); break;
    case CAST_F16_F32: from_halves_wide(source, count, target); break;
    default: from_bfloats(source, count, target);
    }
}
#endif

void cast_values(int wide, unsigned cast, unsigned rule, const uint8_t *source, size_t count,
                 uint8_t *target) {
#if defined(__x86_64__)
    if (wide && has_f16c()) {
        cast_wide(cast, rule, source, count, target);
        return;
    }
#endif
    (void)wide;
    cast_narrow(cast, rule, source, count, target);
}
