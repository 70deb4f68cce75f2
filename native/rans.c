/* Tables of rANS, and the portable implementation of its loops. */
#include "differences.h"
#include "planes.h"

void rans_histogram(const uint8_t *symbols, size_t count, uint32_t counts[256]) {
    /* Four tables: a run of one symbol would wait for its own counter otherwise. */
    uint32_t parts[4][256];
    size_t at = 0;
    memset(parts, 0, sizeof parts);
    for (; at + 8 <= count; at += 8) {
        uint64_t eight;
        memcpy(&eight, symbols + at, 8);
        parts[0][eight & 255]++;
        parts[1][eight >> 8 & 255]++;
        parts[2][eight >> 16 & 255]++;
        parts[3][eight >> 24 & 255]++;
        parts[0][eight >> 32 & 255]++;
        parts[1][eight >> 40 & 255]++;
        parts[2][eight >> 48 & 255]++;
        parts[3][eight >> 56]++;
    }
    for (; at < count; at++) parts[0][symbols[at]]++;
    for (int s = 0; s < 256; s++)
        counts[s] = parts[0][s] + parts[1][s] + parts[2][s] + parts[3][s];
}

/* The symbol whose code grows least when its frequency is lowered by one. */
static int least_hurt(const uint32_t *counts, const uint16_t *frequencies) {
    int best = -1;
    for (int s = 0; s < 256; s++) {
        if (frequencies[s] < 2) continue;
        if (best < 0 || (uint64_t)counts[s] * (2u * frequencies[best] - 1) <
                            (uint64_t)counts[best] * (2u * frequencies[s] - 1))
            best = s;
    }
    return best;
}

/* The symbol whose code shrinks most when its frequency is raised by one. */
static int most_helped(const uint32_t *counts, const uint16_t *frequencies) {
    int best = -1;
    for (int s = 0; s < 256; s++) {
        if (!counts[s]) continue;
        if (best < 0 || (uint64_t)counts[s] * (2u * frequencies[best] + 1) >
                            (uint64_t)counts[best] * (2u * frequencies[s] + 1))
            best = s;
    }
    return best;
}

void rans_normalise(const uint32_t counts[256], uint64_t total, uint16_t frequencies[256]) {
    uint32_t sum = 0;
    for (int s = 0; s < 256; s++) {
        uint64_t share = ((uint64_t)counts[s] * RANS_TOTAL + total / 2) / total;
        frequencies[s] = (uint16_t)(counts[s] && !share ? 1 : share);
        sum += frequencies[s];
    }
    for (; sum > RANS_TOTAL; sum--) frequencies[least_hurt(counts, frequencies)]--;
    for (; sum < RANS_TOTAL; sum++) frequencies[most_helped(counts, frequencies)]++;
}

size_t rans_write_table(const uint16_t frequencies[256], uint8_t *out) {
    uint32_t groups = 0;
    uint8_t *at = out + 4;
    for (int g = 0; g < 32; g++) {
        unsigned bits = 0;
        for (int k = 0; k < 8; k++) bits |= (unsigned)(frequencies[8 * g + k] != 0) << k;
        if (!bits) continue;
        groups |= 1u << g;
        *at++ = (uint8_t)bits;
    }
    store32(out, groups);
    for (int s = 0; s < 256; s++) {
        unsigned less = frequencies[s] - 1u;
        if (!frequencies[s]) continue;
        if (less >= 128) *at++ = (uint8_t)(128 | less >> 8);
        *at++ = (uint8_t)less;
    }
    return (size_t)(at - out);
}

const uint8_t *rans_read_table(const uint8_t *at, const uint8_t *end, uint16_t frequencies[256]) {
    uint8_t bits[32];
    uint32_t groups, sum = 0;
    if (end - at < 4) return NULL;
    groups = load32(at);
    at += 4;
    for (int g = 0; g < 32; g++) {
        bits[g] = 0;
        if (!(groups >> g & 1)) continue;
        if (at == end || !*at) return NULL;
        bits[g] = *at++;
    }
    for (int s = 0; s < 256; s++) {
        unsigned less;
        frequencies[s] = 0;
        if (!(bits[s >> 3] >> (s & 7) & 1)) continue;
        if (at == end) return NULL;
        less = *at++;
        if (less >= 128) {
            if (at == end) return NULL;
            less = (less & 127) << 8 | *at++;
            if (less < 128) return NULL;
        }
        if (less > RANS_TOTAL - 2) return NULL; /* one symbol alone is a constant plane */
        frequencies[s] = (uint16_t)(less + 1);
        sum += less + 1;
    }
    return sum == RANS_TOTAL ? at : NULL;
}

void rans_prepare_encoder(const uint16_t frequencies[256], rans_encoder *table) {
    uint32_t begin = 0;
    memset(table, 0, sizeof *table);
    for (int s = 0; s < 256; s++) {
        /* Division by multiplication, exact for states below 2^31 (Alverson 1991, as in ryg_rans). */
        uint32_t f = frequencies[s], shift = 0, bias = begin;
        if (!f) continue;
        if (f == 1) {
            table->reciprocal[s] = ~0u; /* the quotient comes out one too small */
            bias += RANS_TOTAL - 1;
        } else {
            while (f > 1u << shift) shift++;
            table->reciprocal[s] = (uint32_t)((((uint64_t)1 << (shift + 31)) + f - 1) / f);
            shift--;
        }
        table->packed[s] = bias | f << 13 | shift << 25;
        begin += f;
    }
}

