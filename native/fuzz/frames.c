/* A program around the kernel, for what Python cannot drive: other machines and sanitizers.
 *
 *   frames paths                        names of what this machine can run
 *   frames encode PATH LAYOUT < IN      each frame of IN to its payload
 *   frames decode PATH < IN             each payload of IN to its frame, or to its fault
 *   frames fuzz PATH LAYOUT SEED ROUNDS < IN    damages payloads of IN's frames and decodes them
 *   frames quantised PATH SEED ROUNDS   blocks, codes and floats of noise through quantised.h, rounded.h
 *                                       and casts.h; says a number that is the same on every path
 *                                       and machine
 *
 *   frames delta-encode PATH KIND < IN       the same of differences: after each item of IN comes
 *   frames delta-decode PATH < IN            another one with its prediction
 *   frames delta-fuzz PATH KIND SEED ROUNDS < IN
 *
 * LAYOUT is hexadecimal. IN is a sequence of (u32 number, u32 length, bytes): the number is a frame's
 * lead, or the size that a payload decodes to. What comes out is (u32 status, u32 length, bytes).
 */
#include "casts.h"
#include "delta.h"
#include "fields.h"
#include "quantised.h"
#include "rounded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint32_t number, size;
    uint8_t *bytes;
} item;

static void stop(const char *why) {
    fprintf(stderr, "frames: %s\n", why);
    exit(2);
}

/* A block of exactly this size, so that a sanitizer sees the first byte beyond it. */
static uint8_t *block(size_t size) {
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes) stop("no memory");
    return bytes;
}

static int read_item(item *one) {
    uint32_t head[2];
    size_t got = fread(head, 1, sizeof head, stdin);
    if (!got) return 0;
    if (got != sizeof head || head[1] > FIELDS_MAX_FRAME_BYTES) stop("bad input");
    one->number = head[0];
    one->size = head[1];
    one->bytes = block(one->size);
    if (fread(one->bytes, 1, one->size, stdin) != one->size) stop("input is cut short");
    return 1;
}

static void write_item(fields_status status, const uint8_t *bytes, size_t size) {
    uint32_t head[2] = {status, status == FIELDS_OK ? (uint32_t)size : 0};
    fwrite(head, 1, sizeof head, stdout);
    fwrite(bytes, 1, head[1], stdout);
}

static const fields_path *path_of(const char *name) {
    for (const fields_path *const *one = fields_paths(); *one; one++)
        if (!strcmp(fields_path_name(*one), name)) return *one;
    stop("no such path on this machine");
    return NULL;
}

static size_t layout_of(const char *hex, uint8_t *out) {
    size_t bytes = strlen(hex) / 2;
    if (bytes > FIELDS_DESCRIPTION_BYTES * FIELDS_MAX_FIELDS) stop("too many fields");
    for (size_t k = 0; k < bytes; k++) {
        unsigned value;
        if (sscanf(hex + 2 * k, "%2x", &value) != 1) stop("bad layout");
        out[k] = (uint8_t)value;
    }
    return bytes / FIELDS_DESCRIPTION_BYTES;
}

/* Encode into a block of exactly the payload's size; NULL where it does not pay. */
static uint8_t *encode(const fields_path *path, fields_workspace *work, const uint8_t *layout,
                       size_t fields, const item *one, size_t *size, fields_status *status) {
    fields_output out = {NULL, fields_bound(one->size, fields)};
    fields_input frame = {one->bytes, one->size};
    uint8_t *payload = NULL;
    out.bytes = block(out.size);
    *status = fields_encode(path, work, layout, fields, one->number, frame, out, size);
    if (*status == FIELDS_OK) {
        payload = block(*size);
        memcpy(payload, out.bytes, *size);
    }
    free(out.bytes);
    return payload;
}

static void encode_all(const fields_path *path, const uint8_t *layout, size_t fields) {
    fields_workspace work = {NULL, 0};
    for (item one; read_item(&one); free(one.bytes)) {
        size_t size = 0;
        fields_status status;
        uint8_t *payload = encode(path, &work, layout, fields, &one, &size, &status);
        write_item(status, payload ? payload : one.bytes, size);
        free(payload);
    }
    fields_release(&work);
}

