/* The loops for AArch64, where NEON is always there: 32 states are eight vectors of four. There is no
 * gather, so tables are looked up lane by lane; the arithmetic and the moving of words are vectors. */
#include "differences.h"
#include "planes.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define VECTORS (RANS_LANES / 4)

/* For each mask of four lanes: which bytes of four packed words each lane takes, which bytes of the
 * lanes' words make the last packed ones, and how many there are. 255 gives zero. */
static uint8_t spread_order[16][8], pack_order[16][8], set_count[16];

/* Before main or at loading: tables are constants afterwards, so threads need no lock. */
__attribute__((constructor)) static void make_orders(void) {
    memset(spread_order, 255, sizeof spread_order);
    memset(pack_order, 255, sizeof pack_order);
    for (unsigned mask = 0; mask < 16; mask++) {
        const unsigned set = (unsigned)__builtin_popcount(mask);
        unsigned word = 0;
        set_count[mask] = (uint8_t)set;
        for (unsigned lane = 0; lane < 4; lane++) {
            if (!(mask >> lane & 1)) continue;
            for (unsigned k = 0; k < 2; k++) {
                spread_order[mask][2 * lane + k] = (uint8_t)(2 * word + k);
                pack_order[mask][2 * (4 - set + word) + k] = (uint8_t)(2 * lane + k);
            }
            word++;
        }
    }
}

ALWAYS_INLINE uint32x4_t look_up(uint32x4_t index, const uint32_t *table) {
    uint32x4_t out = vdupq_n_u32(table[vgetq_lane_u32(index, 0)]);
    out = vsetq_lane_u32(table[vgetq_lane_u32(index, 1)], out, 1);
    out = vsetq_lane_u32(table[vgetq_lane_u32(index, 2)], out, 2);
    return vsetq_lane_u32(table[vgetq_lane_u32(index, 3)], out, 3);
}

ALWAYS_INLINE unsigned mask_of(uint32x4_t lanes) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(bits)));
}

ALWAYS_INLINE uint32x4_t refill(uint32x4_t x, const uint8_t **at) {
    const uint32x4_t low = vcltq_u32(x, vdupq_n_u32(RANS_LOW));
    const unsigned mask = mask_of(low);
    const uint8x8_t words = vtbl1_u8(vld1_u8(*at), vld1_u8(spread_order[mask]));
    const uint32x4_t wide = vmovl_u16(vreinterpret_u16_u8(words));
    *at += 2 * set_count[mask];
    return vbslq_u32(low, vorrq_u32(vshlq_n_u32(x, 16), wide), x);
}

/* The indices of what four lanes look up in tables of `size` words, one table for each context. */
ALWAYS_INLINE uint32x4_t in_context(uint32x4_t index, const uint8_t *contexts, uint32_t size) {
    const uint32_t four[4] = {contexts[0], contexts[1], contexts[2], contexts[3]};
    return vmlaq_n_u32(index, vld1q_u32(four), size);
}

ALWAYS_INLINE void group(uint32x4_t *x, const uint8_t **at, const uint32_t *table,
                         const uint8_t *contexts, uint8_t *out) {
    const uint32x4_t bits = vdupq_n_u32(RANS_TOTAL - 1);
    for (int k = 0; k < VECTORS; k += 2) {
        uint16x4_t symbols[2];
        for (int j = k; j < k + 2; j++) {
            uint32x4_t index = vandq_u32(x[j], bits);
            if (contexts) index = in_context(index, contexts + 4 * j, RANS_TOTAL);
            const uint32x4_t slot = look_up(index, table);
            const uint32x4_t rest = vandq_u32(vshrq_n_u32(slot, 8), bits);
            x[j] = vmlaq_u32(rest, vshrq_n_u32(slot, 20), vshrq_n_u32(x[j], RANS_BITS));
            symbols[j - k] = vmovn_u32(slot);
        }
        vst1_u8(out + 4 * k, vmovn_u16(vcombine_u16(symbols[0], symbols[1])));
    }
    for (int k = 0; k < VECTORS; k++) x[k] = refill(x[k], at);
}

