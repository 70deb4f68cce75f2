/* The loops for x86-64 with AVX2: 32 states are four vectors of eight. Compiled into every x86-64
 * binary by a function attribute, used where the processor has it. */
#include "differences.h"
#include "planes.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,bmi2,popcnt")))
#define AVX2_INLINE __attribute__((target("avx2,bmi2,popcnt"), always_inline)) static inline

/* For each mask of lanes: which of eight packed words each of them takes, and the other way round,
 * which lane gives each of the last words. Four bits an entry, widened when used. */
#define BIT(m, k) ((uint32_t)((m) >> (k)&1))
#define BELOW(m, k) (uint32_t)__builtin_popcount((m) & ((1u << (k)) - 1))

static uint32_t spread_order[256][8] __attribute__((aligned(32)));
static uint32_t pack_order[256][8] __attribute__((aligned(32)));

/* Before main or at loading: tables are constants afterwards, so threads need no lock. */
__attribute__((constructor)) static void make_orders(void) {
    for (unsigned mask = 0; mask < 256; mask++) {
        unsigned set = BELOW(mask, 8), low = 0;
        for (unsigned lane = 0; lane < 8; lane++) {
            spread_order[mask][lane] = BIT(mask, lane) ? BELOW(mask, lane) : 0;
            if (BIT(mask, lane)) pack_order[mask][8 - set + BELOW(mask, lane)] = lane;
            else pack_order[mask][low++] = lane;
        }
    }
}

AVX2_INLINE __m256i widened(const uint8_t *eight) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)eight));
}

/* `contexts` says which of the tables, NULL the first. */
AVX2_INLINE __m256i look_up(__m256i x, const uint32_t *slots, const uint8_t *contexts) {
    __m256i slot = _mm256_and_si256(x, _mm256_set1_epi32(RANS_TOTAL - 1));
    if (contexts) slot = _mm256_or_si256(slot, _mm256_slli_epi32(widened(contexts), RANS_BITS));
    return _mm256_i32gather_epi32((const int *)slots, slot, 4);
}

AVX2_INLINE __m256i step(__m256i x, __m256i slot) {
    const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(slot, 8),
                                          _mm256_set1_epi32(RANS_TOTAL - 1));
    const __m256i whole = _mm256_mullo_epi32(_mm256_srli_epi32(slot, 20), _mm256_srli_epi32(x, 12));
    return _mm256_add_epi32(whole, rest);
}

AVX2_INLINE __m256i refill(__m256i x, const uint8_t **at) {
    const __m256i low = _mm256_cmpgt_epi32(_mm256_set1_epi32(RANS_LOW), x);
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*at));
    words = _mm256_permutevar8x32_epi32(
        words, _mm256_load_si256((const __m256i *)spread_order[mask]));
    *at += 2 * (unsigned)__builtin_popcount(mask);
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), low);
}

AVX2_INLINE void put_symbols(uint8_t *out, const __m256i *slots) {
    const __m256i byte = _mm256_set1_epi32(255);
    const __m256i ab = _mm256_packus_epi32(_mm256_and_si256(slots[0], byte),
                                           _mm256_and_si256(slots[1], byte));
    const __m256i cd = _mm256_packus_epi32(_mm256_and_si256(slots[2], byte),
                                           _mm256_and_si256(slots[3], byte));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((__m256i *)out,
                        _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order));
}

AVX2_INLINE void group(__m256i *x, const uint8_t **at, const uint32_t *table,
                       const uint8_t *contexts, uint8_t *out) {
    __m256i slots[4];
    for (int k = 0; k < 4; k++) slots[k] = look_up(x[k], table, contexts ? contexts + 8 * k : NULL);
    for (int k = 0; k < 4; k++) x[k] = step(x[k], slots[k]);
    for (int k = 0; k < 4; k++) x[k] = refill(x[k], at);
    put_symbols(out, slots);
}

AVX2_INLINE void load_states(const rans_reader *one, __m256i *x) {
    for (int k = 0; k < 4; k++) x[k] = _mm256_loadu_si256((const __m256i *)(one->states + 8 * k));
}

AVX2_INLINE void store_states(rans_reader *one, const __m256i *x) {
    for (int k = 0; k < 4; k++) _mm256_storeu_si256((__m256i *)(one->states + 8 * k), x[k]);
}

/* The last group that may be read blindly: refills look at 64 bytes whatever they take. */
#define MORE(one, at, done)                                                                        \
    ((one)->count - (done) >= RANS_LANES && (one)->end - (at) >= RANS_GROUP_BYTES)

