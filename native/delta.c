/* Frames of DELTA, written: which prediction, which contexts, and the payload's structure. */
#include <stdlib.h>

#include "delta_frames.h"

#define MOST_LISTED 64    /* more changes than this are coded, not listed */
#define SAMPLE_STRIDE 61  /* a prime, so that rows of a matrix do not line up */
#define SCALE_BLOCKS 64   /* sampled for a factor, of which this many must agree: */
#define SCALE_AGREEING 4
#define SCALE_ELEMENTS 8
#define STEP_SAMPLES 63   /* of which a step is the median */
#define TABLE_BITS 64     /* what a table costs at least, and for each symbol */
#define ENTRY_BITS 11
#define COUNTS_BYTES (2 * 256 * DIFFERENCE_ROWS * sizeof(uint32_t))
#define CHANGE_BYTES 10   /* the most that one listed change takes */

size_t delta_bound(size_t frame_bytes) {
    return frame_bytes + frame_bytes / 512 + CHANGE_BYTES * MOST_LISTED + STEPS_BYTES + 4 * SLACK;
}

/* --- which contexts --------------------------------------------------------------------------- */

/* log2 in units of 2^-16 bit, for 1 <= value < 2^24; the second term bends the line between powers
 * of two. Integers, so that every implementation chooses alike. */
static inline uint64_t log_of(uint32_t value) {
    const uint32_t line = (bits_of((float)(int32_t)value) - (127u << 23)) >> 7, t = line & 0xffff;
    return line + ((t * (65536 - t) >> 16) * 22713 >> 16);
}

typedef struct {
    uint32_t counts[256], total;
    uint64_t bits, joined; /* what it costs alone and together with the next one; units of 2^-16 */
    unsigned first;        /* row */
} context;

static uint64_t cost_of(const uint32_t *counts, const uint32_t *more, uint32_t total) {
    uint64_t logs = 0, present = 0;
    if (!total) return 0;
    for (int s = 0; s < 256; s++) { /* 0 of a symbol costs nothing, whatever its log is */
        const uint32_t h = counts[s] + (more ? more[s] : 0);
        logs += h * log_of(h);
        present += h != 0;
    }
    return total * log_of(total) - logs + ((ENTRY_BITS * present + TABLE_BITS) << 16);
}

static void cost_pair(context *all, size_t k) {
    all[k].joined = cost_of(all[k].counts, all[k + 1].counts, all[k].total + all[k + 1].total);
}

/* Join neighbouring rows as long as that saves bits, or there are too many; returns how many are
 * left. The pair that gains most goes first, the lowest of equals. */
static size_t join_rows(context *all) {
    size_t count = DIFFERENCE_ROWS;
    for (size_t k = 0; k < count; k++) all[k].bits = cost_of(all[k].counts, NULL, all[k].total);
    for (size_t k = 0; k + 1 < count; k++) cost_pair(all, k);
    while (count > 1) {
        size_t best = 0;
        int64_t least = INT64_MAX;
        for (size_t k = 0; k + 1 < count; k++) {
            const int64_t loss = (int64_t)(all[k].joined - all[k].bits - all[k + 1].bits);
            if (loss < least) least = loss, best = k;
        }
        if (least > 0 && count <= MAX_CONTEXTS) break;
        for (int s = 0; s < 256; s++) all[best].counts[s] += all[best + 1].counts[s];
        all[best].total += all[best + 1].total;
        all[best].bits = all[best].joined;
        count--;
        memmove(all + best + 1, all + best + 2, (count - best - 1) * sizeof *all);
        if (best) cost_pair(all, best - 1);
        if (best + 1 < count) cost_pair(all, best);
    }
    return count;
}

/* Two tables in turn: a run of one symbol would wait for its own counter otherwise. */
static void count_rows(const measured *of, context *all, uint32_t *counts) {
    const uint8_t *restrict rows = of->rows, *restrict symbols = of->symbols;
    uint32_t *restrict other = counts + 256 * DIFFERENCE_ROWS;
    size_t i = 0;
    memset(counts, 0, 2 * 256 * DIFFERENCE_ROWS * sizeof *counts);
    for (; i + 2 <= of->count; i += 2) {
        counts[(uint32_t)rows[i] << 8 | symbols[i]]++;
        other[(uint32_t)rows[i + 1] << 8 | symbols[i + 1]]++;
    }
    if (i < of->count) counts[(uint32_t)rows[i] << 8 | symbols[i]]++;
    memset(all, 0, DIFFERENCE_ROWS * sizeof *all);
    for (unsigned row = 0; row < DIFFERENCE_ROWS; row++) {
        context *one = all + row;
        one->first = row;
        for (unsigned s = 0; s < 256; s++) {
            one->counts[s] = counts[256 * row + s] + other[256 * row + s];
            one->total += one->counts[s];
        }
    }
}