static void decode_all(const fields_path *path) {
    fields_workspace work = {NULL, 0};
    for (item pair[2]; read_item(pair);) {
        size_t count = 1 + (size_t)read_item(pair + 1);
        fields_input in[2];
        fields_output out[2];
        fields_status statuses[2];
        for (size_t k = 0; k < count; k++) {
            in[k] = (fields_input){pair[k].bytes, pair[k].size};
            if (pair[k].number > FIELDS_MAX_FRAME_BYTES) stop("too large a frame");
            out[k] = (fields_output){block(pair[k].number), pair[k].number};
        }
        fields_decode(path, &work, count, in, out, statuses);
        for (size_t k = 0; k < count; k++) {
            write_item(statuses[k], out[k].bytes, out[k].size);
            free(out[k].bytes);
            free(pair[k].bytes);
        }
    }
    fields_release(&work);
}

static uint64_t random_state;

static uint32_t draw(uint32_t below) { /* xorshift64* (Vigna 2016) */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545F4914F6CDD1DULL) >> 32) % below;
}

/* Return a damaged copy of a payload, or noise. */
static uint8_t *damage(const uint8_t *payload, size_t size, size_t *damaged_size) {
    size_t length = size;
    uint32_t kind = draw(8);
    uint8_t *out;
    if (kind == 0) length = draw((uint32_t)size + 1);
    if (kind == 1) length = size + draw(100);
    if (kind == 2) length = draw(300);
    out = block(length);
    for (size_t k = 0; k < length; k++) out[k] = k < size ? payload[k] : (uint8_t)draw(256);
    if (kind == 2)
        for (size_t k = 4; k < length; k++) out[k] = (uint8_t)draw(256);
    for (uint32_t changes = kind > 2 ? 1 + draw(4) : draw(2); changes && length; changes--) {
        /* The structure is at the beginning; half of the damage goes there. */
        size_t at = draw(2) ? draw((uint32_t)length) : draw(length < 160 ? (uint32_t)length : 160);
        out[at] = (uint8_t)(draw(2) ? draw(256) : out[at] ^ 1u << draw(8));
    }
    *damaged_size = length;
    return out;
}

/* Decode two damaged payloads in a call; returns how many gave something. */
static unsigned long attack(const fields_path *path, fields_workspace *work, const uint8_t *payload,
                            size_t size, size_t frame_size) {
    uint8_t *damaged[2];
    fields_input in[2];
    fields_output out[2];
    fields_status statuses[2];
    unsigned long sound = 0;
    for (int k = 0; k < 2; k++) {
        damaged[k] = damage(payload, size, &in[k].size);
        in[k].bytes = damaged[k];
        out[k].size = draw(10) ? frame_size : draw((uint32_t)(2 * frame_size + 2));
        out[k].bytes = block(out[k].size);
    }
    fields_decode(path, work, 2, in, out, statuses);
    for (int k = 0; k < 2; k++) {
        sound += statuses[k] == FIELDS_OK;
        free(out[k].bytes);
        free(damaged[k]);
    }
    return sound;
}

static void fuzz_all(const fields_path *path, const uint8_t *layout, size_t fields,
                     unsigned long rounds) {
    fields_workspace work = {NULL, 0};
    unsigned long attacks = 0, decoded = 0;
    for (item one; read_item(&one); free(one.bytes)) {
        size_t size = 0;
        fields_status status;
        uint8_t *payload = encode(path, &work, layout, fields, &one, &size, &status);
        for (unsigned long k = 0; payload && k < rounds; k++, attacks += 2)
            decoded += attack(path, &work, payload, size, one.size);
        free(payload);
    }
    fields_release(&work);
    printf("%lu attacks, %lu decoded to something\n", attacks, decoded);
}

/* Read an item and its prediction, as large as the item or as its number says. */
static int read_pair(item *one, item *prediction, int by_number) {
    if (!read_item(one)) return 0;
    if (!read_item(prediction)) stop("a prediction is missing");
    if (prediction->size != (by_number ? one->number : one->size)) stop("a prediction's size");
    return 1;
}

