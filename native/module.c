/* hartonomous.codecs._kernel: frames for Python, those of fields.c here, many in one call without the GIL.
 *
 * Only the stable ABI of 3.11 is used, so one binary serves every later version.
 */
#include "module.h"
#include "quantised_binding.h"

#include <string.h>

void release(buffers *held) {
    for (Py_ssize_t k = 0; k < held->count; k++) PyBuffer_Release(held->views + k);
    PyMem_Free(held->views);
    held->views = NULL;
    held->count = 0;
}

int take(PyObject *sequence, int flags, buffers *out) {
    Py_ssize_t count = PySequence_Size(sequence);
    out->count = 0;
    out->views = NULL;
    if (count < 0) return 0;
    out->views = PyMem_Calloc((size_t)count + 1, sizeof *out->views);
    if (!out->views) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *item = PySequence_GetItem(sequence, k);
        int failed = !item || PyObject_GetBuffer(item, out->views + k, flags);
        Py_XDECREF(item);
        if (failed) {
            release(out);
            return 0;
        }
        out->count++;
    }
    return 1;
}

const fields_path *find_path(const char *name) {
    for (const fields_path *const *one = fields_paths(); *one; one++)
        if (!strcmp(fields_path_name(*one), name)) return *one;
    PyErr_Format(PyExc_ValueError, "there is no path '%s' on this machine", name);
    return NULL;
}

/* Frames are encoded without the GIL until this much room is used, then their payloads become bytes
 * objects. Little enough to stay in the processor's cache, enough for some milliseconds of work. */
#define ARENA_BYTES (4u << 20)

/* What encode_many works on while the GIL is released. */
typedef struct {
    size_t lead, begin, written;
    fields_status status;
} encoding;

/* Read the leads; returns the room that the largest payload may need, or 0 with an exception. */
static size_t prepare(encoding *each, const encode_job *job) {
    size_t largest = 1;
    for (Py_ssize_t k = 0; k < job->frames->count; k++) {
        size_t size = (size_t)job->frames->views[k].len, bound = job->bound(job, size);
        PyObject *lead = PySequence_GetItem(job->leads, k);
        each[k].lead = lead ? PyLong_AsSize_t(lead) : 0;
        Py_XDECREF(lead);
        if (PyErr_Occurred()) return 0;
        if (size > FIELDS_MAX_FRAME_BYTES) {
            PyErr_Format(PyExc_ValueError, "a frame of %zu bytes is over the limit of %u", size,
                         FIELDS_MAX_FRAME_BYTES);
            return 0;
        }
        if (bound > largest) largest = bound;
    }
    return largest;
}

/* Make the result of one frame: bytes, or None where encoding does not pay. */
static PyObject *payload_of(const encoding *one, const uint8_t *arena) {
    if (one->status == FIELDS_OK)
        return PyBytes_FromStringAndSize((const char *)arena + one->begin,
                                         (Py_ssize_t)one->written);
    if (one->status == FIELDS_NO_MEMORY) return PyErr_NoMemory();
    if (one->status == FIELDS_DOES_NOT_PAY) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    PyErr_Format(PyExc_ValueError, "a frame cannot be encoded: %s", fields_message(one->status));
    return NULL;
}