/* The key of the largest predictions, but for 1 in 256 of a sample: those are outliers. */
static unsigned find_top(const difference_kind *kind, const uint8_t *prediction, size_t count) {
    uint32_t keys[512] = {0}, samples = 0, above = 0;
    const unsigned shift = kind->mantissa - 1;
    unsigned key = 511;
    for (size_t i = 0; i < count; i += SAMPLE_STRIDE, samples++)
        keys[kind->width == 4 ? (load32(prediction + 4 * i) & 0x7fffffff) >> shift
                              : (load16(prediction + 2 * i) & 0x7fffu) >> shift]++;
    for (; key > 0; key--) {
        above += keys[key];
        if (above > samples / 256) break;
    }
    return key;
}

/* --- the scaled prediction -------------------------------------------------------------------- */

/* A normal number's value; 0 for every other. */
static double value_of(const difference_kind *kind, const uint8_t *at) {
    uint32_t bits, e;
    if (kind->width == 4) {
        bits = load32(at);
    } else if (kind->mantissa == 7) {
        bits = (uint32_t)load16(at) << 16;
    } else {
        const uint32_t half = load16(at);
        if ((half >> 10 & 31) == 0 || (half >> 10 & 31) == 31) return 0;
        bits = (half & 0x8000) << 16 | (((half & 0x7fff) << 13) + (112u << 23));
    }
    e = bits >> 23 & 255;
    return e && e < 255 ? (double)float_of(bits) : 0;
}

static void sort(double *values, size_t count) {
    for (size_t k = 1; k < count; k++) {
        const double one = values[k];
        size_t to = k;
        for (; to && values[to - 1] > one; to--) values[to] = values[to - 1];
        values[to] = one;
    }
}

/* The factor by which untouched blocks have shrunk (weight decay), or 1: medians of ratios, of
 * blocks in which they agree. */
static float find_factor(const difference_kind *kind, const uint8_t *prediction,
                         const uint8_t *elements, size_t count) {
    const double spread = kind->mantissa == 23 ? 0x1p-18 : kind->mantissa == 10 ? 0x1p-9 : 0x1p-6;
    const size_t blocks = count / BLOCK_ELEMENTS;
    double medians[SCALE_BLOCKS];
    size_t found = 0;
    if (blocks < SCALE_AGREEING) return 1;
    for (size_t k = 0; k < SCALE_BLOCKS; k++) {
        double ratios[SCALE_ELEMENTS];
        for (size_t j = 0; j < SCALE_ELEMENTS; j++) {
            const size_t i = k * blocks / SCALE_BLOCKS * BLOCK_ELEMENTS + 16 * j + 5;
            const double x = value_of(kind, prediction + kind->width * i);
            const double y = value_of(kind, elements + kind->width * i);
            ratios[j] = x != 0 && y != 0 ? y / x : 1;
        }
        sort(ratios, SCALE_ELEMENTS);
        if (ratios[6] - ratios[1] < spread && ratios[3] != 1) medians[found++] = ratios[3];
    }
    sort(medians, found);
    if (found < SCALE_AGREEING) return 1;
    return (float)medians[found / 2];
}

static int compare_steps(const void *one, const void *other) {
    const int32_t a = *(const int32_t *)one, b = *(const int32_t *)other;
    return (a > b) - (a < b);
}

/* By how much magnitudes went down in the blocks of `bitmap`, where the first bits of the mantissa are
 * these: the median of the first ones of each, 0 where that is not of 16 bits. Weight decay by a factor
 * within a few units of 1 rounds to whole units, as many as the mantissa says, step by step. */