static uint8_t *delta_payload(const fields_path *path, fields_workspace *work, unsigned kind,
                              const item *one, const item *prediction, size_t *size,
                              fields_status *status) {
    fields_output out = {NULL, delta_bound(one->size)};
    fields_input frame = {one->bytes, one->size};
    uint8_t *payload = NULL;
    out.bytes = block(out.size);
    *status = delta_encode(path, work, kind, one->number, frame, prediction->bytes, out, size);
    if (*status == FIELDS_OK) {
        payload = block(*size);
        memcpy(payload, out.bytes, *size);
    }
    free(out.bytes);
    return payload;
}

static void delta_encode_all(const fields_path *path, unsigned kind) {
    fields_workspace work = {NULL, 0};
    for (item one, expected; read_pair(&one, &expected, 0); free(one.bytes), free(expected.bytes)) {
        size_t size = 0;
        fields_status status;
        uint8_t *payload = delta_payload(path, &work, kind, &one, &expected, &size, &status);
        write_item(status, payload ? payload : one.bytes, size);
        free(payload);
    }
    fields_release(&work);
}

static void delta_decode_all(const fields_path *path) {
    fields_workspace work = {NULL, 0};
    for (item pair[2], expected[2]; read_pair(pair, expected, 1);) {
        size_t count = 1 + (size_t)read_pair(pair + 1, expected + 1, 1);
        fields_input in[2], predictions[2];
        fields_output out[2];
        fields_status statuses[2];
        for (size_t k = 0; k < count; k++) {
            in[k] = (fields_input){pair[k].bytes, pair[k].size};
            predictions[k] = (fields_input){expected[k].bytes, expected[k].size};
            out[k] = (fields_output){block(pair[k].number), pair[k].number};
        }
        delta_decode(path, &work, count, in, predictions, out, statuses);
        for (size_t k = 0; k < count; k++) {
            write_item(statuses[k], out[k].bytes, out[k].size);
            free(out[k].bytes);
            free(pair[k].bytes);
            free(expected[k].bytes);
        }
    }
    fields_release(&work);
}

/* Decode two damaged payloads in a call; returns how many gave something. */
static unsigned long delta_attack(const fields_path *path, fields_workspace *work,
                                  const uint8_t *payload, size_t size, const item *prediction) {
    uint8_t *damaged[2], *expected[2];
    fields_input in[2], predictions[2];
    fields_output out[2];
    fields_status statuses[2];
    unsigned long sound = 0;
    for (int k = 0; k < 2; k++) {
        size_t length = prediction->size;
        damaged[k] = damage(payload, size, &in[k].size);
        in[k].bytes = damaged[k];
        if (!draw(10)) length = draw((uint32_t)length + 1);
        expected[k] = block(length);
        memcpy(expected[k], prediction->bytes, length);
        predictions[k] = (fields_input){expected[k], length};
        out[k] = (fields_output){block(length), length};
    }
    delta_decode(path, work, 2, in, predictions, out, statuses);
    for (int k = 0; k < 2; k++) {
        sound += statuses[k] == FIELDS_OK;
        free(out[k].bytes);
        free(damaged[k]);
        free(expected[k]);
    }
    return sound;
}

static void delta_fuzz_all(const fields_path *path, unsigned kind, unsigned long rounds) {
    fields_workspace work = {NULL, 0};
    unsigned long attacks = 0, decoded = 0;
    for (item one, expected; read_pair(&one, &expected, 0); free(one.bytes), free(expected.bytes)) {
        size_t size = 0;
        fields_status status;
        uint8_t *payload = delta_payload(path, &work, kind, &one, &expected, &size, &status);
        for (unsigned long k = 0; payload && k < rounds; k++, attacks += 2)
            decoded += delta_attack(path, &work, payload, size, &expected);
        free(payload);
    }
    fields_release(&work);
    printf("%lu attacks, %lu decoded to something\n", attacks, decoded);
}

