/* Port of ggml-quants.c (MIT, the ggml authors): quantize_row_q{2,3,4,5,6}_K_ref with make_qkx2_quants,
 * make_q3_quants and make_qx_quants. Sums run in the order of the elements and nothing is contracted,
 * so results equal a build of ggml that does the same. Integers are clipped before they are rounded,
 * which changes nothing but defines what NaN and infinities give. */
#include "quantised_search.h"

#include <math.h>

#define SMALLEST_PEAK 1e-15f

/* The nearest integer of a float within [low, high], halves to even; NaN gives `low`. */
static int nearest(float x, int low, int high) {
    int32_t bits;
    x = x > (float)low ? x : (float)low;
    x = x < (float)high ? x : (float)high;
    x += 12582912.0f;
    memcpy(&bits, &x, 4);
    return bits - 0x4b400000;
}

typedef struct {
    int n, most, tries, absolute; /* absolute: errors are not squared */
    float first, step;
} plan;

static float error_of(const plan *how, const float *x, const float *weights, const uint8_t *codes,
                      float scale, float low) {
    float sum = 0;
    for (int k = 0; k < how->n; k++) {
        float difference = scale * (float)codes[k] + low - x[k];
        difference = how->absolute ? fabsf(difference) : difference * difference;
        sum += weights[k] * difference;
    }
    return sum;
}

/* make_qkx2_quants: returns the scale, sets the depth and the codes. */
static float minima_scale(const plan *how, const float *x, const float *weights, float *depth,
                          uint8_t *codes) {
    const int n = how->n, most = how->most;
    float low = x[0], high = x[0], sum_w = weights[0], sum_x = sum_w * x[0], factor, scale, best;
    for (int k = 1; k < n; k++) {
        if (x[k] < low) low = x[k];
        if (x[k] > high) high = x[k];
        sum_w += weights[k];
        sum_x += weights[k] * x[k];
    }
    if (low > 0) low = 0;
    memset(codes, 0, (size_t)n);
    *depth = -low;
    if (high == low) return 0.0f;
    const float bottom = low, width = high - low;
    factor = (float)most / width;
    scale = 1 / factor;
    for (int k = 0; k < n; k++) codes[k] = (uint8_t)nearest(factor * (x[k] - bottom), 0, most);
    best = error_of(how, x, weights, codes, scale, low);
    for (int t = 0; t <= how->tries; t++) {
        uint8_t tried[32];
        float sum_l = 0, sum_l2 = 0, sum_xl = 0, divisor;
        factor = (how->first + how->step * (float)t + (float)most) / (high - low);
        for (int k = 0; k < n; k++) {
            float w = weights[k], l;
            tried[k] = (uint8_t)nearest(factor * (x[k] - low), 0, most);
            l = (float)tried[k];
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x[k];
        }
        divisor = sum_w * sum_l2 - sum_l * sum_l;
        if (divisor > 0) {
            float this_scale = (sum_w * sum_xl - sum_x * sum_l) / divisor;
            float this_low = (sum_l2 * sum_x - sum_l * sum_xl) / divisor, error;
            if (this_low > 0) {
                this_low = 0;
                this_scale = sum_xl / sum_l2;
            }
            error = error_of(how, x, weights, tried, this_scale, this_low);
            if (error < best) {
                memcpy(codes, tried, (size_t)n);
                best = error;
                scale = this_scale;
                low = this_low; /* as there: the next tries begin from it */
            }
        }
    }
    *depth = -low;
    return scale;
}

static void minima_weights(const float *x, int n, float *weights) {
    float sum = 0, mean = 0;
    if (n == 32) {
        for (int k = 0; k < n; k++) sum += x[k] * x[k];
        mean = sqrtf(sum / 32);
    }
    for (int k = 0; k < n; k++) weights[k] = n == 32 ? mean + fabsf(x[k]) : fabsf(x[k]);
}

void search_minima(const float *x, int n, int most, int steps, block_parts *out) {
    const plan how = {n, most, most == 15 ? 20 : 15, n == 16, most == 15 ? -1.0f : -0.5f, 0.1f};
    const float top = (float)steps;
    float scales[16], depths[16], widest = 0, deepest = 0, by_scale, by_depth;
    for (int j = 0; j < 256 / n; j++) {
        float weights[32] = {0};
        minima_weights(x + n * j, n, weights);
        scales[j] = minima_scale(&how, x + n * j, weights, depths + j, out->codes + n * j);
        if (scales[j] > widest) widest = scales[j];
        if (depths[j] > deepest) deepest = depths[j];
    }
    by_scale = widest > 0 ? top / widest : 0.0f;
    by_depth = deepest > 0 ? top / deepest : 0.0f;
    for (int j = 0; j < 256 / n; j++) {
        /* There an integer is cut to a byte before it is compared, so one below 0 becomes `steps`. */
        int scale = nearest(by_scale * scales[j], -255, 255);
        int depth = nearest(by_depth * depths[j], -255, 255);
        out->scales[j] = (uint8_t)((scale & 255) < steps ? scale & 255 : steps);
        out->minima[j] = (uint8_t)((depth & 255) < steps ? depth & 255 : steps);
    }
    out->scale = to_half(widest / top);
    out->minimum = to_half(deepest / top);
}