static void find_steps(const shape *of, const uint8_t *bitmap, const uint8_t *prediction,
                       const uint8_t *elements, int32_t *steps) {
    int32_t samples[STEPS][STEP_SAMPLES];
    size_t counts[STEPS] = {0};
    for (size_t i = 0; i < of->count; i++) {
        const size_t block = i / BLOCK_ELEMENTS;
        const uint32_t x = load32(prediction + 4 * i), y = load32(elements + 4 * i);
        const unsigned cell = x >> STEP_SHIFT & (STEPS - 1);
        if (!(bitmap[block >> 3] >> (block & 7) & 1)) {
            i += BLOCK_ELEMENTS - 1; /* blocks are passed over from their first element on */
        } else if (!((x ^ y) >> 31) && is_normal(x) && counts[cell] < STEP_SAMPLES) {
            samples[cell][counts[cell]++] = (int32_t)(x & 0x7fffffff) - (int32_t)(y & 0x7fffffff);
        }
    }
    for (unsigned cell = 0; cell < STEPS; cell++) {
        const size_t count = counts[cell];
        qsort(samples[cell], count, sizeof **samples, compare_steps);
        steps[cell] = count ? samples[cell][count / 2] : 0;
        if (steps[cell] != (int16_t)steps[cell]) steps[cell] = 0;
    }
}

/* Name the blocks that a scaled prediction suits better; returns how many, and the sum of all blocks'
 * differences if these are scaled. */
static size_t name_blocks(const shape *of, const uint32_t *sums, const uint32_t *scaled,
                          uint8_t *bitmap, uint64_t *total) {
    size_t chosen = 0;
    memset(bitmap, 0, of->bitmap_bytes);
    *total = 0;
    for (size_t b = 0; b < of->blocks; b++) {
        const unsigned better = 4 * scaled[b] < sums[b];
        bitmap[b >> 3] = (uint8_t)(bitmap[b >> 3] | better << (b & 7));
        *total += better ? scaled[b] : sums[b];
        chosen += better;
    }
    return chosen;
}

/* What choosing how to scale needs: sums of each block and bitmaps of blocks, two of each candidate,
 * and the prediction that comes of it. */
typedef struct {
    uint32_t *sums, *scaled;
    uint8_t *bitmap, *other, *prediction;
} scaling_room;

/* Decide which blocks are predicted better by a factor or by steps. Says how in `by`; the bitmap
 * names the blocks, and the prediction is made of it. */
static void choose_scaled(const fields_path *path, const difference_kind *kind, const shape *of,
                          const uint8_t *prediction, const uint8_t *elements, scaling_room *with,
                          scaling *by) {
    uint64_t total, total_by_steps;
    size_t chosen, by_steps;
    by->mode = SCALED_NONE;
    by->by_steps = 0;
    by->factor = find_factor(kind, prediction, elements, of->count);
    if (by->factor == 1 || !is_normal(bits_of(by->factor))) return;
    path->scale(kind, prediction, of->count, by->factor, with->prediction);
    path->sums(kind, prediction, elements, of->count, with->sums);
    path->sums(kind, with->prediction, elements, of->count, with->scaled);
    chosen = name_blocks(of, with->sums, with->scaled, with->bitmap, &total);
    if (chosen < SCALE_AGREEING) return;
    if (kind->width == 4) {
        find_steps(of, with->bitmap, prediction, elements, by->steps);
        path->step(prediction, of->count, by->steps, with->prediction);
        path->sums(kind, with->prediction, elements, of->count, with->scaled);
        by_steps = name_blocks(of, with->sums, with->scaled, with->other, &total_by_steps);
        if (by_steps >= SCALE_AGREEING && total_by_steps < total) {
            by->by_steps = 1;
            chosen = by_steps;
            memcpy(with->bitmap, with->other, of->bitmap_bytes);
        }
    }
    by->mode = chosen == of->blocks ? SCALED_ALL : SCALED_BLOCKS;
    scale_blocks(path, kind, of, by, with->bitmap, prediction, with->prediction);
}

/* --- encoding --------------------------------------------------------------------------------- */

static uint8_t *put_number(uint8_t *out, uint64_t value) { /* LEB128 */
    for (; value >= 128; value >>= 7) *out++ = (uint8_t)(128 | value);
    *out++ = (uint8_t)value;
    return out;
}

static uint8_t *put_changes(const difference_kind *kind, const shape *of, const measured *found,
                            uint8_t *out) {
    size_t next = 0, from = 0;
    for (size_t b = 0; b < of->blocks; b++) {
        if (!found->live[b]) continue;
        for (size_t i = 0; i < block_elements(of, b); i++, from++) {
            const uint32_t z = kind->width == 4 ? load32(found->differences + 4 * from)
                                                : load16(found->differences + 2 * from);
            const size_t place = b * BLOCK_ELEMENTS + i;
            if (!z) continue;
            out = put_number(out, place - next);
            out = put_number(out, z);
            next = place + 1;
        }
    }
    return out;
}

