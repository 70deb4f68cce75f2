/* Elements are taken in runs that share a scale: within a run a loop has nothing but the elements. */
#include "rounded.h"

#include "planes.h"

#include <math.h>
#include <string.h>

#define AT_ONCE 1024 /* codes that are compared at once */

/* Where the next run begins. */
typedef struct {
    uint64_t row, column, first_block;
} place;

static uint64_t across(const rounded_grid *grid) {
    if (!grid->columns || !grid->block_columns) return 1;
    return (grid->columns + grid->block_columns - 1) / grid->block_columns;
}

static uint64_t row_block(const rounded_grid *grid, uint64_t at) {
    return grid->columns && grid->block_rows ? at / grid->columns / grid->block_rows : 0;
}

size_t rounded_groups(const rounded_grid *grid, uint64_t position, size_t count) {
    const uint64_t last = position + (count ? count : 1) - 1;
    const uint64_t rows = row_block(grid, last) - row_block(grid, position) + 1;
    uint64_t groups;
    if (grid->columns >> 48 || last < position) return 0;
    if (__builtin_mul_overflow(rows, across(grid), &groups)) return 0;
    return groups > (count ? count : 1) ? 0 : (size_t)groups;
}

static place begin(const rounded_grid *grid, uint64_t position) {
    place out = {0, 0, row_block(grid, position)};
    if (grid->columns) {
        out.row = position / grid->columns;
        out.column = position % grid->columns;
    }
    return out;
}

/* Return how many of the next `left` elements share a group, and which; go on behind them. */
static size_t next_run(const rounded_grid *grid, place *at, size_t left, size_t *group) {
    uint64_t stop = grid->columns, length;
    *group = 0;
    if (!grid->columns || (!grid->block_rows && !grid->block_columns)) return left;
    if (grid->block_rows)
        *group = (size_t)((at->row / grid->block_rows - at->first_block) * across(grid));
    if (grid->block_columns) {
        const uint64_t block = at->column / grid->block_columns;
        *group += (size_t)block;
        stop = (block + 1) * grid->block_columns;
        if (stop > grid->columns) stop = grid->columns;
    }
    length = stop - at->column;
    if (length > left) return left; /* the last one */
    at->column = stop == grid->columns ? 0 : stop;
    at->row += stop == grid->columns;
    return (size_t)length;
}

/* --- codes ----------------------------------------------------------------------------------- */

ALWAYS_INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* To an integer, ties to even; for magnitudes below 2^22. */
ALWAYS_INLINE float nearest(float value) { return (value + 0x1.8p23f) - 0x1.8p23f; }

/* Beyond 1024 every zero point leaves a code outside the type; NaN goes to the smallest. */
ALWAYS_INLINE uint8_t integer_code(float value, float zero, float low, float high) {
    value = value > -1024.0f ? value : -1024.0f;
    value = value < 1024.0f ? value : 1024.0f;
    value = nearest(value) + zero;
    value = value > low ? value : low;
    value = value < high ? value : high;
    return (uint8_t)(int32_t)value;
}

ALWAYS_INLINE uint8_t float_code(float value, int mantissa, int bias, int32_t largest) {
    const int drop = 23 - mantissa;
    const uint32_t bits = bits_of(value), size = bits & 0x7fffffff;
    const float whole = value < 0 ? -value : value, unit = (float)(1 << (bias - 1 + mantissa));
    const float few = nearest((whole < 1.0f ? whole : 1.0f) * unit);
    const uint32_t rounded = (size + ((1u << (drop - 1)) - 1) + (size >> drop & 1)) >> drop;
    int32_t code = (int32_t)rounded - ((127 - bias) << mantissa);
    code = size < (uint32_t)(128 - bias) << 23 ? (int32_t)few : code;
    code = code < largest ? code : largest;
    code = size > 0x7f800000 ? 0x7f : code;
    return (uint8_t)(code | (int32_t)(bits >> 24 & 0x80));
}

/* Codes of a run. */
ALWAYS_INLINE void run_codes(unsigned number, float scale, uint8_t zero,
                             const float *restrict values, size_t count, uint8_t *restrict out) {
    const float shift = number == ROUNDED_I8 ? (float)(int8_t)zero : (float)zero;
    switch (number) {
    case ROUNDED_I8:
        for (size_t k = 0; k < count; k++)
            out[k] = integer_code(values[k] / scale, shift, -128.0f, 127.0f);
        break;
    case ROUNDED_U8:
        for (size_t k = 0; k < count; k++)
            out[k] = integer_code(values[k] / scale, shift, 0.0f, 255.0f);
        break;
    case ROUNDED_E4M3:
        for (size_t k = 0; k < count; k++) out[k] = float_code(values[k] / scale, 3, 7, 0x7e);
        break;
    default:
        for (size_t k = 0; k < count; k++) out[k] = float_code(values[k] / scale, 2, 15, 0x7b);
    }
}

