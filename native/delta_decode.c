/* Frames of DELTA, read. */
#include "delta_frames.h"

/* One frame while it is being decoded. */
typedef struct {
    const difference_kind *kind;
    shape of;
    const uint8_t *prediction; /* of the elements, scaled where that is told */
    const uint8_t *at, *end, *live; /* no bitmap: all blocks are live */
    uint8_t *elements, *scaled, *contexts, *symbols, *bits;
    rans_decoder *tables;
    rans_reader stream;
    size_t count; /* elements in live blocks */
    unsigned top, coded;
    fields_status status;
} frame;

static size_t cut_decoder_room(size_t size, uint8_t *bytes, frame *out) {
    room rest = {bytes, 0};
    out->scaled = part(&rest, size);
    out->contexts = part(&rest, size / 2);
    out->symbols = part(&rest, size / 2);
    out->bits = part(&rest, size);
    out->tables = (rans_decoder *)(void *)part(&rest, MAX_CONTEXTS * sizeof(rans_decoder));
    return rest.used;
}

/* Take a bitmap of the blocks; the bits behind the last one are 0. */
static const uint8_t *take_bitmap(frame *one) {
    const size_t bytes = one->of.bitmap_bytes, used = one->of.blocks & 7;
    const uint8_t *bitmap = one->at;
    if ((size_t)(one->end - one->at) < bytes) {
        one->status = FIELDS_CUT_SHORT;
        return NULL;
    }
    one->at += bytes;
    if (!bytes || !used || !(bitmap[bytes - 1] >> used)) return bitmap;
    one->status = FIELDS_BAD_BLOCKS;
    return NULL;
}

/* Read what scaled blocks are predicted by. */
static fields_status take_scaling(frame *one, scaling *by) {
    if (one->end - one->at < (by->by_steps ? STEPS_BYTES : 4)) return FIELDS_CUT_SHORT;
    if (by->by_steps) {
        for (unsigned k = 0; k < STEPS; k++, one->at += 2) by->steps[k] = (int16_t)load16(one->at);
        return FIELDS_OK;
    }
    by->factor = float_of(load32(one->at));
    one->at += 4;
    return is_normal(bits_of(by->factor)) ? FIELDS_OK : FIELDS_BAD_FORM;
}

static fields_status scale_prediction(const fields_path *path, frame *one, scaling *by) {
    const fields_status status = take_scaling(one, by);
    const uint8_t *bitmap = NULL;
    if (status != FIELDS_OK) return status;
    if (by->mode == SCALED_BLOCKS) bitmap = take_bitmap(one);
    if (one->status != FIELDS_OK) return one->status;
    scale_blocks(path, one->kind, &one->of, by, bitmap, one->prediction, one->scaled);
    one->prediction = one->scaled;
    return FIELDS_OK;
}

/* Read the form, lead, tail, scale; an empty payload says that the prediction is exact. */
static fields_status open_frame(const fields_path *path, frame *one, fields_input payload,
                                fields_input prediction, fields_output out) {
    unsigned form;
    scaling by;
    one->at = payload.bytes;
    one->end = payload.bytes + payload.size;
    one->coded = 0;
    if (prediction.size != out.size || out.size > FIELDS_MAX_FRAME_BYTES) return FIELDS_WRONG_SIZE;
    if (!payload.size) {
        memcpy(out.bytes, prediction.bytes, out.size);
        return FIELDS_OK;
    }
    if (payload.size < 2) return FIELDS_CUT_SHORT;
    form = one->at[0] & 3;
    by.mode = one->at[0] >> 4 & 3;
    by.by_steps = one->at[0] >> 7;
    one->coded = form == FORM_CODED;
    if ((form != FORM_LISTED && form != FORM_CODED) || by.mode > SCALED_BLOCKS ||
        (one->at[0] >> 2 & 3) >= DELTA_KINDS || (one->at[0] & HAS_LIVE && !one->coded))
        return FIELDS_BAD_FORM;
    one->kind = KINDS + (one->at[0] >> 2 & 3);
    if (by.by_steps && (by.mode == SCALED_NONE || one->kind->width != 4)) return FIELDS_BAD_FORM;
    if (one->at[1] >= one->kind->width || one->at[1] > out.size) return FIELDS_BAD_LEAD;
    one->of = shape_of(out.size, one->at[1], one->kind->width);
    one->live = one->at[0] & HAS_LIVE ? one->at : NULL;
    one->at += 2;
    if ((size_t)(one->end - one->at) < one->of.lead + one->of.tail) return FIELDS_CUT_SHORT;
    memcpy(out.bytes, one->at, one->of.lead);
    one->at += one->of.lead;
    memcpy(out.bytes + out.size - one->of.tail, one->at, one->of.tail);
    one->at += one->of.tail;
    one->elements = out.bytes + one->of.lead;
    one->prediction = prediction.bytes + one->of.lead;
    return by.mode == SCALED_NONE ? FIELDS_OK : scale_prediction(path, one, &by);
}

/* Take a number of at most five bytes; returns 0 where there is none. */
static int take_number(frame *one, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (one->at == one->end) return 0;
        *out |= (uint64_t)(*one->at & 127) << shift;
        if (*one->at++ < 128) return 1;
    }
    return 0;
}

static fields_status apply_changes(frame *one) {
    const unsigned width = one->kind->width;
    uint64_t place = 0, gap, z;
    memcpy(one->elements, one->prediction, width * one->of.count);
    while (one->at != one->end) {
        uint8_t *element;
        if (!take_number(one, &gap) || !take_number(one, &z)) return FIELDS_BAD_CHANGES;
        place += gap;
        if (place >= one->of.count || !z || z >> (8 * width)) return FIELDS_BAD_CHANGES;
        element = one->elements + width * place++;
        if (width == 4) store32(element, restored_32(load32(element), (uint32_t)z));
        else store16(element, restored_16(load16(element), (uint16_t)z));
    }
    return FIELDS_OK;
}