PyObject *encode_all(const encode_job *job) {
    const buffers *frames = job->frames;
    Py_ssize_t count = frames->count;
    size_t room;
    fields_workspace work = {NULL, 0};
    PyObject *result = NULL;
    uint8_t *arena = NULL;
    encoding *each = PyMem_Calloc((size_t)count + 1, sizeof *each);
    if (!each) return PyErr_NoMemory();
    room = prepare(each, job);
    if (!room) goto done;
    if (count > 1 && room < ARENA_BYTES) room = ARENA_BYTES;
    arena = PyMem_Malloc(room);
    result = arena ? PyList_New(count) : PyErr_NoMemory();
    for (Py_ssize_t first = 0, last = 0; result && first < count; first = last) {
        Py_BEGIN_ALLOW_THREADS
        for (size_t used = 0; last < count; last++) {
            fields_input frame = {frames->views[last].buf, (size_t)frames->views[last].len};
            fields_output out = {arena + used, room - used};
            if (job->bound(job, frame.size) > out.size) break;
            each[last].begin = used;
            each[last].status = job->encode(job, &work, last, each[last].lead, frame, out,
                                            &each[last].written);
            used += each[last].status == FIELDS_OK ? each[last].written : 0;
        }
        Py_END_ALLOW_THREADS
        for (Py_ssize_t k = first; result && k < last; k++) {
            PyObject *payload = payload_of(each + k, arena);
            if (!payload || PyList_SetItem(result, k, payload)) Py_CLEAR(result);
        }
    }
    fields_release(&work);
done:
    PyMem_Free(arena);
    PyMem_Free(each);
    return result;
}

static size_t bound_of(const encode_job *job, size_t size) {
    return fields_bound(size, job->field_count);
}

static fields_status encode_one(const encode_job *job, fields_workspace *work, Py_ssize_t number,
                                size_t lead, fields_input frame, fields_output out,
                                size_t *written) {
    (void)number;
    return fields_encode(job->path, work, job->layout, job->field_count, lead, frame, out, written);
}

static PyObject *encode_many(PyObject *self, PyObject *arguments) {
    const char *name, *layout;
    Py_ssize_t layout_bytes;
    PyObject *sequence, *leads, *result = NULL;
    buffers frames;
    encode_job job = {.frames = &frames, .bound = bound_of, .encode = encode_one};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sOOy#", &name, &sequence, &leads, &layout, &layout_bytes))
        return NULL;
    job.path = find_path(name);
    if (!job.path) return NULL;
    job.leads = leads;
    job.layout = (const uint8_t *)layout;
    job.field_count = (size_t)layout_bytes / FIELDS_DESCRIPTION_BYTES;
    if (layout_bytes % FIELDS_DESCRIPTION_BYTES ||
        !fields_element_bytes(job.layout, job.field_count)) {
        PyErr_SetString(PyExc_ValueError, "these field descriptions make no layout");
        return NULL;
    }
    if (!take(sequence, PyBUF_SIMPLE, &frames)) return NULL;
    result = encode_all(&job);
    release(&frames);
    return result;
}

static PyObject *faults_of(const fields_status *statuses, size_t count) {
    PyObject *result = PyList_New((Py_ssize_t)count);
    for (size_t k = 0; result && k < count; k++) {
        PyObject *fault = NULL;
        if (statuses[k] == FIELDS_NO_MEMORY) PyErr_NoMemory();
        else if (statuses[k] != FIELDS_OK) fault = PyUnicode_FromString(fields_message(statuses[k]));
        else Py_INCREF(fault = Py_None);
        if (!fault || PyList_SetItem(result, (Py_ssize_t)k, fault)) Py_CLEAR(result);
    }
    return result;
}

static fields_input input_of(const Py_buffer *view) {
    fields_input out = {view->buf, (size_t)view->len};
    return out;
}

PyObject *decode_all(const decode_job *job) {
    size_t count = (size_t)job->payloads->count;
    fields_workspace work = {NULL, 0};
    PyObject *result = NULL;
    fields_input *in = PyMem_Calloc(2 * count + 1, sizeof *in);
    fields_output *out = PyMem_Calloc(count + 1, sizeof *out);
    fields_status *statuses = PyMem_Calloc(count + 1, sizeof *statuses);
    if (!in || !out || !statuses) {
        PyErr_NoMemory();
        goto done;
    }
    for (size_t k = 0; k < count; k++) {
        in[k] = input_of(job->payloads->views + k);
        if (job->predictions) in[count + k] = input_of(job->predictions->views + k);
        out[k].bytes = job->outs->views[k].buf;
        out[k].size = (size_t)job->outs->views[k].len;
    }
    Py_BEGIN_ALLOW_THREADS
    job->decode(job->path, &work, count, in, out, statuses);
    fields_release(&work);
    Py_END_ALLOW_THREADS
    result = faults_of(statuses, count);
done:
    PyMem_Free(in);
    PyMem_Free(out);
    PyMem_Free(statuses);
    return result;
}