/* The loops are compiled twice, with contexts and without. */
AVX2_INLINE void advance(rans_reader *one, int in_contexts) {
    __m256i x[4];
    const uint8_t *at = one->at;
    size_t done = one->done;
    load_states(one, x);
    for (; MORE(one, at, done); done += RANS_LANES)
        group(x, &at, one->slots, in_contexts ? one->contexts + done : NULL, one->out + done);
    store_states(one, x);
    one->at = at;
    one->done = done;
}

AVX2_INLINE void advance_both(rans_reader *one, rans_reader *other, int in_contexts) {
    __m256i x[4], y[4];
    const uint8_t *at = one->at, *at_other = other->at;
    size_t done = one->done, done_other = other->done;
    load_states(one, x);
    load_states(other, y);
    while (MORE(one, at, done) && MORE(other, at_other, done_other)) {
        group(x, &at, one->slots, in_contexts ? one->contexts + done : NULL, one->out + done);
        group(y, &at_other, other->slots, in_contexts ? other->contexts + done_other : NULL,
              other->out + done_other);
        done += RANS_LANES;
        done_other += RANS_LANES;
    }
    store_states(one, x);
    store_states(other, y);
    one->at = at;
    one->done = done;
    other->at = at_other;
    other->done = done_other;
}

AVX2 static void advance_avx2(rans_reader *one) {
    if (one->contexts) advance(one, 1);
    else advance(one, 0);
}

AVX2 static void advance_two_avx2(rans_reader *one, rans_reader *other) {
    if (one->contexts && other->contexts) advance_both(one, other, 1);
    else if (!one->contexts && !other->contexts) advance_both(one, other, 0);
    advance_avx2(one);
    advance_avx2(other);
}

/* High halves of eight products of 32 bits. */
AVX2_INLINE __m256i high_product(__m256i a, __m256i b) {
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(even, odd, 0xaa);
}

AVX2_INLINE __m256i put_eight(__m256i x, const uint8_t *symbols, const uint8_t *contexts,
                              const rans_encoder *tables, uint8_t **end) {
    const __m256i one = widened(symbols);
    /* Tables follow each other; each is 512 words, reciprocals before what is packed. */
    const __m256i s = contexts ? _mm256_or_si256(one, _mm256_slli_epi32(widened(contexts), 9)) : one;
    const __m256i packed = _mm256_i32gather_epi32((const int *)tables->packed, s, 4);
    const __m256i reciprocal = _mm256_i32gather_epi32((const int *)tables->reciprocal, s, 4);
    const __m256i f = _mm256_and_si256(_mm256_srli_epi32(packed, 13), _mm256_set1_epi32(4095));
    const __m256i bias = _mm256_and_si256(packed, _mm256_set1_epi32(8191));
    const __m256i rest = _mm256_sub_epi32(_mm256_set1_epi32(RANS_TOTAL), f);
    /* States and limits stay below 2^31, so a signed comparison serves. */
    const __m256i fits = _mm256_cmpgt_epi32(_mm256_slli_epi32(f, 19), x);
    const unsigned mask = 255 ^ (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(fits));
    const __m256i order = _mm256_load_si256((const __m256i *)pack_order[mask]);
    const __m256i low = _mm256_permutevar8x32_epi32(
        _mm256_and_si256(x, _mm256_set1_epi32(0xffff)), order);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low),
                                           _mm256_extracti128_si256(low, 1));
    __m256i quotient;
    _mm_storeu_si128((__m128i *)(*end - 16), words);
    *end -= 2 * (unsigned)__builtin_popcount(mask);
    x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, fits);
    quotient = _mm256_srlv_epi32(high_product(x, reciprocal), _mm256_srli_epi32(packed, 25));
    return _mm256_add_epi32(_mm256_add_epi32(x, bias), _mm256_mullo_epi32(quotient, rest));
}

AVX2_INLINE uint8_t *encode_groups(const rans_encoder *tables, const uint8_t *contexts,
                                   const uint8_t *symbols, size_t whole, uint32_t *states,
                                   uint8_t *end) {
    __m256i x[4];
    for (int k = 0; k < 4; k++) x[k] = _mm256_loadu_si256((const __m256i *)(states + 8 * k));
    for (size_t at = whole; at > 0; at -= RANS_LANES)
        for (int k = 3; k >= 0; k--) {
            const size_t first = at - RANS_LANES + 8 * (size_t)k;
            x[k] = put_eight(x[k], symbols + first, contexts ? contexts + first : NULL, tables,
                             &end);
        }
    for (int k = 0; k < 4; k++) _mm256_storeu_si256((__m256i *)(states + 8 * k), x[k]);
    return end;
}