static int is_live(const frame *one, size_t block) {
    return !one->live || (one->live[block >> 3] >> (block & 7) & 1);
}

static void place_contexts(const fields_path *path, frame *one, uint32_t boundaries) {
    uint8_t context_of[DIFFERENCE_ROWS];
    for (unsigned row = 0, context = 0; row < DIFFERENCE_ROWS; row++) {
        context += boundaries >> row & 1;
        context_of[row] = (uint8_t)context;
    }
    one->count = 0;
    for (size_t b = 0; b < one->of.blocks; b++) {
        const size_t some = block_elements(&one->of, b);
        if (!is_live(one, b)) continue;
        path->place(one->kind, one->prediction + one->kind->width * b * BLOCK_ELEMENTS, some,
                    one->top, context_of, one->contexts + one->count);
        one->count += some;
    }
}

/* Read what is before the words of a coded frame, and set its stream up. */
static fields_status open_stream(const fields_path *path, frame *one) {
    const unsigned most = one->kind->width == 4 ? 240 : 112; /* symbols there can be */
    uint32_t boundaries, tables;
    if (one->live) one->live = take_bitmap(one);
    if (one->status != FIELDS_OK) return one->status;
    if (one->end - one->at < 6) return FIELDS_CUT_SHORT;
    one->top = load16(one->at);
    boundaries = load32(one->at + 2);
    one->at += 6;
    tables = (uint32_t)__builtin_popcount(boundaries) + 1;
    if (boundaries & 1 || tables > MAX_CONTEXTS) return FIELDS_BAD_FORM;
    for (uint32_t k = 0; k < tables; k++) {
        uint16_t frequencies[256];
        one->at = rans_read_table(one->at, one->end, frequencies);
        if (!one->at) return FIELDS_BAD_TABLE;
        for (unsigned s = most; s < 256; s++)
            if (frequencies[s]) return FIELDS_BAD_TABLE;
        rans_prepare_decoder(frequencies, one->tables + k);
    }
    place_contexts(path, one, boundaries);
    return rans_start(&one->stream, one->tables, one->contexts, &one->at, one->end, one->symbols,
                      one->count);
}

/* Check the raw bits and put the elements together. */
static fields_status close_frame(const fields_path *path, frame *one) {
    const unsigned width = one->kind->width;
    const size_t bytes = (size_t)(one->end - one->at);
    uint64_t bits = 0, bit = 0;
    size_t done = 0;
    fields_status status = rans_finish(&one->stream);
    if (status != FIELDS_OK) return status;
    for (size_t i = 0; i < one->count; i++) bits += raw_width(one->symbols[i]);
    if (bytes < (bits + 7) / 8) return FIELDS_CUT_SHORT;
    if (bytes > (bits + 7) / 8) return FIELDS_TRAILING_BYTES;
    if (bits & 7 && one->at[bytes - 1] >> (bits & 7)) return FIELDS_TRAILING_BYTES;
    memcpy(one->bits, one->at, bytes);
    memset(one->bits + bytes, 0, 16);
    for (size_t b = 0; b < one->of.blocks; b++) {
        const size_t at = width * b * BLOCK_ELEMENTS, some = block_elements(&one->of, b);
        if (is_live(one, b)) {
            path->restore(one->kind, one->prediction + at, one->symbols + done, some, one->bits,
                          &bit, one->elements + at);
            done += some;
        } else {
            memcpy(one->elements + at, one->prediction + at, width * some);
        }
    }
    return FIELDS_OK;
}

static void decode_some(const fields_path *path, frame *frames, size_t count,
                        const fields_input *payloads, const fields_input *predictions,
                        const fields_output *outs) {
    rans_reader *streams[2];
    size_t open = 0;
    for (size_t k = 0; k < count; k++) {
        frame *one = frames + k;
        one->status = FIELDS_OK;
        one->status = open_frame(path, one, payloads[k], predictions[k], outs[k]);
        if (one->status != FIELDS_OK || !payloads[k].size) continue;
        one->status = one->coded ? open_stream(path, one) : apply_changes(one);
        if (one->status == FIELDS_OK && one->coded) streams[open++] = &one->stream;
    }
    if (open == 2) path->advance_two(streams[0], streams[1]);
    else if (open) path->advance(streams[0]);
    for (size_t k = 0; k < count; k++)
        if (frames[k].status == FIELDS_OK && frames[k].coded)
            frames[k].status = close_frame(path, frames + k);
}

void delta_decode(const fields_path *path, fields_workspace *work, size_t count,
                  const fields_input *payloads, const fields_input *predictions,
                  const fields_output *outs, fields_status *statuses) {
    for (size_t first = 0; first < count; first += 2) {
        frame frames[2];
        size_t together = count - first < 2 ? 1 : 2, size = 0;
        uint8_t *bytes;
        for (size_t k = 0; k < together; k++)
            size += cut_decoder_room(outs[first + k].size, NULL, frames + k);
        bytes = fields_reserve(work, size);
        for (size_t k = 0; k < together && bytes; k++)
            bytes += cut_decoder_room(outs[first + k].size, bytes, frames + k);
        if (bytes)
            decode_some(path, frames, together, payloads + first, predictions + first,
                        outs + first);
        for (size_t k = 0; k < together; k++)
            statuses[first + k] = bytes ? frames[k].status : FIELDS_NO_MEMORY;
    }
}
