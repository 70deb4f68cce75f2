/* What the bindings of the kernel share: buffers of Python, and how frames are encoded in a call. */
#ifndef HARTONOMOUS_MODULE_H
#define HARTONOMOUS_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <pyconfig.h>
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

#include "fields.h"

/* The buffers of one call. */
typedef struct {
    Py_buffer *views;
    Py_ssize_t count;
} buffers;

/* Take the buffers of a sequence; returns 0 with an exception set. */
int take(PyObject *sequence, int flags, buffers *out);
void release(buffers *held);

/* Return the path of a name, or NULL with an exception set. */
const fields_path *find_path(const char *name);

/* What one call encodes; `bound` and `encode` say by which encoding and are called without the GIL. */
typedef struct encode_job encode_job;
struct encode_job {
    const fields_path *path;
    const buffers *frames, *predictions;
    PyObject *leads;
    const uint8_t *layout;
    size_t field_count;
    unsigned kind;
    size_t (*bound)(const encode_job *job, size_t size);
    fields_status (*encode)(const encode_job *job, fields_workspace *work, Py_ssize_t number,
                            size_t lead, fields_input frame, fields_output out, size_t *written);
};

/* Return a list of bytes, None where encoding does not pay. */
PyObject *encode_all(const encode_job *job);

/* What one call decodes; `predictions` may be NULL, `decode` is called without the GIL and gets them
 * behind the payloads. */
typedef struct {
    const fields_path *path;
    const buffers *payloads, *predictions, *outs;
    void (*decode)(const fields_path *path, fields_workspace *work, size_t count,
                   const fields_input *in, const fields_output *out, fields_status *statuses);
} decode_job;

/* Return a list of None, or of what is wrong with a payload. */
PyObject *decode_all(const decode_job *job);

PyObject *delta_encode_many(PyObject *self, PyObject *arguments);
PyObject *delta_decode_many(PyObject *self, PyObject *arguments);
PyObject *near_signs(PyObject *self, PyObject *arguments);
PyObject *any_near_signs(PyObject *self, PyObject *arguments);

#endif
