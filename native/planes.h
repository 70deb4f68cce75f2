/* Words to byte planes and back. The same loops are compiled into each path, where the compiler makes
 * vectors of that path's instruction set of them. */
#ifndef HARTONOMOUS_PLANES_H
#define HARTONOMOUS_PLANES_H

#include "rans.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* A float turned left by one begins with its exponent, its sign stands last. */
#define TURNED_LEFT(word, bits) ((word) << 1 | (word) >> ((bits)-1))
#define TURNED_RIGHT(word, bits) ((word) >> 1 | (word) << ((bits)-1))

ALWAYS_INLINE void split_16(const uint8_t *restrict words, size_t count, int rotated,
                            uint8_t *restrict high, uint8_t *restrict low) {
    for (size_t i = 0; i < count; i++) {
        uint16_t word = load16(words + 2 * i);
        if (rotated) word = (uint16_t)TURNED_LEFT((uint32_t)word, 16);
        high[i] = (uint8_t)(word >> 8);
        low[i] = (uint8_t)word;
    }
}

ALWAYS_INLINE void join_16(uint8_t *restrict words, size_t count, int rotated,
                           const uint8_t *restrict high, const uint8_t *restrict low) {
    for (size_t i = 0; i < count; i++) {
        uint16_t word = (uint16_t)(high[i] << 8 | low[i]);
        if (rotated) word = (uint16_t)TURNED_RIGHT((uint32_t)word, 16);
        store16(words + 2 * i, word);
    }
}

ALWAYS_INLINE void split_32(const uint8_t *restrict words, size_t count, int rotated,
                            uint8_t *restrict a, uint8_t *restrict b, uint8_t *restrict c,
                            uint8_t *restrict d) {
    for (size_t i = 0; i < count; i++) {
        uint32_t word = load32(words + 4 * i);
        if (rotated) word = TURNED_LEFT(word, 32);
        a[i] = (uint8_t)(word >> 24);
        b[i] = (uint8_t)(word >> 16);
        c[i] = (uint8_t)(word >> 8);
        d[i] = (uint8_t)word;
    }
}

ALWAYS_INLINE void join_32(uint8_t *restrict words, size_t count, int rotated,
                           const uint8_t *restrict a, const uint8_t *restrict b,
                           const uint8_t *restrict c, const uint8_t *restrict d) {
    for (size_t i = 0; i < count; i++) {
        uint32_t word = (uint32_t)a[i] << 24 | (uint32_t)b[i] << 16 | (uint32_t)c[i] << 8 | d[i];
        if (rotated) word = TURNED_RIGHT(word, 32);
        store32(words + 4 * i, word);
    }
}

ALWAYS_INLINE void split_64(const uint8_t *restrict words, size_t count, int rotated,
                            uint8_t *const *planes) {
    for (size_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, words + 8 * i, 8);
        if (rotated) word = TURNED_LEFT(word, 64);
        for (unsigned k = 0; k < 8; k++) planes[k][i] = (uint8_t)(word >> (56 - 8 * k));
    }
}

ALWAYS_INLINE void join_64(uint8_t *restrict words, size_t count, int rotated,
                           const uint8_t *const *planes) {
    for (size_t i = 0; i < count; i++) {
        uint64_t word = 0;
        for (unsigned k = 0; k < 8; k++) word = word << 8 | planes[k][i];
        if (rotated) word = TURNED_RIGHT(word, 64);
        memcpy(words + 8 * i, &word, 8);
    }
}

ALWAYS_INLINE void split_words(const uint8_t *words, size_t count, unsigned width, int rotated,
                               uint8_t *const *planes) {
    if (width == 1) memcpy(planes[0], words, count);
    else if (width == 2 && rotated) split_16(words, count, 1, planes[0], planes[1]);
    else if (width == 2) split_16(words, count, 0, planes[0], planes[1]);
    else if (width == 4 && rotated)
        split_32(words, count, 1, planes[0], planes[1], planes[2], planes[3]);
    else if (width == 4) split_32(words, count, 0, planes[0], planes[1], planes[2], planes[3]);
    else split_64(words, count, rotated, planes);
}

ALWAYS_INLINE void join_words(uint8_t *words, size_t count, unsigned width, int rotated,
                              const uint8_t *const *planes) {
    if (width == 1) memcpy(words, planes[0], count);
    else if (width == 2 && rotated) join_16(words, count, 1, planes[0], planes[1]);
    else if (width == 2) join_16(words, count, 0, planes[0], planes[1]);
    else if (width == 4 && rotated)
        join_32(words, count, 1, planes[0], planes[1], planes[2], planes[3]);
    else if (width == 4) join_32(words, count, 0, planes[0], planes[1], planes[2], planes[3]);
    else join_64(words, count, rotated, planes);
}

#endif