AVX2 static uint8_t *encode_avx2(const rans_encoder *tables, const uint8_t *contexts,
                                 const uint8_t *symbols, size_t count, uint32_t *states,
                                 uint8_t *end) {
    const size_t whole = count - count % RANS_LANES;
    /* The last, unfinished group comes first, since the encoder goes backwards. */
    end = fields_path_scalar.encode(tables, contexts ? contexts + whole : NULL, symbols + whole,
                                    count - whole, states, end);
    if (contexts) return encode_groups(tables, contexts, symbols, whole, states, end);
    return encode_groups(tables, NULL, symbols, whole, states, end);
}

AVX2 static void split_avx2(const uint8_t *words, size_t count, unsigned width, int rotated,
                            uint8_t *const *planes) {
    split_words(words, count, width, rotated, planes);
}

AVX2 static void join_avx2(uint8_t *words, size_t count, unsigned width, int rotated,
                           const uint8_t *const *planes) {
    join_words(words, count, width, rotated, planes);
}

/* Eight differences of their symbols: a difference is its symbol's leading bits and the raw bits
 * that follow, which are gathered from where the widths before them add up to. */
AVX2_INLINE __m256i expand(__m256i s, const uint8_t *bits, uint64_t *bit) {
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
    const __m256i seven = _mm256_set1_epi32(7), eight = _mm256_set1_epi32(8);
    const __m256i r = _mm256_max_epi32(_mm256_sub_epi32(_mm256_srli_epi32(s, 3), one), zero);
    const __m256i lead = _mm256_or_si256(_mm256_and_si256(s, seven),
                                         _mm256_and_si256(_mm256_cmpgt_epi32(s, seven), eight));
    __m256i sum = _mm256_add_epi32(r, _mm256_slli_si256(r, 4)), at, raw;
    sum = _mm256_add_epi32(sum, _mm256_slli_si256(sum, 8));
    sum = _mm256_add_epi32(sum, _mm256_permutevar8x32_epi32(
        _mm256_blend_epi32(sum, zero, 0xf0), _mm256_setr_epi32(4, 4, 4, 4, 3, 3, 3, 3)));
    at = _mm256_add_epi32(_mm256_sub_epi32(sum, r), _mm256_set1_epi32((int)(*bit & 7)));
    raw = _mm256_i32gather_epi32((const int *)(bits + (*bit >> 3)), _mm256_srli_epi32(at, 3), 1);
    raw = _mm256_srlv_epi32(raw, _mm256_and_si256(at, seven));
    raw = _mm256_and_si256(raw, _mm256_sub_epi32(_mm256_sllv_epi32(one, r), one));
    *bit += (uint32_t)_mm256_extract_epi32(sum, 7);
    return _mm256_or_si256(_mm256_sllv_epi32(lead, r), raw);
}

/* Differences of `count` symbols, a multiple of 8. A symbol below 16 has no raw bits; one of more
 * than 25 of them reaches over what a lane can gather. */
AVX2 static void expand_avx2(const uint8_t *symbols, size_t count, unsigned width,
                             const uint8_t *bits, uint64_t *bit, uint8_t *out) {
    for (size_t k = 0; k < count; k += 8) {
        const __m256i s = widened(symbols + k);
        __m256i z = s;
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(s, _mm256_set1_epi32(8 * 26 + 7)))) {
            expand_symbols(symbols + k, 8, width, bits, bit, out + width * k);
            continue;
        }
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(s, _mm256_set1_epi32(15))))
            z = expand(s, bits, bit);
        if (width == 4) {
            _mm256_storeu_si256((__m256i *)(out + 4 * k), z);
        } else {
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(z, z), 8);
            _mm_storeu_si128((__m128i *)(out + 2 * k), _mm256_castsi256_si128(packed));
        }
    }
}

/* The contexts of `count` rows, a multiple of 32. */
AVX2 static void look_up_rows_avx2(const uint8_t *rows, size_t count, const uint8_t *context_of,
                                   uint8_t *out) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)context_of));
    const __m256i high =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(context_of + 16)));
    for (size_t k = 0; k < count; k += 32) {
        const __m256i row = _mm256_loadu_si256((const __m256i *)(rows + k));
        const __m256i upper = _mm256_slli_epi16(row, 3); /* bit 4 becomes a byte's sign */
        _mm256_storeu_si256((__m256i *)(out + k),
                            _mm256_blendv_epi8(_mm256_shuffle_epi8(low, row),
                                               _mm256_shuffle_epi8(high, row), upper));
    }
}

DIFFERENCE_LOOPS(AVX2, avx2, expand_avx2, look_up_rows_avx2)

static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt");
}

const fields_path fields_path_avx2 = {
    "avx2",     has_avx2,  encode_avx2, advance_avx2, advance_two_avx2, split_avx2, join_avx2,
    scale_avx2, step_avx2, sums_avx2,   measure_avx2, pack_avx2,        place_avx2, restore_avx2,
};

#else
typedef int not_on_this_machine; /* ISO C wants something in a file */
#endif
