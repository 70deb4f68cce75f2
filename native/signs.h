/* Signs of sketches, 256 bits each, compared with those of one or of many: what a base search
 * scans. */
#ifndef HARTONOMOUS_SIGNS_H
#define HARTONOMOUS_SIGNS_H

#include <stddef.h>
#include <stdint.h>

enum { SIGN_WORDS = 4, SIGN_LIMITS = 64 * SIGN_WORDS + 1 };

/* Find the columns of `words` that are near to `wanted`: word w of column k is words[w][k].
 *
 * Near is a Hamming distance of at most limits[bits that the column has set]. Writes the numbers of
 * the columns, ascending, and their distances, and returns how many there are; both outputs have
 * room for `count`. `wide`: with the machine's vectors; the results are the same. */
size_t near_columns(int wide, const uint64_t *const words[SIGN_WORDS], size_t count,
                    const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                    int64_t *columns, int64_t *distances);

/* Several sketches and `count` columns they are compared with: sketch i is wanted[4 i] and on, with
 * limits[257 i] and on, of which most[i] is the greatest. */
typedef struct {
    const uint64_t *words[SIGN_WORDS];
    size_t count, many;
    const uint64_t *wanted;
    const int16_t *limits, *most;
} sign_query;

/* Set found[i] to 1 where a column is near to sketch i, else to 0. */
void any_near(int wide, const sign_query *query, uint8_t *found);

#endif
