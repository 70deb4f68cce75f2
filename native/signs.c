/* The loop over a block has no branch, so that compilers make vectors of it where these count bits;
 * what is near is rare, and is looked for only in a block that has some. */
#include "signs.h"

#include "planes.h"

#define BLOCK 512

ALWAYS_INLINE size_t scan(const uint64_t *const words[SIGN_WORDS], size_t count,
                          const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                          int64_t *columns, int64_t *distances) {
    const uint64_t a = wanted[0], b = wanted[1], c = wanted[2], d = wanted[3];
    int64_t most = -1;
    size_t found = 0;
    for (size_t k = 0; k < SIGN_LIMITS; k++) most = limits[k] > most ? limits[k] : most;
    for (size_t start = 0, size; start < count; start += size) {
        const uint64_t *p = words[0] + start, *q = words[1] + start;
        const uint64_t *r = words[2] + start, *s = words[3] + start;
        int64_t apart[BLOCK], least = 64 * SIGN_WORDS + 1;
        size = count - start < BLOCK ? count - start : BLOCK;
        for (size_t k = 0; k < size; k++) {
            const int64_t one = __builtin_popcountll(p[k] ^ a) + __builtin_popcountll(q[k] ^ b) +
                                __builtin_popcountll(r[k] ^ c) + __builtin_popcountll(s[k] ^ d);
            apart[k] = one;
            least = one < least ? one : least;
        }
        if (least > most) continue;
        for (size_t k = 0; k < size; k++) {
            const int ones = __builtin_popcountll(p[k]) + __builtin_popcountll(q[k]) +
                             __builtin_popcountll(r[k]) + __builtin_popcountll(s[k]);
            if (apart[k] > limits[ones]) continue;
            columns[found] = (int64_t)(start + k);
            distances[found++] = apart[k];
        }
    }
    return found;
}

typedef size_t scanning(const uint64_t *const words[SIGN_WORDS], size_t count,
                        const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                        int64_t *columns, int64_t *distances);

static size_t scan_narrow(const uint64_t *const words[SIGN_WORDS], size_t count,
                          const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                          int64_t *columns, int64_t *distances) {
    return scan(words, count, wanted, limits, columns, distances);
}

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

static scanning *chosen(int wide) {
    if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"))
        return scan_vectors;
    return wide && __builtin_cpu_supports("popcnt") ? scan_counting : scan_narrow;
}
#else
static scanning *chosen(int wide) {
    (void)wide;
    return scan_narrow;
}
#endif

size_t near_columns(int wide, const uint64_t *const words[SIGN_WORDS], size_t count,
                    const uint64_t wanted[SIGN_WORDS], const int16_t limits[SIGN_LIMITS],
                    int64_t *columns, int64_t *distances) {
    return chosen(wide)(words, count, wanted, limits, columns, distances);
}
