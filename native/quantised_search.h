/* ggml's search for the scales of a block of 256 without importance matrix, sum for sum. */
#ifndef HARTONOMOUS_QUANTISED_SEARCH_H
#define HARTONOMOUS_QUANTISED_SEARCH_H

#include "blocks.h"

/* Q4_K, Q5_K and Q2_K (n is 32, 32, 16; most 15, 31, 3; steps 63, 63, 15): scales and minima, and the
 * codes that stay where a scale is 0. */
void search_minima(const float *x, int n, int most, int steps, block_parts *out);

/* Q3_K and Q6_K (half is 4, 32; steps 32, 128): scales as they are stored, and such codes. */
void search_symmetric(const float *x, int half, int steps, block_parts *out);

#endif