ALWAYS_INLINE void all_codes(unsigned number, const rounded_grid *grid, uint64_t position,
                             const uint8_t *table, const float *values, const uint8_t *residual,
                             size_t count, uint8_t *out) {
    place at = begin(grid, position);
    for (size_t done = 0, group, length; done < count; done += length) {
        float scale;
        length = next_run(grid, &at, count - done, &group);
        memcpy(&scale, table + ROUNDED_TABLE_BYTES * group, 4);
        run_codes(number, scale, table[ROUNDED_TABLE_BYTES * group + 4], values + done, length,
                  out + done);
    }
    if (residual)
        for (size_t k = 0; k < count; k++) out[k] = (uint8_t)(out[k] + residual[k]);
}

/* --- fit ------------------------------------------------------------------------------------- */

ALWAYS_INLINE double finite_value(float value) {
    return (bits_of(value) & 0x7f800000) == 0x7f800000 ? 0.0 : (double)value;
}

ALWAYS_INLINE double size_of(float value) { return fabs(finite_value(value)); }

typedef struct {
    const uint8_t *content;
    const float *values;
    size_t count;
    rounded_group *group;
} run;

ALWAYS_INLINE double code_of(unsigned number, uint8_t byte) {
    return number == ROUNDED_I8 ? (double)(int8_t)byte : (double)byte;
}

ALWAYS_INLINE void add_means(unsigned number, double low, double high, run one) {
    rounded_group g = *one.group;
    for (size_t k = 0; k < one.count; k++) {
        const double code = code_of(number, one.content[k]), x = finite_value(one.values[k]);
        const double inside = code > low && code < high ? 1.0 : 0.0;
        g.inside += inside;
        g.x += x * inside;
        g.code += code * inside;
    }
    *one.group = g;
}

ALWAYS_INLINE void add_slope(unsigned number, double low, double high, run one) {
    rounded_group g = *one.group;
    for (size_t k = 0; k < one.count; k++) {
        const double code = code_of(number, one.content[k]), x = finite_value(one.values[k]);
        const double apart = (x - g.x) * (code > low && code < high ? 1.0 : 0.0);
        g.slope += apart * code;
        g.square += apart * apart;
    }
    *one.group = g;
}

ALWAYS_INLINE void add_bounds(unsigned number, double low, double high,
                              const rounded_steps *steps, run one) {
    rounded_group g = *one.group;
    for (size_t k = 0; k < one.count; k++) {
        const uint8_t byte = one.content[k];
        const double size = size_of(one.values[k]), code = code_of(number, byte);
        const int whole = number == ROUNDED_I8 || number == ROUNDED_U8;
        const size_t m = whole ? (size_t)fabs(code - g.zero) : (size_t)(byte & 0x7f);
        const double unit = steps->sizes[m];
        if (!(whole && (code == low || code == high))) {
            const double least = size / steps->upper[m];
            g.bottom = least > g.bottom ? least : g.bottom;
        }
        if (m && size != 0) {
            const double most = size / steps->lower[m];
            g.top = most < g.top ? most : g.top;
        }
        g.weight += unit * unit;
        g.ratio += size * unit;
    }
    *one.group = g;
}

ALWAYS_INLINE void count_missed(unsigned number, run one) {
    uint8_t codes[AT_ONCE];
    for (size_t done = 0; done < one.count; done += AT_ONCE) {
        const size_t count = one.count - done < AT_ONCE ? one.count - done : AT_ONCE;
        for (int which = 0; which < 2; which++) {
            size_t missed = 0;
            run_codes(number, one.group->scales[which], (uint8_t)(int32_t)one.group->zero,
                      one.values + done, count, codes);
            for (size_t k = 0; k < count; k++) missed += codes[k] != one.content[done + k];
            one.group->missed[which] += missed;
        }
    }
}

enum { MEANS, SLOPES, BOUNDS, MISSED };

ALWAYS_INLINE void go_through(int what, unsigned number, const rounded_grid *grid,
                              uint64_t position, const uint8_t *content, const float *values,
                              size_t count, const rounded_steps *steps, rounded_group *groups) {
    const double low = number == ROUNDED_I8 ? -128 : 0, high = number == ROUNDED_I8 ? 127 : 255;
    place at = begin(grid, position);
    for (size_t done = 0, group, length; done < count; done += length) {
        run one;
        length = next_run(grid, &at, count - done, &group);
        one = (run){content + done, values + done, length, groups + group};
        if (what == MEANS) add_means(number, low, high, one);
        else if (what == SLOPES) add_slope(number, low, high, one);
        else if (what == BOUNDS) add_bounds(number, low, high, steps, one);
        else count_missed(number, one);
    }
}

