/* Frames: layouts, the choice of how a plane is kept, and the payload's structure. */
#include "rans.h"

#include <stdlib.h>

enum { TAG_RAW = 0, TAG_CONSTANT = 1, TAG_RANS = 2 };
enum { ROTATED = 0x10 };

#define FIXED_BYTES 7 /* size, lead, number of fields */
#define MAX_PLANES (8 * FIELDS_MAX_FIELDS)
#define MIN_RANS_SYMBOLS 256 /* fewer do not pay for table and states */
#define SAMPLED_FROM 16384
#define SAMPLE_RUNS 16
#define SAMPLE_RUN_BYTES 256
#define SLACK 64

typedef struct {
    unsigned width;  /* bytes of a word: 1, 2, 4, 8 */
    int rotated;
    size_t words;    /* of one element */
    size_t offset;   /* in the element */
    size_t plane;    /* number of the field's first plane */
} field;

typedef struct {
    field fields[FIELDS_MAX_FIELDS];
    size_t field_count, plane_count, element_bytes;
} layout;

/* Where the elements of a frame begin, and how many there are. */
typedef struct {
    size_t lead, count, tail;
} extent;

const char *fields_message(fields_status status) {
    static const char *const messages[] = {
        "no fault",
        "the encoding does not pay",
        "there is not enough memory",
        "its field descriptions make no layout",
        "it is cut short",
        "it declares another size than is expected",
        "its lead is not shorter than an element",
        "a plane has an unknown tag",
        "a table of frequencies is damaged",
        "an entropy-coded stream is damaged",
        "bytes follow its end",
        "its form is unknown",
        "its blocks are damaged",
        "its list of changes is damaged",
    };
    return messages[status];
}

static int read_layout(const uint8_t *descriptions, size_t count, layout *out) {
    if (count == 0 || count > FIELDS_MAX_FIELDS) return 0;
    out->field_count = count;
    out->plane_count = out->element_bytes = 0;
    for (size_t f = 0; f < count; f++, descriptions += FIELDS_DESCRIPTION_BYTES) {
        field *one = out->fields + f;
        one->width = descriptions[0] & 15;
        one->rotated = (descriptions[0] & ROTATED) != 0;
        one->words = load16(descriptions + 1);
        one->offset = out->element_bytes;
        one->plane = out->plane_count;
        if ((descriptions[0] & ~(15 | ROTATED)) || !one->words) return 0;
        if (one->width != 1 && one->width != 2 && one->width != 4 && one->width != 8) return 0;
        if (one->width == 1 && one->rotated) return 0;
        out->element_bytes += one->width * one->words;
        out->plane_count += one->width;
        if (out->element_bytes > FIELDS_MAX_ELEMENT_BYTES) return 0;
    }
    return 1;
}

size_t fields_element_bytes(const uint8_t *descriptions, size_t field_count) {
    layout found;
    return read_layout(descriptions, field_count, &found) ? found.element_bytes : 0;
}

size_t fields_bound(size_t frame_bytes, size_t field_count) {
    return frame_bytes + FIXED_BYTES + FIELDS_DESCRIPTION_BYTES * field_count + MAX_PLANES + SLACK;
}

void fields_release(fields_workspace *work) {
    free(work->bytes);
    work->bytes = NULL;
    work->size = 0;
}

uint8_t *fields_reserve(fields_workspace *work, size_t size) {
    if (work->size < size) {
        fields_release(work);
        work->bytes = malloc(size);
        if (work->bytes) work->size = size;
    }
    return work->bytes;
}

static extent extent_of(size_t size, size_t lead, const layout *shape) {
    extent out = {lead, 0, 0};
    if (lead > size) out.lead = size;
    out.count = (size - out.lead) / shape->element_bytes;
    out.tail = size - out.lead - out.count * shape->element_bytes;
    return out;
}

/* Copy a field's words of all elements together, or back; nothing to do where it is the only one. */
static void gather(const uint8_t *elements, size_t count, size_t stride, size_t bytes,
                   uint8_t *restrict out) {
    for (; count; count--, elements += stride, out += bytes) memcpy(out, elements, bytes);
}

static void scatter(uint8_t *restrict elements, size_t count, size_t stride, size_t bytes,
                    const uint8_t *in) {
    for (; count; count--, elements += stride, in += bytes) memcpy(elements, in, bytes);
}