static int delta_main(int count, char **words) {
    unsigned kind = count > 3 ? (unsigned)strtoul(words[3], NULL, 10) : 0;
    if (count == 3 && !strcmp(words[1], "delta-decode")) delta_decode_all(path_of(words[2]));
    else if (count == 4 && !strcmp(words[1], "delta-encode"))
        delta_encode_all(path_of(words[2]), kind);
    else if (count == 6 && !strcmp(words[1], "delta-fuzz")) {
        random_state = strtoull(words[4], NULL, 10) * 2654435761u + 1;
        delta_fuzz_all(path_of(words[2]), kind, strtoul(words[5], NULL, 10));
    } else {
        stop("delta-encode PATH KIND, delta-decode PATH, or delta-fuzz PATH KIND SEED ROUNDS");
    }
    return 0;
}

/* Floats of all kinds: small numbers, zeros, and any bits. */
static void draw_floats(float *out, size_t count) {
    for (size_t k = 0; k < count; k++) {
        uint32_t bits = draw(0xffffffffu), kind = draw(16);
        if (kind < 12) out[k] = (float)((int32_t)(bits >> 8) - (1 << 23)) * 0x1p-27f;
        else if (kind < 14) out[k] = kind == 12 ? 0.0f : -0.0f;
        else memcpy(out + k, &bits, 4);
    }
}

static uint64_t mixed(uint64_t sum, const uint8_t *bytes, size_t size) { /* FNV-1a */
    while (size--) sum = (sum ^ *bytes++) * 0x100000001b3u;
    return sum;
}

/* Put blocks of noise together, take them apart, put them together: nothing may be lost. */
static uint64_t quantise(int wide, const quantised_shape *shape, unsigned recipe, uint64_t sum) {
    size_t count = draw(5), sizes[] = {count * shape->bytes, count * shape->header,
                                       count * shape->elements};
    uint8_t *blocks = block(sizes[0]), *again = block(sizes[0]), *header = block(sizes[1]);
    uint8_t *residual = block(sizes[2]);
    float *source = (float *)(void *)block(4 * sizes[2]);
    draw_floats(source, sizes[2]);
    for (size_t k = 0; k < sizes[1]; k++) header[k] = (uint8_t)(draw(2) ? 0 : draw(256));
    quantised_join(wide, shape, recipe, header, source, NULL, count, blocks);
    sum = mixed(sum, blocks, sizes[0]);
    for (size_t k = 0; k < sizes[0]; k++) blocks[k] ^= (uint8_t)(draw(8) ? 0 : draw(256));
    sum += quantised_split(wide, shape, recipe, blocks, source, count, header, residual);
    quantised_join(wide, shape, recipe, header, source, residual, count, again);
    if (memcmp(blocks, again, sizes[0])) stop("blocks are lost");
    quantised_values(wide, shape, blocks, count, source);
    sum = mixed(mixed(sum, header, sizes[1]), residual, sizes[2]);
    free(blocks);
    free(again);
    free(header);
    free(residual);
    free(source);
    return sum;
}

/* Codes of noise beside floats of noise: scales are fitted, codes rounded and restored. */
static uint64_t round_noise(int wide, unsigned number, uint64_t sum) {
    const size_t count = 1 + draw(3000), magnitudes = rounded_magnitudes(number);
    const uint64_t position = draw(5000);
    rounded_grid grid = {draw(2) ? draw(200) : 0, draw(3) ? draw(5) : 0, draw(3) ? draw(5) : 0};
    size_t groups = rounded_groups(&grid, position, count);
    uint8_t *content = block(count), *codes = block(count), *residual = block(count), *table;
    float *values = (float *)(void *)block(4 * count);
    double *steps = (double *)(void *)block(3 * magnitudes * sizeof *steps);
    rounded_group *work;
    if (!groups) {
        grid = (rounded_grid){0, 0, 0};
        groups = 1;
    }
    table = block(groups * ROUNDED_TABLE_BYTES);
    work = (rounded_group *)(void *)block(groups * sizeof *work);
    for (size_t k = 0; k < magnitudes; k++) {
        steps[k] = (double)k;
        steps[magnitudes + k] = k ? (double)k - 0.5 : 0;
        steps[2 * magnitudes + k] = (double)k + 0.5;
    }
    draw_floats(values, count);
    for (size_t k = 0; k < count; k++) content[k] = (uint8_t)draw(256);
    rounded_fit(wide, number, &grid, position, content, values, count,
                &(rounded_steps){steps, steps + magnitudes, steps + 2 * magnitudes}, work, table);
    rounded_codes(wide, number, &grid, position, table, values, NULL, count, codes);
    sum = mixed(mixed(sum, table, groups * ROUNDED_TABLE_BYTES), codes, count);
    for (size_t k = 0; k < count; k++) residual[k] = (uint8_t)(content[k] - codes[k]);
    rounded_codes(wide, number, &grid, position, table, values, residual, count, codes);
    if (memcmp(content, codes, count)) stop("codes are lost");
    for (size_t k = 0; k < groups * ROUNDED_TABLE_BYTES; k++) table[k] = (uint8_t)draw(256);
    rounded_codes(wide, number, &grid, position, table, values, NULL, count, codes);
    sum = mixed(sum, codes, count);
    free(content);
    free(codes);
    free(residual);
    free(values);
    free(steps);
    free(table);
    free(work);
    return sum;
}

