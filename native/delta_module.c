/* The frames of delta.c for Python. */
#include "module.h"

#include "delta.h"

static size_t bound_of(const encode_job *job, size_t size) {
    (void)job;
    return delta_bound(size);
}

static fields_status encode_one(const encode_job *job, fields_workspace *work, Py_ssize_t number,
                                size_t lead, fields_input frame, fields_output out,
                                size_t *written) {
    return delta_encode(job->path, work, job->kind, lead, frame, job->predictions->views[number].buf,
                        out, written);
}

/* Say whether there is a prediction of each frame's size; sets an exception otherwise. */
static int match(const buffers *predictions, const buffers *frames) {
    int good = predictions->count == frames->count;
    for (Py_ssize_t k = 0; good && k < frames->count; k++)
        good = predictions->views[k].len == frames->views[k].len;
    if (!good) PyErr_SetString(PyExc_ValueError, "there is not a prediction of each frame's size");
    return good;
}

PyObject *delta_encode_many(PyObject *self, PyObject *arguments) {
    const char *name;
    PyObject *sequence, *expected, *leads, *result = NULL;
    buffers frames, predictions;
    encode_job job = {.frames = &frames, .predictions = &predictions, .bound = bound_of,
                      .encode = encode_one};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sOOOI", &name, &sequence, &expected, &leads, &job.kind))
        return NULL;
    job.path = find_path(name);
    job.leads = leads;
    if (!job.path || !take(sequence, PyBUF_SIMPLE, &frames)) return NULL;
    if (take(expected, PyBUF_SIMPLE, &predictions)) {
        if (match(&predictions, &frames)) result = encode_all(&job);
        release(&predictions);
    }
    release(&frames);
    return result;
}

static void decode(const fields_path *path, fields_workspace *work, size_t count,
                   const fields_input *in, const fields_output *out, fields_status *statuses) {
    delta_decode(path, work, count, in, in + count, out, statuses);
}

PyObject *delta_decode_many(PyObject *self, PyObject *arguments) {
    const char *name;
    PyObject *sequence, *expected, *targets, *result = NULL;
    buffers payloads, predictions, outs;
    decode_job job = {.payloads = &payloads, .predictions = &predictions, .outs = &outs,
                      .decode = decode};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sOOO", &name, &sequence, &expected, &targets)) return NULL;
    job.path = find_path(name);
    if (!job.path || !take(sequence, PyBUF_SIMPLE, &payloads)) return NULL;
    if (take(expected, PyBUF_SIMPLE, &predictions)) {
        if (take(targets, PyBUF_WRITABLE, &outs)) {
            if (payloads.count != outs.count)
                PyErr_SetString(PyExc_ValueError, "there are not as many outputs as payloads");
            else if (match(&predictions, &outs))
                result = decode_all(&job);
            release(&outs);
        }
        release(&predictions);
    }
    release(&payloads);
    return result;
}