/* --- encoding ------------------------------------------------------------------------------- */

/* Say whether counts are so even that under 2 % can be saved. The collision entropy is never above
 * Shannon's, so nothing that pays is missed: 256 / 229 = 2^(0.02 * 8). Integers, so that every
 * implementation decides alike. */
static int is_even(const uint32_t counts[256], uint64_t total) {
    uint64_t squares = 0;
    for (int s = 0; s < 256; s++) squares += (uint64_t)counts[s] * counts[s];
    return squares * 229 < total * total;
}

/* The same from 16 runs spread over a plane; a wider margin and no bias, since they are a sample. */
static int looks_even(const uint8_t *plane, size_t count) {
    uint32_t counts[256];
    uint8_t sample[SAMPLE_RUNS * SAMPLE_RUN_BYTES];
    uint64_t squares = 0, total = sizeof sample;
    for (size_t k = 0; k < SAMPLE_RUNS; k++)
        memcpy(sample + k * SAMPLE_RUN_BYTES,
               plane + k * (count - SAMPLE_RUN_BYTES) / (SAMPLE_RUNS - 1), SAMPLE_RUN_BYTES);
    rans_histogram(sample, sizeof sample, counts);
    for (int s = 0; s < 256; s++) squares += (uint64_t)counts[s] * counts[s];
    return (squares - total) * 241 < total * (total - 1);
}

static uint8_t *put_raw(const uint8_t *plane, size_t count, uint8_t *out) {
    *out++ = TAG_RAW;
    memcpy(out, plane, count);
    return out + count;
}

/* Write tag, table, length, states and words; `stream` has room for 2 * count + SLACK bytes. */
static uint8_t *put_plane(const fields_path *path, const uint8_t *plane, size_t count,
                          uint8_t *stream, uint8_t *out) {
    uint32_t counts[256], states[RANS_LANES];
    uint16_t frequencies[256];
    uint8_t table[RANS_MAX_TABLE_BYTES], *words, *end = stream + SLACK + 2 * count;
    rans_encoder encoder;
    size_t table_bytes, word_bytes;
    if (count >= SAMPLED_FROM && looks_even(plane, count)) return put_raw(plane, count, out);
    rans_histogram(plane, count, counts);
    if (counts[plane[0]] == count) {
        *out++ = TAG_CONSTANT;
        *out++ = plane[0];
        return out;
    }
    if (count < MIN_RANS_SYMBOLS || is_even(counts, count)) return put_raw(plane, count, out);
    rans_normalise(counts, count, frequencies);
    table_bytes = rans_write_table(frequencies, table);
    rans_prepare_encoder(frequencies, &encoder);
    for (int lane = 0; lane < RANS_LANES; lane++) states[lane] = RANS_LOW;
    words = path->encode(&encoder, NULL, plane, count, states, end);
    word_bytes = (size_t)(end - words);
    if ((table_bytes + 4 + RANS_STATE_BYTES + word_bytes) * 50 > count * 49)
        return put_raw(plane, count, out);
    *out++ = TAG_RANS;
    memcpy(out, table, table_bytes);
    store32(out + table_bytes, (uint32_t)(word_bytes / 2));
    out += table_bytes + 4;
    for (int lane = 0; lane < RANS_LANES; lane++, out += 4) store32(out, states[lane]);
    memcpy(out, words, word_bytes);
    return out + word_bytes;
}

/* Cut the field of all elements into planes that follow each other from `room` on. */
static void split_field(const fields_path *path, const layout *shape, const field *one,
                        const uint8_t *elements, size_t count, uint8_t *gathered, uint8_t *room) {
    uint8_t *planes[8];
    size_t bytes = one->width * one->words;
    for (unsigned k = 0; k < one->width; k++) planes[k] = room + k * one->words * count;
    if (bytes == shape->element_bytes) {
        path->split(elements, count * one->words, one->width, one->rotated, planes);
        return;
    }
    if (one->width == 1) gathered = room;
    gather(elements + one->offset, count, shape->element_bytes, bytes, gathered);
    if (one->width > 1)
        path->split(gathered, count * one->words, one->width, one->rotated, planes);
}