static void find_zero(unsigned number, rounded_group *g) {
    const double low = number == ROUNDED_I8 ? -128 : 0, high = number == ROUNDED_I8 ? 127 : 255;
    double found = rint(g->code - g->slope / g->square * g->x);
    if (!isfinite(found)) found = 0;
    found = found < low ? low : found;
    g->zero = found > high ? high : found;
}

static float usable(double scale) {
    const float found = (float)(scale > 0 ? scale : 1.0);
    return isfinite(found) ? found : 1.0f;
}

ALWAYS_INLINE void fit_all(unsigned number, const rounded_grid *grid, uint64_t position,
                           const uint8_t *content, const float *values, size_t count,
                           const rounded_steps *steps, rounded_group *groups, uint8_t *table) {
    const size_t most = rounded_groups(grid, position, count);
    memset(groups, 0, most * sizeof *groups);
    if (number == ROUNDED_I8 || number == ROUNDED_U8) {
        go_through(MEANS, number, grid, position, content, values, count, steps, groups);
        for (size_t k = 0; k < most; k++) {
            groups[k].x /= groups[k].inside;
            groups[k].code /= groups[k].inside;
        }
        go_through(SLOPES, number, grid, position, content, values, count, steps, groups);
        for (size_t k = 0; k < most; k++) find_zero(number, groups + k);
    }
    for (size_t k = 0; k < most; k++) groups[k].top = INFINITY;
    go_through(BOUNDS, number, grid, position, content, values, count, steps, groups);
    for (size_t k = 0; k < most; k++) {
        rounded_group *g = groups + k;
        g->scales[0] = usable(g->top < INFINITY ? (g->bottom + g->top) / 2 : 2 * g->bottom);
        g->scales[1] = usable(g->ratio / g->weight);
    }
    go_through(MISSED, number, grid, position, content, values, count, steps, groups);
    for (size_t k = 0; k < most; k++, table += ROUNDED_TABLE_BYTES) {
        memcpy(table, groups[k].scales + (groups[k].missed[0] > groups[k].missed[1]), 4);
        table[4] = (uint8_t)(int32_t)groups[k].zero;
    }
}

/* --- paths ----------------------------------------------------------------------------------- */

size_t rounded_magnitudes(unsigned number) {
    if (number == ROUNDED_I8 || number == ROUNDED_U8) return 256;
    return number == ROUNDED_E4M3 || number == ROUNDED_E5M2 ? 128 : 0;
}

/* The compiler makes a loop for each type, for the machine's vectors. */
#define OF_TYPE(work, ...)                                            \
    switch (number) {                                                 \
    case ROUNDED_I8: work(ROUNDED_I8, __VA_ARGS__); break;            \
    case ROUNDED_U8: work(ROUNDED_U8, __VA_ARGS__); break;            \
    case ROUNDED_E4M3: work(ROUNDED_E4M3, __VA_ARGS__); break;        \
    case ROUNDED_E5M2: work(ROUNDED_E5M2, __VA_ARGS__); break;        \
    }

#define FIT_ARGUMENTS                                                                        \
    unsigned number, const rounded_grid *grid, uint64_t position, const uint8_t *content,    \
        const float *values, size_t count, const rounded_steps *steps, rounded_group *groups, \
        uint8_t *table
#define CODES_ARGUMENTS                                                                   \
    unsigned number, const rounded_grid *grid, uint64_t position, const uint8_t *table,   \
        const float *values, const uint8_t *residual, size_t count, uint8_t *out

static void fit_narrow(FIT_ARGUMENTS) {
    OF_TYPE(fit_all, grid, position, content, values, count, steps, groups, table)
}

static void codes_narrow(CODES_ARGUMENTS) {
    OF_TYPE(all_codes, grid, position, table, values, residual, count, out)
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void fit_wide(FIT_ARGUMENTS) {
    OF_TYPE(fit_all, grid, position, content, values, count, steps, groups, table)
}

__attribute__((target("avx2"))) static void codes_wide(CODES_ARGUMENTS) {
    OF_TYPE(all_codes, grid, position, table, values, residual, count, out)
}
#endif

void rounded_fit(int wide, FIT_ARGUMENTS) {
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx2")) {
        fit_wide(number, grid, position, content, values, count, steps, groups, table);
        return;
    }
#endif
    (void)wide;
    fit_narrow(number, grid, position, content, values, count, steps, groups, table);
}

void rounded_codes(int wide, CODES_ARGUMENTS) {
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx2")) {
        codes_wide(number, grid, position, table, values, residual, count, out);
        return;
    }
#endif
    (void)wide;
    codes_narrow(number, grid, position, table, values, residual, count, out);
}
