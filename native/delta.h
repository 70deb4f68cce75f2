/* Frames of the encoding DELTA, recipe 1, as docs/format-delta.md specifies them: floats as their
 * differences from a prediction of them, entropy-coded in the context of the prediction's size.
 *
 * What is said of threads and of untrusted input in fields.h holds here too.
 */
#ifndef HARTONOMOUS_DELTA_H
#define HARTONOMOUS_DELTA_H

#include "fields.h"

#define DELTA_KINDS 3 /* BF16, F16, F32 */

/* Return how much room a payload needs while it is being written. */
size_t delta_bound(size_t frame_bytes);

/* Encode one frame of `kind` elements, the first whole one of which begins at `lead`, given as many
 * bytes of prediction; `out` has room for delta_bound(). Sets *written, to 0 where the prediction is
 * exact. FIELDS_DOES_NOT_PAY where under 2 % would be saved. */
fields_status delta_encode(const fields_path *path, fields_workspace *work, unsigned kind,
                           size_t lead, fields_input frame, const uint8_t *prediction,
                           fields_output out, size_t *written);

/* Decode frames, two at a time; predictions[k] has as many bytes as outs[k]. Sets a status for each. */
void delta_decode(const fields_path *path, fields_workspace *work, size_t count,
                  const fields_input *payloads, const fields_input *predictions,
                  const fields_output *outs, fields_status *statuses);

#endif
