/* The loop over a block has no branch, so that compilers make vectors of it where these count bits;
 * what is near is rare, and is looked for only in a block that has some. */
#include "signs.h"

#include "planes.h"

#define BLOCK 512

/* Compare `size` columns from `start` on: their distances, and the least of them. */
ALWAYS_INLINE int64_t compare(const uint64_t *const words[SIGN_WORDS], size_t start, size_t size,
                              const uint64_t wanted[SIGN_WORDS], int64_t apart[BLOCK]) {
    const uint64_t a = wanted[0], b = wanted[1], c = wanted[2], d = wanted[3];
    const uint64_t *p = words[0] + start, *q = words[1] + start;
    const uint64_t *r = words[2] + start, *s = words[3] + start;
    int64_t least = 64 * SIGN_WORDS + 1;
    for (size_t k = 0; k < size; k++) {
        const int64_t one = __builtin_popcountll(p[k] ^ a) + __builtin_popcountll(q[k] ^ b) +
                            __builtin_popcountll(r[k] ^ c) + __builtin_popcountll(s[k] ^ d);
        apart[k] = one;
        least = one < least ? one : least;
    }
    return least;
}

/* The bits that a column has set. */
ALWAYS_INLINE int bits_of(const uint64_t *const words[SIGN_WORDS], size_t column) {
    int ones = 0;
    for (int w = 0; w < SIGN_WORDS; w++) ones += __builtin_popcountll(words[w][column]);
    return ones;
}

ALWAYS_INLINE size_t scan(const uint64_t *const words[SIGN_WORDS], size_t count,
                          const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                          int64_t *columns, int64_t *distances) {
    int64_t most = -1;
    size_t found = 0;
    for (size_t k = 0; k < SIGN_LIMITS; k++) most = limits[k] > most ? limits[k] : most;
    for (size_t start = 0, size; start < count; start += size) {
        int64_t apart[BLOCK];
        size = count - start < BLOCK ? count - start : BLOCK;
        if (compare(words, start, size, wanted, apart) > most) continue;
        for (size_t k = 0; k < size; k++) {
            if (apart[k] > limits[bits_of(words, start + k)]) continue;
            columns[found] = (int64_t)(start + k);
            distances[found++] = apart[k];
        }
    }
    return found;
}

/* A block of columns is compared with all sketches while it lies in the first cache. */
ALWAYS_INLINE void scan_many(const sign_query *query, uint8_t *found) {
    for (size_t start = 0, size; start < query->count; start += size) {
        size = query->count - start < BLOCK ? query->count - start : BLOCK;
        for (size_t i = 0; i < query->many; i++) {
            const int16_t *limits = query->limits + i * SIGN_LIMITS;
            int64_t apart[BLOCK];
            if (found[i] || compare(query->words, start, size, query->wanted + i * SIGN_WORDS,
                                    apart) > query->most[i])
                continue;
            for (size_t k = 0; k < size && !found[i]; k++)
                found[i] = apart[k] <= limits[bits_of(query->words, start + k)];
        }
    }
}

typedef size_t scanning(const uint64_t *const words[SIGN_WORDS], size_t count,
                        const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                        int64_t *columns, int64_t *distances);

static size_t scan_narrow(const uint64_t *const words[SIGN_WORDS], size_t count,
                          const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                          int64_t *columns, int64_t *distances) {
    return scan(words, count, wanted, limits, columns, distances);
}

typedef void scanning_many(const sign_query *query, uint8_t *found);

static void many_narrow(const sign_query *query, uint8_t *found) { scan_many(query, found); }

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static size_t
scan_counting(const uint64_t *const words[SIGN_WORDS], size_t count,
              const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
              int64_t *columns, int64_t *distances) {
    return scan(words, count, wanted, limits, columns, distances);
}

__attribute__((target("popcnt,avx512f,avx512vpopcntdq"))) static size_t
scan_vectors(const uint64_t *const words[SIGN_WORDS], size_t count,
             const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
             int64_t *columns, int64_t *distances) {
    return scan(words, count, wanted, limits, columns, distances);
}

__attribute__((target("popcnt"))) static void many_counting(const sign_query *query,
                                                            uint8_t *found) {
    scan_many(query, found);
}

__attribute__((target("popcnt,avx512f,avx512vpopcntdq"))) static void
many_vectors(const sign_query *query, uint8_t *found) {
    scan_many(query, found);
}

static scanning *chosen(int wide) {
    if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"))
        return scan_vectors;
    return wide && __builtin_cpu_supports("popcnt") ? scan_counting : scan_narrow;
}

static scanning_many *chosen_many(int wide) {
    if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"))
        return many_vectors;
    return wide && __builtin_cpu_supports("popcnt") ? many_counting : many_narrow;
}
#else
static scanning *chosen(int wide) {
    (void)wide;
    return scan_narrow;
}

static scanning_many *chosen_many(int wide) {
    (void)wide;
    return many_narrow;
}
#endif

size_t near_columns(int wide, const uint64_t *const words[SIGN_WORDS], size_t count,
                    const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                    int64_t *columns, int64_t *distances) {
    return chosen(wide)(words, count, wanted, limits, columns, distances);
}

void any_near(int wide, const sign_query *query, uint8_t *found) {
    for (size_t i = 0; i < query->many; i++) found[i] = 0;
    chosen_many(wide)(query, found);
}