fields_status fields_encode(const fields_path *path, fields_workspace *work,
                            const uint8_t *descriptions, size_t field_count, size_t lead,
                            fields_input frame, fields_output out, size_t *written) {
    layout shape;
    extent where;
    uint8_t *at = out.bytes, *room, *stream;
    if (!read_layout(descriptions, field_count, &shape)) return FIELDS_BAD_LAYOUT;
    if (frame.size > FIELDS_MAX_FRAME_BYTES || out.size < fields_bound(frame.size, field_count))
        return FIELDS_WRONG_SIZE;
    if (lead >= shape.element_bytes) return FIELDS_BAD_LEAD;
    where = extent_of(frame.size, lead, &shape);
    if (!where.count) return FIELDS_DOES_NOT_PAY;
    room = fields_reserve(work, 3 * frame.size + 2 * SLACK);
    if (!room) return FIELDS_NO_MEMORY;
    stream = room + frame.size;
    store32(at, (uint32_t)frame.size);
    store16(at + 4, (uint16_t)where.lead);
    at[6] = (uint8_t)field_count;
    at += FIXED_BYTES;
    memcpy(at, descriptions, FIELDS_DESCRIPTION_BYTES * field_count);
    at += FIELDS_DESCRIPTION_BYTES * field_count;
    memcpy(at, frame.bytes, where.lead);
    at += where.lead;
    memcpy(at, frame.bytes + frame.size - where.tail, where.tail);
    at += where.tail;
    for (size_t f = 0; f < field_count; f++) {
        const field *one = shape.fields + f;
        size_t count = where.count * one->words;
        split_field(path, &shape, one, frame.bytes + where.lead, where.count, stream, room);
        for (unsigned k = 0; k < one->width; k++)
            at = put_plane(path, room + k * count, count, stream, at);
    }
    *written = (size_t)(at - out.bytes);
    return *written * 50 > frame.size * 49 ? FIELDS_DOES_NOT_PAY : FIELDS_OK;
}

/* --- decoding ------------------------------------------------------------------------------- */

/* One frame while it is being decoded. */
typedef struct {
    layout shape;
    extent where;
    const uint8_t *planes[MAX_PLANES];
    const uint8_t *at, *end;
    uint8_t *out, *room, *gathered;
    size_t next; /* plane to be read */
    fields_status status;
} frame;

static size_t plane_bytes(const frame *one, size_t plane) {
    size_t f = one->shape.field_count - 1;
    while (one->shape.fields[f].plane > plane) f--;
    return one->where.count * one->shape.fields[f].words;
}

static fields_status open_frame(frame *one, fields_input payload, fields_output out) {
    const uint8_t *at = payload.bytes, *end = at + payload.size;
    size_t lead, count;
    if (payload.size < FIXED_BYTES) return FIELDS_CUT_SHORT;
    lead = load16(at + 4);
    count = at[6];
    if (load32(at) != out.size || out.size > FIELDS_MAX_FRAME_BYTES) return FIELDS_WRONG_SIZE;
    at += FIXED_BYTES;
    if ((size_t)(end - at) < FIELDS_DESCRIPTION_BYTES * count) return FIELDS_CUT_SHORT;
    if (!read_layout(at, count, &one->shape)) return FIELDS_BAD_LAYOUT;
    at += FIELDS_DESCRIPTION_BYTES * count;
    if (lead >= one->shape.element_bytes || lead > out.size) return FIELDS_BAD_LEAD;
    one->where = extent_of(out.size, lead, &one->shape);
    if ((size_t)(end - at) < one->where.lead + one->where.tail) return FIELDS_CUT_SHORT;
    memcpy(out.bytes, at, one->where.lead);
    at += one->where.lead;
    memcpy(out.bytes + out.size - one->where.tail, at, one->where.tail);
    one->at = at + one->where.tail;
    one->end = end;
    one->out = out.bytes + one->where.lead;
    one->next = 0;
    return FIELDS_OK;
}

/* Read planes up to one that is entropy-coded. Returns 1 with `stream` set up, 0 at the frame's end
 * or at damage, which is in its status. */
