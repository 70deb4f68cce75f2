/* rANS with a 12-bit model and 32 interleaved states (Duda 2013; the interleaving after Giesen 2014).
 *
 * Symbol i belongs to state i % 32. A state lies in [2^15, 2^31) and takes in 16 bits at a time. The
 * encoder goes backwards from states of 2^15, so a decoder that has read everything must find exactly
 * these states again, which is how it knows damage.
 */
#ifndef HARTONOMOUS_RANS_H
#define HARTONOMOUS_RANS_H

#include "fields.h"

#include <string.h>

#define RANS_LANES 32
#define RANS_BITS 12
#define RANS_TOTAL (1u << RANS_BITS)
#define RANS_LOW (1u << 15)
#define RANS_STATE_BYTES (4 * RANS_LANES)
#define RANS_GROUP_BYTES (2 * RANS_LANES) /* the most that 32 symbols take from a stream */
#define RANS_MAX_TABLE_BYTES (4 + 32 + 2 * 256)

/* For each symbol: how to divide by its frequency, and where its share begins. */
typedef struct {
    uint32_t reciprocal[256];
    uint32_t packed[256]; /* bias (13 bits), frequency (12), shift (4) */
} rans_encoder;

/* For each slot: frequency (12 bits), slot minus the share's beginning (12), symbol (8). */
typedef struct {
    uint32_t slots[RANS_TOTAL];
} rans_decoder;

/* A stream while it is being decoded; `done` of `count` symbols are out. Where `contexts` is not NULL
 * symbol i is coded by table contexts[i] of those that `slots` begins with. */
typedef struct {
    uint32_t states[RANS_LANES];
    const uint8_t *at, *end;
    const uint32_t *slots;
    const uint8_t *contexts;
    uint8_t *out;
    size_t done, count;
} rans_reader;

/* A type of elements whose differences are coded: bytes of an element, bits of its mantissa. */
typedef struct {
    unsigned width, mantissa;
} difference_kind;

/* What is found of a frame's elements: see delta.c. */
typedef struct {
    uint8_t *symbols, *rows; /* of the elements in live blocks, one after the other */
    uint8_t *differences;    /* of these, 2 or 4 bytes each */
    uint8_t *live;           /* of each block, 1 where not all of its differences are 0 */
    size_t count, changed;   /* elements in live blocks; those whose difference is not 0 */
    unsigned top;            /* given */
} measured;

struct fields_path {
    const char *name;
    int (*usable)(void);
    /* Write the words of `count` symbols backwards, ending at `end`, the lanes' last states into
     * `states`; returns where the words begin. 16 bytes before that may be overwritten. Symbol i is
     * coded by tables[contexts[i]], or by tables[0] where `contexts` is NULL. */
    uint8_t *(*encode)(const rans_encoder *tables, const uint8_t *contexts, const uint8_t *symbols,
                       size_t count, uint32_t *states, uint8_t *end);
    /* Decode as many whole groups of 32 as can be read without looking at the stream's end. */
    void (*advance)(rans_reader *one);
    void (*advance_two)(rans_reader *one, rans_reader *other);
    /* Cut `count` words of `width` bytes (1, 2, 4, 8) into planes, most significant byte first, and
     * make them of planes again. */
    void (*split)(const uint8_t *words, size_t count, unsigned width, int rotated,
                  uint8_t *const *planes);
    void (*join)(uint8_t *words, size_t count, unsigned width, int rotated,
                 const uint8_t *const *planes);
    /* The loops over elements of differences.h. */
    void (*scale)(const difference_kind *kind, const uint8_t *from, size_t count, float factor,
                  uint8_t *out);
    void (*step)(const uint8_t *from, size_t count, const int32_t *steps, uint8_t *out);
    void (*sums)(const difference_kind *kind, const uint8_t *prediction, const uint8_t *elements,
                 size_t count, uint32_t *out);
    void (*measure)(const difference_kind *kind, const uint8_t *prediction, const uint8_t *elements,
                    size_t count, measured *out);
    uint8_t *(*pack)(const difference_kind *kind, const uint8_t *symbols,
                     const uint8_t *differences, size_t count, uint8_t *out);
    void (*place)(const difference_kind *kind, const uint8_t *prediction, size_t count,
                  unsigned top, const uint8_t *context_of, uint8_t *contexts);
    void (*restore)(const difference_kind *kind, const uint8_t *prediction, const uint8_t *symbols,
                    size_t count, const uint8_t *bits, uint64_t *bit, uint8_t *elements);
};

extern const fields_path fields_path_scalar;
#if defined(__x86_64__)
extern const fields_path fields_path_avx2;
#endif
#if defined(__aarch64__)
extern const fields_path fields_path_neon;
#endif

static inline uint16_t load16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, 2);
    return value;
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static inline void store16(uint8_t *at, uint16_t value) { memcpy(at, &value, 2); }
static inline void store32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

void rans_histogram(const uint8_t *symbols, size_t count, uint32_t counts[256]);

/* Scale counts of at least two different symbols to frequencies that add up to 4096. */
void rans_normalise(const uint32_t counts[256], uint64_t total, uint16_t frequencies[256]);

/* Write the table as it lies in a payload; returns its bytes. */
size_t rans_write_table(const uint16_t frequencies[256], uint8_t *out);

void rans_prepare_encoder(const uint16_t frequencies[256], rans_encoder *table);

/* Read a table's frequencies; returns where it ends, or NULL. */
const uint8_t *rans_read_table(const uint8_t *at, const uint8_t *end, uint16_t frequencies[256]);

void rans_prepare_decoder(const uint16_t frequencies[256], rans_decoder *table);

/* Read length and states; sets `one` up for `count` symbols and moves *at behind the stream. */
fields_status rans_start(rans_reader *one, const rans_decoder *tables, const uint8_t *contexts,
                         const uint8_t **at, const uint8_t *end, uint8_t *out, size_t count);

/* Read table, length, states; sets `one` up and moves *at behind the stream. */
fields_status rans_open(rans_reader *one, rans_decoder *table, const uint8_t **at,
                        const uint8_t *end, uint8_t *out, size_t count);

/* Decode what `advance` left, checking every read, and the states at the end. */
fields_status rans_finish(rans_reader *one);

#endif