static PyObject *decode_many(PyObject *self, PyObject *arguments) {
    const char *name;
    PyObject *sequence, *targets, *result = NULL;
    buffers payloads, outs;
    decode_job job = {.payloads = &payloads, .outs = &outs, .decode = fields_decode};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sOO", &name, &sequence, &targets)) return NULL;
    job.path = find_path(name);
    if (!job.path || !take(sequence, PyBUF_SIMPLE, &payloads)) return NULL;
    if (take(targets, PyBUF_WRITABLE, &outs)) {
        if (outs.count == payloads.count) result = decode_all(&job);
        else PyErr_SetString(PyExc_ValueError, "there are not as many outputs as payloads");
        release(&outs);
    }
    release(&payloads);
    return result;
}

static PyObject *paths(PyObject *self, PyObject *none) {
    PyObject *names = PyList_New(0);
    (void)self, (void)none;
    for (const fields_path *const *one = fields_paths(); names && *one; one++) {
        PyObject *name = PyUnicode_FromString(fields_path_name(*one));
        if (!name || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyMethodDef methods[] = {
    {"encode_many", encode_many, METH_VARARGS,
     "encode_many(path, frames, leads, layout) -> list of bytes, None where it does not pay"},
    {"decode_many", decode_many, METH_VARARGS,
     "decode_many(path, payloads, outs) -> list of None, or what is wrong with a payload"},
    {"delta_encode_many", delta_encode_many, METH_VARARGS,
     "delta_encode_many(path, frames, predictions, leads, kind) -> list of bytes, empty where the "
     "prediction is exact, None where it does not pay"},
    {"delta_decode_many", delta_decode_many, METH_VARARGS,
     "delta_decode_many(path, payloads, predictions, outs) -> list of None, or what is wrong"},
    {"split_blocks", split_blocks, METH_VARARGS,
     "split_blocks(type, recipe, wide, blocks, source, header, residual) -> wrong codes"},
    {"join_blocks", join_blocks, METH_VARARGS,
     "join_blocks(type, recipe, wide, header, source, residual or None, blocks)"},
    {"values_of_blocks", values_of_blocks, METH_VARARGS,
     "values_of_blocks(type, wide, blocks, values)"},
    {"fit_rounded", fit_rounded, METH_VARARGS,
     "fit_rounded(type, wide, position, columns, block_rows, block_columns, content, values, sizes, "
     "lower, upper, table)"},
    {"round_values", round_values, METH_VARARGS,
     "round_values(type, wide, position, columns, block_rows, block_columns, table, values, "
     "residual or None, out)"},
    {"cast_floats", cast_floats, METH_VARARGS, "cast_floats(cast, rule, wide, source, target)"},
    {"any_near_signs", any_near_signs, METH_VARARGS,
     "any_near_signs(wide, words, wanted, limits, most, found): found becomes 1 where one is near"},
    {"near_signs", near_signs, METH_VARARGS,
     "near_signs(wide, words, wanted, limits, columns, distances) -> how many are near"},
    {"paths", paths, METH_NOARGS, "paths() -> names of what this machine can run, fastest first"},
    {NULL, NULL, 0, NULL},
};

#ifndef KERNEL_IDENTITY
#define KERNEL_IDENTITY "" /* built by hand */
#endif

static int add_identity(PyObject *module) {
    return PyModule_AddStringConstant(module, "identity", KERNEL_IDENTITY);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_identity}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "Loops over frames, elements and sketches, in C.", 0, methods, slots,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
