/* Bytes that were rounded from floats by scales (int8, uint8, FP8): "Rounded bytes" of
 * docs/format-quantised.md, and the fit of scales to both. Every operation is rounded once and sums are
 * taken in the order of the elements, so that numpy's are equal. Any bytes and floats give some result.
 */
#ifndef HARTONOMOUS_ROUNDED_H
#define HARTONOMOUS_ROUNDED_H

#include <stddef.h>
#include <stdint.h>

enum { ROUNDED_I8 = 1, ROUNDED_U8 = 2, ROUNDED_E4M3 = 3, ROUNDED_E5M2 = 4 };

#define ROUNDED_TABLE_BYTES 5 /* of a group of elements: the scale as float32, the zero point */

/* Which elements of a tensor share a scale; 0 columns: all. 0 rows or columns of a block: all of them. */
typedef struct {
    uint64_t columns; /* below 2^48 */
    uint32_t block_rows, block_columns;
} rounded_grid;

/* What a group is found to be; `rounded_fit` works on one of each. */
typedef struct {
    double inside, x, code, slope, square, zero, bottom, top, weight, ratio;
    float scales[2];
    size_t missed[2];
} rounded_group;

/* Say how many groups `count` elements from `position` on have; 0 where that is more than them. */
size_t rounded_groups(const rounded_grid *grid, uint64_t position, size_t count);

/* How many magnitudes the codes of a type have: as many as each of the tables of `rounded_steps`. */
size_t rounded_magnitudes(unsigned number);

/* Of each magnitude: its size, and where rounding to it begins and ends. */
typedef struct {
    const double *sizes, *lower, *upper;
} rounded_steps;

/* Find the scales and zero points that give most of `content` back; `groups` is memory for it. */
void rounded_fit(int wide, unsigned number, const rounded_grid *grid, uint64_t position,
                 const uint8_t *content, const float *values, size_t count,
                 const rounded_steps *steps, rounded_group *groups, uint8_t *table);

/* Round values by the scales of a table; `residual`, which may be NULL, is added to the codes. */
void rounded_codes(int wide, unsigned number, const rounded_grid *grid, uint64_t position,
                   const uint8_t *table, const float *values, const uint8_t *residual,
                   size_t count, uint8_t *out);

#endif