/* A table needs two symbols: one that stands alone gets a neighbour that never occurs. */
static void normalise(context *one, uint16_t frequencies[256]) {
    int s = 0;
    while (s < 255 && !one->counts[s]) s++;
    if (one->counts[s] == one->total) {
        memset(frequencies, 0, 256 * sizeof *frequencies);
        frequencies[s] = RANS_TOTAL - 1;
        frequencies[s ^ 1] = 1;
    } else {
        rans_normalise(one->counts, one->total, frequencies);
    }
}

/* Everything that a coded frame is made of but its raw bits. */
static uint8_t *put_coded(const fields_path *path, const measured *found, uint8_t *contexts,
                          uint8_t *stream, size_t stream_bytes, rans_encoder *encoders,
                          context *all, uint8_t *out, const uint8_t *limit) {
    uint8_t context_of[DIFFERENCE_ROWS], *words, *end = stream + stream_bytes;
    uint32_t states[RANS_LANES], boundaries = 0;
    size_t count, word_bytes;
    count_rows(found, all, (uint32_t *)(void *)contexts);
    count = join_rows(all);
    for (size_t k = 0; k < count; k++) {
        const unsigned last = k + 1 < count ? all[k + 1].first : DIFFERENCE_ROWS;
        memset(context_of + all[k].first, (int)k, last - all[k].first);
        if (k) boundaries |= 1u << all[k].first;
    }
    store16(out, (uint16_t)found->top);
    store32(out + 2, boundaries);
    out += 6;
    for (size_t k = 0; k < count; k++) {
        uint16_t frequencies[256];
        uint8_t table[RANS_MAX_TABLE_BYTES];
        size_t table_bytes;
        normalise(all + k, frequencies);
        table_bytes = rans_write_table(frequencies, table);
        if (limit - out < (ptrdiff_t)table_bytes) return NULL;
        memcpy(out, table, table_bytes);
        out += table_bytes;
        rans_prepare_encoder(frequencies, encoders + k);
    }
    contexts_of_rows(found->rows, found->count, context_of, contexts);
    for (int lane = 0; lane < RANS_LANES; lane++) states[lane] = RANS_LOW;
    words = path->encode(encoders, contexts, found->symbols, found->count, states, end);
    word_bytes = (size_t)(end - words);
    if (limit - out < (ptrdiff_t)(4 + RANS_STATE_BYTES + word_bytes)) return NULL;
    store32(out, (uint32_t)(word_bytes / 2));
    out += 4;
    for (int lane = 0; lane < RANS_LANES; lane++, out += 4) store32(out, states[lane]);
    memcpy(out, words, word_bytes);
    return out + word_bytes;
}

static uint8_t *put_head(unsigned kind, const shape *of, unsigned form, const scaling *by,
                         const uint8_t *bitmap, fields_input frame, uint8_t *out) {
    *out++ = (uint8_t)(form | kind << 2 | by->mode << 4 | (by->by_steps ? BY_STEPS : 0));
    *out++ = (uint8_t)of->lead;
    memcpy(out, frame.bytes, of->lead);
    out += of->lead;
    memcpy(out, frame.bytes + frame.size - of->tail, of->tail);
    out += of->tail;
    if (by->mode == SCALED_NONE) return out;
    if (by->by_steps) {
        for (unsigned k = 0; k < STEPS; k++, out += 2) store16(out, (uint16_t)by->steps[k]);
    } else {
        store32(out, bits_of(by->factor));
        out += 4;
    }
    if (by->mode == SCALED_ALL) return out;
    memcpy(out, bitmap, of->bitmap_bytes);
    return out + of->bitmap_bytes;
}

/* Say which blocks are live, where not all of them are. */
static uint8_t *put_live(const shape *of, const measured *found, uint8_t *first, uint8_t *out) {
    if (found->count == of->count) return out;
    *first |= HAS_LIVE;
    memset(out, 0, of->bitmap_bytes);
    for (size_t b = 0; b < of->blocks; b++)
        out[b >> 3] = (uint8_t)(out[b >> 3] | (unsigned)found->live[b] << (b & 7));
    return out + of->bitmap_bytes;
}