static uint64_t cast_noise(int wide, unsigned cast, unsigned rule, uint64_t sum) {
    const size_t count = draw(100), bytes = count * cast_target_bytes(cast);
    float *source = (float *)(void *)block(4 * count);
    uint8_t *exact = block(count * cast_source_bytes(cast)), *target = block(bytes);
    draw_floats(source, count);
    memcpy(exact, source, count * cast_source_bytes(cast));
    cast_values(wide, cast, rule, exact, count, target);
    sum = mixed(sum, target, bytes);
    free(source);
    free(exact);
    free(target);
    return sum;
}

static void quantise_all(const fields_path *path, unsigned long rounds) {
    const int wide = strcmp(fields_path_name(path), "scalar") != 0;
    uint64_t sum = 0xcbf29ce484222325u;
    for (; rounds; rounds--) {
        for (unsigned number = ROUNDED_I8; number <= ROUNDED_E5M2; number++)
            sum = round_noise(wide, number, sum);
        for (unsigned cast = 0; cast < CASTS; cast++)
            for (unsigned rule = 0; rule < NAN_RULES; rule++)
                sum = cast_noise(wide, cast, rule, sum);
        for (unsigned type = 0; type < 64; type++)
            for (unsigned recipe = 0; recipe < 8; recipe++) {
                const quantised_shape *shape = quantised_shape_of(type);
                if (shape && shape->recipes >> recipe & 1)
                    sum = quantise(wide, shape, recipe, sum);
            }
    }
    printf("%016llx\n", (unsigned long long)sum);
}

int main(int count, char **words) {
    uint8_t layout[FIELDS_DESCRIPTION_BYTES * FIELDS_MAX_FIELDS];
    size_t fields;
    if (count > 1 && !strncmp(words[1], "delta-", 6)) return delta_main(count, words);
    if (count == 2 && !strcmp(words[1], "paths")) {
        for (const fields_path *const *one = fields_paths(); *one; one++)
            printf("%s\n", fields_path_name(*one));
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "decode")) {
        decode_all(path_of(words[2]));
        return 0;
    }
    if (count == 5 && !strcmp(words[1], "quantised")) {
        random_state = strtoull(words[3], NULL, 10) * 2654435761u + 1;
        quantise_all(path_of(words[2]), strtoul(words[4], NULL, 10));
        return 0;
    }
    if (count < 4) stop("encode PATH LAYOUT, decode PATH, fuzz PATH LAYOUT SEED ROUNDS, or paths");
    fields = layout_of(words[3], layout);
    if (!strcmp(words[1], "encode")) {
        encode_all(path_of(words[2]), layout, fields);
    } else if (!strcmp(words[1], "fuzz") && count == 6) {
        random_state = strtoull(words[4], NULL, 10) * 2654435761u + 1;
        fuzz_all(path_of(words[2]), layout, fields, strtoul(words[5], NULL, 10));
    } else {
        stop("unknown words");
    }
    return 0;
}