void rans_prepare_decoder(const uint16_t frequencies[256], rans_decoder *table) {
    uint32_t *slot = table->slots;
    for (uint32_t s = 0; s < 256; s++)
        for (uint32_t k = 0; k < frequencies[s]; k++)
            *slot++ = (uint32_t)frequencies[s] << 20 | k << 8 | s;
}

fields_status rans_start(rans_reader *one, const rans_decoder *tables, const uint8_t *contexts,
                         const uint8_t **at, const uint8_t *end, uint8_t *out, size_t count) {
    const uint8_t *from = *at;
    uint32_t words;
    if (end - from < 4 + RANS_STATE_BYTES) return FIELDS_CUT_SHORT;
    words = load32(from);
    from += 4;
    if (words > (size_t)(end - from - RANS_STATE_BYTES) / 2) return FIELDS_CUT_SHORT;
    for (int lane = 0; lane < RANS_LANES; lane++, from += 4) {
        one->states[lane] = load32(from);
        if (one->states[lane] < RANS_LOW || one->states[lane] >> 31) return FIELDS_BAD_STREAM;
    }
    one->at = from;
    one->end = *at = from + 2 * (size_t)words;
    one->slots = tables->slots;
    one->contexts = contexts;
    one->out = out;
    one->done = 0;
    one->count = count;
    return FIELDS_OK;
}

fields_status rans_open(rans_reader *one, rans_decoder *table, const uint8_t **at,
                        const uint8_t *end, uint8_t *out, size_t count) {
    uint16_t frequencies[256];
    const uint8_t *from = rans_read_table(*at, end, frequencies);
    if (!from) return FIELDS_BAD_TABLE;
    rans_prepare_decoder(frequencies, table);
    *at = from;
    return rans_start(one, table, NULL, at, end, out, count);
}

static inline const uint32_t *slots_of(const rans_reader *one, size_t symbol) {
    return one->slots + (one->contexts ? (size_t)one->contexts[symbol] << RANS_BITS : 0);
}

fields_status rans_finish(rans_reader *one) {
    for (; one->done < one->count; one->done++) {
        uint32_t *state = one->states + one->done % RANS_LANES;
        uint32_t slot = slots_of(one, one->done)[*state & (RANS_TOTAL - 1)];
        one->out[one->done] = (uint8_t)slot;
        *state = (slot >> 20) * (*state >> RANS_BITS) + (slot >> 8 & (RANS_TOTAL - 1));
        if (*state >= RANS_LOW) continue;
        if (one->end - one->at < 2) return FIELDS_BAD_STREAM;
        *state = *state << 16 | load16(one->at);
        one->at += 2;
    }
    if (one->at != one->end) return FIELDS_BAD_STREAM;
    for (int lane = 0; lane < RANS_LANES; lane++)
        if (one->states[lane] != RANS_LOW) return FIELDS_BAD_STREAM;
    return FIELDS_OK;
}

static uint8_t *encode_scalar(const rans_encoder *tables, const uint8_t *contexts,
                              const uint8_t *symbols, size_t count, uint32_t *states,
                              uint8_t *end) {
    for (size_t at = count; at-- > 0;) {
        const rans_encoder *table = tables + (contexts ? contexts[at] : 0);
        uint32_t x = states[at % RANS_LANES];
        uint32_t packed = table->packed[symbols[at]], f = packed >> 13 & 4095, full;
        store16(end - 2, (uint16_t)x);
        full = x >= f << 19;
        end -= 2 * full;
        x >>= full << 4;
        x += (packed & 8191) + (uint32_t)(((uint64_t)x * table->reciprocal[symbols[at]]) >> 32 >>
                                          (packed >> 25)) * (RANS_TOTAL - f);
        states[at % RANS_LANES] = x;
    }
    return end;
}

static void advance_scalar(rans_reader *one) {
    const uint8_t *at = one->at;
    size_t done = one->done;
    for (; one->count - done >= RANS_LANES && one->end - at >= RANS_GROUP_BYTES; done += RANS_LANES)
        for (int lane = 0; lane < RANS_LANES; lane++) {
            const uint32_t *slots = slots_of(one, done + (size_t)lane);
            uint32_t x = one->states[lane], slot = slots[x & (RANS_TOTAL - 1)], more, low;
            one->out[done + (size_t)lane] = (uint8_t)slot;
            x = (slot >> 20) * (x >> RANS_BITS) + (slot >> 8 & (RANS_TOTAL - 1));
            more = x << 16 | load16(at);
            low = x < RANS_LOW;
            at += 2 * low;
            one->states[lane] = low ? more : x;
        }
    one->at = at;
    one->done = done;
}

static void advance_two_scalar(rans_reader *one, rans_reader *other) {
    advance_scalar(one);
    advance_scalar(other);
}

static int always(void) { return 1; }

static void split_scalar(const uint8_t *words, size_t count, unsigned width, int rotated,
                         uint8_t *const *planes) {
    split_words(words, count, width, rotated, planes);
}

static void join_scalar(uint8_t *words, size_t count, unsigned width, int rotated,
                        const uint8_t *const *planes) {
    join_words(words, count, width, rotated, planes);
}

DIFFERENCE_LOOPS(, scalar, expand_symbols, contexts_of_rows)

const fields_path fields_path_scalar = {
    "scalar",     always,      encode_scalar, advance_scalar, advance_two_scalar,
    split_scalar, join_scalar, scale_scalar,  step_scalar,    sums_scalar,
    measure_scalar, pack_scalar, place_scalar, restore_scalar,
};