static void advance_neon(rans_reader *one) {
    uint32x4_t x[VECTORS];
    const uint8_t *at = one->at;
    size_t done = one->done;
    for (int k = 0; k < VECTORS; k++) x[k] = vld1q_u32(one->states + 4 * k);
    for (; one->count - done >= RANS_LANES && one->end - at >= RANS_GROUP_BYTES; done += RANS_LANES)
        group(x, &at, one->slots, one->contexts ? one->contexts + done : NULL, one->out + done);
    for (int k = 0; k < VECTORS; k++) vst1q_u32(one->states + 4 * k, x[k]);
    one->at = at;
    one->done = done;
}

static void advance_two_neon(rans_reader *one, rans_reader *other) {
    advance_neon(one);
    advance_neon(other);
}

/* High halves of four products of 32 bits. */
ALWAYS_INLINE uint32x4_t high_product(uint32x4_t a, uint32x4_t b) {
    const uint64x2_t low = vmull_u32(vget_low_u32(a), vget_low_u32(b));
    const uint64x2_t high = vmull_high_u32(a, b);
    return vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high));
}

ALWAYS_INLINE uint32x4_t put_four(uint32x4_t x, const uint8_t *symbols, const uint8_t *contexts,
                                  const rans_encoder *table, uint8_t **end) {
    const uint32_t indices[4] = {symbols[0], symbols[1], symbols[2], symbols[3]};
    /* Tables follow each other; each is 512 words, reciprocals before what is packed. */
    const uint32x4_t one = vld1q_u32(indices), s = contexts ? in_context(one, contexts, 512) : one;
    const uint32x4_t packed = look_up(s, table->packed);
    const uint32x4_t f = vandq_u32(vshrq_n_u32(packed, 13), vdupq_n_u32(4095));
    const uint32x4_t bias = vandq_u32(packed, vdupq_n_u32(8191));
    const uint32x4_t full = vcgeq_u32(x, vshlq_n_u32(f, 19));
    const unsigned mask = mask_of(full);
    const int32x4_t shift = vnegq_s32(vreinterpretq_s32_u32(vshrq_n_u32(packed, 25)));
    uint32x4_t quotient;
    vst1_u8(*end - 8, vtbl1_u8(vreinterpret_u8_u16(vmovn_u32(x)), vld1_u8(pack_order[mask])));
    *end -= 2 * set_count[mask];
    x = vbslq_u32(full, vshrq_n_u32(x, 16), x);
    quotient = vshlq_u32(high_product(x, look_up(s, table->reciprocal)), shift);
    return vmlaq_u32(vaddq_u32(x, bias), quotient, vsubq_u32(vdupq_n_u32(RANS_TOTAL), f));
}

static uint8_t *encode_neon(const rans_encoder *tables, const uint8_t *contexts,
                            const uint8_t *symbols, size_t count, uint32_t *states, uint8_t *end) {
    const size_t whole = count - count % RANS_LANES;
    uint32x4_t x[VECTORS];
    /* The last, unfinished group comes first, since the encoder goes backwards. */
    end = fields_path_scalar.encode(tables, contexts ? contexts + whole : NULL, symbols + whole,
                                    count - whole, states, end);
    for (int k = 0; k < VECTORS; k++) x[k] = vld1q_u32(states + 4 * k);
    for (size_t at = whole; at > 0; at -= RANS_LANES)
        for (int k = VECTORS - 1; k >= 0; k--) {
            const size_t first = at - RANS_LANES + 4 * (size_t)k;
            x[k] = put_four(x[k], symbols + first, contexts ? contexts + first : NULL, tables,
                            &end);
        }
    for (int k = 0; k < VECTORS; k++) vst1q_u32(states + 4 * k, x[k]);
    return end;
}

static void split_neon(const uint8_t *words, size_t count, unsigned width, int rotated,
                       uint8_t *const *planes) {
    split_words(words, count, width, rotated, planes);
}

static void join_neon(uint8_t *words, size_t count, unsigned width, int rotated,
                      const uint8_t *const *planes) {
    join_words(words, count, width, rotated, planes);
}

DIFFERENCE_LOOPS(, neon, expand_symbols, contexts_of_rows)

static int always(void) { return 1; }

const fields_path fields_path_neon = {
    "neon",     always,    encode_neon, advance_neon, advance_two_neon, split_neon, join_neon,
    scale_neon, step_neon, sums_neon,   measure_neon, pack_neon,        place_neon, restore_neon,
};

#else
typedef int not_on_this_machine; /* ISO C wants something in a file */
#endif
