/* Blocks of ggml's quantised types from float values: the arithmetic of the encoding DERIVED, recipe 1,
 * as docs/format-quantised.md specifies it.
 *
 * A block is a few scales and one small code an element. Scales are predicted from the values' ranges,
 * codes from values and scales; what differs is the header's differences and the residual. Every
 * function works on `count` whole blocks, allocates nothing, and gives some result for any bytes and
 * any floats: NaN, infinities, and scales that no quantiser would write.
 */
#ifndef HARTONOMOUS_QUANTISED_H
#define HARTONOMOUS_QUANTISED_H

#include <stddef.h>
#include <stdint.h>

/* How scales and codes are predicted. */
enum {
    QUANTISED_REFERENCE = 0, /* as ggml's reference does: codes from scales before their rounding */
    QUANTISED_STORED = 1,    /* codes from the stored scales */
    QUANTISED_SEARCHED = 2   /* scales from ggml's search without importance matrix, then as STORED */
};

typedef struct {
    unsigned number; /* ggml's */
    unsigned elements, bytes; /* of a block */
    unsigned header;          /* bytes of a block's differences of scales */
    unsigned recipes;         /* bit r is set if recipe r exists */
} quantised_shape;

/* Return the shape of ggml's type of this number, NULL where it is not derived. */
const quantised_shape *quantised_shape_of(unsigned number);

/* Take blocks apart: differences of scales to `header`, of codes to `residual` (a byte an element).
 * Returns how many codes were not predicted. `wide`: with vectors of 256 bits, if the machine has
 * them; the results are the same. */
size_t quantised_split(int wide, const quantised_shape *shape, unsigned recipe,
                       const uint8_t *blocks, const float *source, size_t count, uint8_t *header,
                       uint8_t *residual);

/* Put blocks together again; `residual` is NULL where every code was predicted. */
void quantised_join(int wide, const quantised_shape *shape, unsigned recipe, const uint8_t *header,
                    const float *source, const uint8_t *residual, size_t count, uint8_t *blocks);

/* Return the values of blocks, as ggml's dequantize_row functions do. */
void quantised_values(int wide, const quantised_shape *shape, const uint8_t *blocks, size_t count,
                      float *values);

#endif