static int next_stream(frame *one, rans_reader *stream, rans_decoder *table) {
    while (one->status == FIELDS_OK && one->next < one->shape.plane_count) {
        size_t plane = one->next++, count = plane_bytes(one, plane);
        uint8_t tag;
        if (one->at == one->end) {
            one->status = FIELDS_CUT_SHORT;
            return 0;
        }
        tag = *one->at++;
        if (tag == TAG_RAW) {
            if ((size_t)(one->end - one->at) < count) one->status = FIELDS_CUT_SHORT;
            one->planes[plane] = one->at;
            one->at += one->status == FIELDS_OK ? count : 0;
            continue;
        }
        one->planes[plane] = one->room;
        if (tag == TAG_CONSTANT) {
            if (one->at == one->end) {
                one->status = FIELDS_CUT_SHORT;
                return 0;
            }
            memset(one->room, *one->at++, count);
        } else if (tag == TAG_RANS) {
            one->status = rans_open(stream, table, &one->at, one->end, one->room, count);
        } else {
            one->status = FIELDS_BAD_TAG;
        }
        one->room += count;
        if (tag == TAG_RANS) return one->status == FIELDS_OK;
    }
    if (one->status == FIELDS_OK && one->at != one->end) one->status = FIELDS_TRAILING_BYTES;
    return 0;
}

static void close_frame(const fields_path *path, const frame *one) {
    for (size_t f = 0; f < one->shape.field_count; f++) {
        const field *part = one->shape.fields + f;
        const uint8_t *const *planes = one->planes + part->plane;
        size_t bytes = part->width * part->words, words = one->where.count * part->words;
        if (bytes == one->shape.element_bytes) {
            path->join(one->out, words, part->width, part->rotated, planes);
            continue;
        }
        if (part->width > 1)
            path->join(one->gathered, words, part->width, part->rotated, planes);
        scatter(one->out + part->offset, one->where.count, one->shape.element_bytes, bytes,
                part->width > 1 ? one->gathered : planes[0]);
    }
}

static void decode_streams(const fields_path *path, frame *frames, size_t count) {
    rans_decoder tables[2];
    rans_reader streams[2];
    frame *owners[2];
    for (;;) {
        size_t open = 0;
        /* One stream of each frame if both have one, else two of the same. */
        for (size_t turn = 0; turn < 2; turn++)
            for (size_t f = 0; f < count && open < 2; f++)
                if (next_stream(frames + f, streams + open, tables + open))
                    owners[open++] = frames + f;
        if (!open) return;
        if (open == 2) path->advance_two(streams, streams + 1);
        else path->advance(streams);
        for (size_t k = 0; k < open; k++) {
            fields_status status = rans_finish(streams + k);
            if (status != FIELDS_OK) owners[k]->status = status;
        }
    }
}

void fields_decode(const fields_path *path, fields_workspace *work, size_t count,
                   const fields_input *payloads, const fields_output *outs,
                   fields_status *statuses) {
    while (count) {
        frame frames[2];
        size_t together = count < 2 ? count : 2, size = SLACK;
        uint8_t *room;
        for (size_t k = 0; k < together; k++) {
            frames[k].status = open_frame(frames + k, payloads[k], outs[k]);
            size += frames[k].status == FIELDS_OK ? 2 * outs[k].size : 0;
        }
        room = fields_reserve(work, size);
        for (size_t k = 0; k < together; k++) {
            if (frames[k].status != FIELDS_OK) continue;
            if (!room) {
                frames[k].status = FIELDS_NO_MEMORY;
                continue;
            }
            frames[k].room = room;
            frames[k].gathered = room + outs[k].size;
            room += 2 * outs[k].size;
        }
        decode_streams(path, frames, together);
        for (size_t k = 0; k < together; k++) {
            statuses[k] = frames[k].status;
            if (statuses[k] == FIELDS_OK) close_frame(path, frames + k);
        }
        count -= together;
        payloads += together;
        outs += together;
        statuses += together;
    }
}

const char *fields_path_name(const fields_path *path) { return path->name; }

const fields_path *const *fields_paths(void) {
    static const fields_path *const every[] = {
#if defined(__x86_64__)
        &fields_path_avx2,
#endif
#if defined(__aarch64__)
        &fields_path_neon,
#endif
        &fields_path_scalar,
        NULL,
    };
    const fields_path *const *usable = every;
    while (!(*usable)->usable()) usable++;
    return usable;
}