/* What encoding needs beside the payload. */
typedef struct {
    measured found;
    scaling_room scaled;
    uint8_t *contexts, *stream, *raw;
    rans_encoder *encoders;
    context *all;
} encoder_room;

static size_t cut_room(const shape *of, const difference_kind *kind, uint8_t *bytes,
                       encoder_room *out) {
    room rest = {bytes, 0};
    const size_t n = of->count, size = kind->width * n;
    out->found.symbols = part(&rest, n + BLOCK_ELEMENTS);
    out->found.rows = part(&rest, n + BLOCK_ELEMENTS);
    out->found.differences = part(&rest, size + 4 * BLOCK_ELEMENTS);
    out->found.live = part(&rest, of->blocks);
    out->scaled.bitmap = part(&rest, of->bitmap_bytes);
    out->scaled.other = part(&rest, of->bitmap_bytes);
    out->scaled.prediction = part(&rest, size);
    out->scaled.sums = (uint32_t *)(void *)part(&rest, 4 * of->blocks);
    out->scaled.scaled = (uint32_t *)(void *)part(&rest, 4 * of->blocks);
    out->contexts = part(&rest, n + COUNTS_BYTES); /* first used for counts */
    out->stream = part(&rest, 2 * n + SLACK);
    out->raw = part(&rest, size);
    out->encoders = (rans_encoder *)(void *)part(&rest, MAX_CONTEXTS * sizeof(rans_encoder));
    out->all = (context *)(void *)part(&rest, DIFFERENCE_ROWS * sizeof(context));
    return rest.used;
}

static uint8_t *put_frame(const fields_path *path, unsigned kind_number, const shape *of,
                          encoder_room *with, fields_input frame, const uint8_t *prediction,
                          fields_output out) {
    const difference_kind *kind = KINDS + kind_number;
    const uint8_t *elements = frame.bytes + of->lead, *limit = out.bytes + frame.size;
    const uint8_t *bitmap = with->scaled.bitmap;
    measured *found = &with->found;
    scaling by;
    uint8_t *at, *end;
    choose_scaled(path, kind, of, prediction, elements, &with->scaled, &by);
    if (by.mode != SCALED_NONE) prediction = with->scaled.prediction;
    found->top = find_top(kind, prediction, of->count);
    path->measure(kind, prediction, elements, of->count, found);
    if (found->changed <= MOST_LISTED) {
        at = put_head(kind_number, of, FORM_LISTED, &by, bitmap, frame, out.bytes);
        return put_changes(kind, of, found, at);
    }
    at = put_head(kind_number, of, FORM_CODED, &by, bitmap, frame, out.bytes);
    at = put_live(of, found, out.bytes, at);
    at = put_coded(path, found, with->contexts, with->stream, 2 * of->count + SLACK, with->encoders,
                   with->all, at, limit);
    if (!at) return NULL;
    end = path->pack(kind, found->symbols, found->differences, found->count, with->raw);
    if (limit - at < end - with->raw) return NULL;
    memcpy(at, with->raw, (size_t)(end - with->raw));
    return at + (end - with->raw);
}

fields_status delta_encode(const fields_path *path, fields_workspace *work, unsigned kind,
                           size_t lead, fields_input frame, const uint8_t *prediction,
                           fields_output out, size_t *written) {
    encoder_room with;
    shape of;
    uint8_t *bytes, *end;
    if (kind >= DELTA_KINDS) return FIELDS_BAD_FORM;
    if (lead >= KINDS[kind].width) return FIELDS_BAD_LEAD;
    if (frame.size > FIELDS_MAX_FRAME_BYTES || out.size < delta_bound(frame.size))
        return FIELDS_WRONG_SIZE;
    *written = 0;
    if (!memcmp(frame.bytes, prediction, frame.size)) return FIELDS_OK;
    of = shape_of(frame.size, lead, KINDS[kind].width);
    bytes = fields_reserve(work, cut_room(&of, KINDS + kind, NULL, &with));
    if (!bytes) return FIELDS_NO_MEMORY;
    cut_room(&of, KINDS + kind, bytes, &with);
    end = put_frame(path, kind, &of, &with, frame, prediction + of.lead, out);
    if (!end) return FIELDS_DOES_NOT_PAY;
    *written = (size_t)(end - out.bytes);
    return *written * 50 > frame.size * 49 ? FIELDS_DOES_NOT_PAY : FIELDS_OK;
}
