/* What writing and reading frames of DELTA share: a frame's parts, and the scaled prediction. */
#ifndef HARTONOMOUS_DELTA_FRAMES_H
#define HARTONOMOUS_DELTA_FRAMES_H

#include "delta.h"
#include "differences.h"

enum { FORM_LISTED = 1, FORM_CODED = 2 };
enum { SCALED_NONE = 0, SCALED_ALL = 1, SCALED_BLOCKS = 2 };
enum { HAS_LIVE = 0x40, BY_STEPS = 0x80 };

#define MAX_CONTEXTS 16
#define SLACK 64
#define STEPS_BYTES (2 * STEPS)

static const difference_kind KINDS[DELTA_KINDS] = {{2, 7}, {2, 10}, {4, 23}};

/* What a frame is cut into; `count` whole elements in `blocks` blocks. */
typedef struct {
    size_t lead, count, tail, blocks, bitmap_bytes;
} shape;

static inline shape shape_of(size_t size, size_t lead, unsigned width) {
    shape out;
    out.lead = lead > size ? size : lead;
    out.count = (size - out.lead) / width;
    out.tail = size - out.lead - out.count * width;
    out.blocks = (out.count + BLOCK_ELEMENTS - 1) / BLOCK_ELEMENTS;
    out.bitmap_bytes = (out.blocks + 7) / 8;
    return out;
}

static inline size_t block_elements(const shape *of, size_t block) {
    return block + 1 < of->blocks ? BLOCK_ELEMENTS : of->count - block * BLOCK_ELEMENTS;
}

/* Cut room for parts from a workspace; each part has slack behind it and is aligned. */
typedef struct {
    uint8_t *bytes; /* NULL where only the size is asked for */
    size_t used;
} room;

static inline uint8_t *part(room *of, size_t size) {
    uint8_t *out = of->bytes ? of->bytes + of->used : NULL;
    of->used += (size + SLACK + 63) / 64 * 64;
    return out;
}

static inline int is_normal(uint32_t bits) { return (bits >> 23 & 255) && (bits >> 23 & 255) < 255; }

/* How the elements of scaled blocks are predicted: by a factor, or by steps. */
typedef struct {
    unsigned mode, by_steps;
    float factor;
    int32_t steps[STEPS];
} scaling;

static inline void scale_some(const fields_path *path, const difference_kind *kind, const scaling *by,
                       const uint8_t *from, size_t count, uint8_t *out) {
    if (by->by_steps) path->step(from, count, by->steps, out);
    else path->scale(kind, from, count, by->factor, out);
}

/* Scale the blocks that `bitmap` names, copy the others. */
static inline void scale_blocks(const fields_path *path, const difference_kind *kind, const shape *of,
                         const scaling *by, const uint8_t *bitmap, const uint8_t *prediction,
                         uint8_t *out) {
    for (size_t b = 0; b < of->blocks; b++) {
        const size_t at = kind->width * b * BLOCK_ELEMENTS, some = block_elements(of, b);
        if (!bitmap || bitmap[b >> 3] >> (b & 7) & 1)
            scale_some(path, kind, by, prediction + at, some, out + at);
        else memcpy(out + at, prediction + at, kind->width * some);
    }
}

#endif
