/* Frames of the encoding FIELDS, recipe 1, as docs/format-fields.md specifies them.
 *
 * A frame is cut into elements of equal size, an element into fields, a field into words, a word into
 * bytes. The bytes of one significance of all words of a field are a plane; each plane is kept raw, as
 * one value, or entropy-coded by rANS with a table of its own.
 *
 * Nothing here allocates except through the workspace or keeps a state of its own,
 * so every function may be called from any thread. Input is never trusted: whatever the payload holds,
 * no byte outside the given buffers is read or written.
 */
#ifndef HARTONOMOUS_FIELDS_H
#define HARTONOMOUS_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is written for little-endian machines; without it numpy decodes"
#endif
#if SIZE_MAX < UINT64_MAX
#error "the kernel counts bytes in 64 bits; without it numpy decodes"
#endif

#define FIELDS_MAX_FRAME_BYTES (16u << 20)
#define FIELDS_MAX_FIELDS 16
#define FIELDS_MAX_ELEMENT_BYTES 4096
#define FIELDS_DESCRIPTION_BYTES 3

/* Why a frame was not coded; FIELDS_DOES_NOT_PAY is no fault. The order is known to module.c. */
typedef enum {
    FIELDS_OK = 0,
    FIELDS_DOES_NOT_PAY,
    FIELDS_NO_MEMORY,
    FIELDS_BAD_LAYOUT,
    FIELDS_CUT_SHORT,
    FIELDS_WRONG_SIZE,
    FIELDS_BAD_LEAD,
    FIELDS_BAD_TAG,
    FIELDS_BAD_TABLE,
    FIELDS_BAD_STREAM,
    FIELDS_TRAILING_BYTES,
    FIELDS_BAD_FORM,
    FIELDS_BAD_BLOCKS,
    FIELDS_BAD_CHANGES
} fields_status;

const char *fields_message(fields_status status);

/* One implementation of the inner loops; all of them write and read the same bits. */
typedef struct fields_path fields_path;

/* Return the paths that this machine can run, fastest first, ended by NULL. */
const fields_path *const *fields_paths(void);
const char *fields_path_name(const fields_path *path);

/* Memory for one thread's work; grows as needed, is empty when zeroed. */
typedef struct {
    uint8_t *bytes;
    size_t size;
} fields_workspace;

void fields_release(fields_workspace *work);

/* Return room of at least `size` bytes, NULL where there is none; what was there before is gone. */
uint8_t *fields_reserve(fields_workspace *work, size_t size);

typedef struct {
    const uint8_t *bytes;
    size_t size;
} fields_input;

typedef struct {
    uint8_t *bytes;
    size_t size;
} fields_output;

/* Say whether field descriptions (3 bytes each) make a layout; returns an element's bytes, or 0. */
size_t fields_element_bytes(const uint8_t *descriptions, size_t field_count);

/* Return how much room a payload needs while it is being written. */
size_t fields_bound(size_t frame_bytes, size_t field_count);

/* Encode one frame whose first whole element begins at `lead`; `out` has room for fields_bound().
 * Sets *written. FIELDS_DOES_NOT_PAY where under 2 % would be saved. */
fields_status fields_encode(const fields_path *path, fields_workspace *work,
                            const uint8_t *descriptions, size_t field_count, size_t lead,
                            fields_input frame, fields_output out, size_t *written);

/* Decode one frame, or two at once, which is faster than one after the other: their streams are
 * independent, so one hides the other's latency. Sets a status for each. */
void fields_decode(const fields_path *path, fields_workspace *work, size_t count,
                   const fields_input *payloads, const fields_output *outs,
                   fields_status *statuses);

#endif
