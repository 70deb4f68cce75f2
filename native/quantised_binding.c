/* hartonomous.codecs._kernel: quantised.h for Python. Sizes are checked here, the GIL is given up. */
#define PY_SSIZE_T_CLEAN
#include <pyconfig.h>
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030b0000
#endif
#include "quantised_binding.h"

#include "quantised.h"

/* The arrays of a call, sized for `count` blocks. */
typedef struct {
    Py_buffer views[4];
    int held;
} arrays;

static void release(arrays *taken) {
    while (taken->held) PyBuffer_Release(taken->views + --taken->held);
}

/* Take one more array of exactly `bytes`; returns 0 with an exception set. */
static int take(arrays *taken, PyObject *from, int writable, size_t bytes, const char *name) {
    Py_buffer *view = taken->views + taken->held;
    if (PyObject_GetBuffer(from, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE)) return 0;
    taken->held++;
    if ((size_t)view->len == bytes) return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes where %zu are expected", name, view->len, bytes);
    return 0;
}

static const quantised_shape *find_shape(unsigned number, unsigned recipe) {
    const quantised_shape *shape = quantised_shape_of(number);
    if (shape && recipe < 8 && shape->recipes >> recipe & 1) return shape;
    PyErr_Format(PyExc_ValueError, "there is no recipe %u for ggml's type %u", recipe, number);
    return NULL;
}

/* How many whole blocks an object holds; returns 0 with an exception set where it is none. */
static int count_blocks(PyObject *from, const quantised_shape *shape, size_t *count) {
    Py_buffer view;
    if (PyObject_GetBuffer(from, &view, PyBUF_SIMPLE)) return 0;
    *count = (size_t)view.len / shape->bytes;
    PyBuffer_Release(&view);
    return 1;
}

PyObject *split_blocks(PyObject *self, PyObject *arguments) {
    unsigned number, recipe;
    int wide;
    size_t count, missed;
    PyObject *blocks, *source, *header, *residual, *result = NULL;
    const quantised_shape *shape;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IIpOOOO", &number, &recipe, &wide, &blocks, &source, &header,
                          &residual))
        return NULL;
    shape = find_shape(number, recipe);
    if (!shape || !count_blocks(blocks, shape, &count)) return NULL;
    if (take(&in, blocks, 0, count * shape->bytes, "blocks") &&
        take(&in, source, 0, 4 * count * shape->elements, "source") &&
        take(&in, header, 1, count * shape->header, "header") &&
        take(&in, residual, 1, count * shape->elements, "residual")) {
        Py_BEGIN_ALLOW_THREADS
        missed = quantised_split(wide, shape, recipe, in.views[0].buf, in.views[1].buf, count,
                                 in.views[2].buf, in.views[3].buf);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(missed);
    }
    release(&in);
    return result;
}

PyObject *join_blocks(PyObject *self, PyObject *arguments) {
    unsigned number, recipe;
    int wide, predicted;
    size_t count;
    PyObject *blocks, *source, *header, *residual, *result = NULL;
    const quantised_shape *shape;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IIpOOOO", &number, &recipe, &wide, &header, &source,
                          &residual, &blocks))
        return NULL;
    shape = find_shape(number, recipe);
    if (!shape || !count_blocks(blocks, shape, &count)) return NULL;
    predicted = residual == Py_None;
    if (take(&in, blocks, 1, count * shape->bytes, "blocks") &&
        take(&in, source, 0, 4 * count * shape->elements, "source") &&
        take(&in, header, 0, count * shape->header, "header") &&
        (predicted || take(&in, residual, 0, count * shape->elements, "residual"))) {
        Py_BEGIN_ALLOW_THREADS
        quantised_join(wide, shape, recipe, in.views[2].buf, in.views[1].buf,
                       predicted ? NULL : in.views[3].buf, count, in.views[0].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    release(&in);
    return result;
}

PyObject *values_of_blocks(PyObject *self, PyObject *arguments) {
    unsigned number;
    int wide;
    size_t count;
    PyObject *blocks, *values, *result = NULL;
    const quantised_shape *shape;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IpOO", &number, &wide, &blocks, &values)) return NULL;
    shape = find_shape(number, QUANTISED_STORED);
    if (!shape || !count_blocks(blocks, shape, &count)) return NULL;
    if (take(&in, blocks, 0, count * shape->bytes, "blocks") &&
        take(&in, values, 1, 4 * count * shape->elements, "values")) {
        Py_BEGIN_ALLOW_THREADS
        quantised_values(wide, shape, in.views[0].buf, count, in.views[1].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    release(&in);
    return result;
}
