/* Casts between float32 and the types of 16 bits, to the bit as docs/format-plans.md specifies them. */
#ifndef HARTONOMOUS_CASTS_H
#define HARTONOMOUS_CASTS_H

#include <stddef.h>
#include <stdint.h>

enum { CAST_F32_F16, CAST_F32_BF16, CAST_F16_F32, CAST_BF16_F32, CASTS };

/* What a NaN becomes in a type of fewer bits: "nan" of docs/format-plans.md. */
enum { NAN_QUIET, NAN_KEPT, NAN_SIGNED, NAN_CANONICAL, NAN_ONES, NAN_RULES };

/* Bytes of an element before and after a cast. */
size_t cast_source_bytes(unsigned cast);
size_t cast_target_bytes(unsigned cast);

/* Cast `count` elements, little-endian. `wide`: with the machine's vectors; the results are the same. */
void cast_values(int wide, unsigned cast, unsigned rule, const uint8_t *source, size_t count,
                 uint8_t *target);

#endif