/* The value of the largest magnitude, the first of equals. */
static float peak_of(const float *x, int n) {
    float largest = 0, peak = 0;
    for (int k = 0; k < n; k++)
        if (fabsf(x[k]) > largest) {
            largest = fabsf(x[k]);
            peak = x[k];
        }
    return peak;
}

/* make_qx_quants of 16 values with their squares as weights. */
static float symmetric_scale(const float *x, int half, uint8_t *codes) {
    const float peak = peak_of(x, 16);
    float factor, sum_lx = 0, sum_l2 = 0, scale, best;
    memset(codes, 0, 16);
    if (fabsf(peak) < SMALLEST_PEAK) return 0.0f;
    factor = (float)-half / peak;
    for (int k = 0; k < 16; k++) {
        const int l = nearest(factor * x[k], -half, half - 1);
        const float w = x[k] * x[k];
        codes[k] = (uint8_t)(l + half);
        sum_lx += w * x[k] * (float)l;
        sum_l2 += w * (float)l * (float)l;
    }
    scale = sum_l2 != 0 ? sum_lx / sum_l2 : 0.0f;
    best = scale * sum_lx;
    for (int t = -9; t <= 9; t++) {
        if (t == 0) continue;
        factor = -((float)half + 0.1f * (float)t) / peak;
        sum_lx = sum_l2 = 0;
        for (int k = 0; k < 16; k++) {
            const float l = (float)nearest(factor * x[k], -half, half - 1), w = x[k] * x[k];
            sum_lx += w * x[k] * l;
            sum_l2 += w * l * l;
        }
        if (sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2) {
            for (int k = 0; k < 16; k++)
                codes[k] = (uint8_t)(nearest(factor * x[k], -half, half - 1) + half);
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    return scale;
}

/* make_q3_quants with do_rmse. */
static float q3_scale(const float *x, uint8_t *codes) {
    const float peak = peak_of(x, 16);
    float factor, sum_lx = 0, sum_l2 = 0;
    int found[16], changed = 1;
    memset(codes, 0, 16);
    if (fabsf(peak) < SMALLEST_PEAK) return 0.0f;
    factor = -4.0f / peak;
    for (int k = 0; k < 16; k++) {
        const float w = x[k] * x[k];
        found[k] = nearest(factor * x[k], -4, 3);
        sum_lx += w * x[k] * (float)found[k];
        sum_l2 += w * (float)found[k] * (float)found[k];
    }
    for (int turn = 0; turn < 5 && changed; turn++) {
        changed = 0;
        for (int k = 0; k < 16; k++) {
            const float w = x[k] * x[k];
            float lx = sum_lx - w * x[k] * (float)found[k], l2;
            int other;
            if (!(lx > 0)) continue;
            l2 = sum_l2 - w * (float)found[k] * (float)found[k];
            other = nearest(x[k] * l2 / lx, -4, 3);
            if (other == found[k]) continue;
            lx += w * x[k] * (float)other;
            l2 += w * (float)other * (float)other;
            if (l2 > 0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
                found[k] = other;
                sum_lx = lx;
                sum_l2 = l2;
                changed = 1;
            }
        }
    }
    for (int k = 0; k < 16; k++) codes[k] = (uint8_t)(found[k] + 4);
    return sum_l2 > 0 ? sum_lx / sum_l2 : 0.0f;
}

void search_symmetric(const float *x, int half, int steps, block_parts *out) {
    const int three = half == 4;
    float scales[16], greatest = 0, factor;
    for (int j = 0; j < 16; j++) {
        scales[j] = three ? q3_scale(x + 16 * j, out->codes + 16 * j)
                          : symmetric_scale(x + 16 * j, half, out->codes + 16 * j);
        if (fabsf(scales[j]) > fabsf(greatest)) greatest = scales[j];
    }
    memset(out->scales, 0, 16);
    out->scale = 0;
    if (three ? greatest == 0 : fabsf(greatest) < SMALLEST_PEAK) {
        if (!three) memset(out->codes, 0, 256);
        return;
    }
    factor = (float)-steps / greatest;
    for (int j = 0; j < 16; j++)
        out->scales[j] =
            (uint8_t)(nearest(factor * scales[j], -steps, steps - 1) + (three ? steps : 0));
    out->scale = to_half(1 / factor);
}
