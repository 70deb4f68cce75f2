/* hartonomous.codecs._kernel: quantised.h for Python. Sizes are checked here, the GIL is given up. */
#include "quantised_binding.h"

#include "casts.h"
#include "quantised.h"
#include "rounded.h"

#include <stdlib.h>

/* The arrays of a call, sized for `count` blocks. */
typedef struct {
    Py_buffer views[6];
    int held;
} arrays;

static void let_go(arrays *taken) {
    while (taken->held) PyBuffer_Release(taken->views + --taken->held);
}

/* Take one more array of exactly `bytes`; returns 0 with an exception set. */
static int hold(arrays *taken, PyObject *from, int writable, size_t bytes, const char *name) {
    Py_buffer *view = taken->views + taken->held;
    if (PyObject_GetBuffer(from, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE)) return 0;
    taken->held++;
    if ((size_t)view->len == bytes) return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes where %zu are expected", name, view->len, bytes);
    return 0;
}

/* Take `count` numbers of `size` bytes each, which C reads where they lie: aligned to their size. */
static int hold_numbers(arrays *taken, PyObject *from, int writable, size_t count, size_t size,
                        const char *name) {
    const Py_buffer *view = taken->views + taken->held;
    if (!hold(taken, from, writable, count * size, name)) return 0;
    if (!count || !((uintptr_t)view->buf % size)) return 1;
    PyErr_Format(PyExc_ValueError, "%s has to be aligned to %zu bytes", name, size);
    return 0;
}

static const quantised_shape *find_shape(unsigned number, unsigned recipe) {
    const quantised_shape *shape = quantised_shape_of(number);
    if (shape && recipe < 8 && shape->recipes >> recipe & 1) return shape;
    PyErr_Format(PyExc_ValueError, "there is no recipe %u for ggml's type %u", recipe, number);
    return NULL;
}

/* How many whole blocks an object holds; returns 0 with an exception set where it is no buffer. */
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
    if (hold(&in, blocks, 0, count * shape->bytes, "blocks") &&
        hold_numbers(&in, source, 0, count * shape->elements, sizeof(float), "source") &&
        hold(&in, header, 1, count * shape->header, "header") &&
        hold(&in, residual, 1, count * shape->elements, "residual")) {
        Py_BEGIN_ALLOW_THREADS
        missed = quantised_split(wide, shape, recipe, in.views[0].buf, in.views[1].buf, count,
                                 in.views[2].buf, in.views[3].buf);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(missed);
    }
    let_go(&in);
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
    if (hold(&in, blocks, 1, count * shape->bytes, "blocks") &&
        hold_numbers(&in, source, 0, count * shape->elements, sizeof(float), "source") &&
        hold(&in, header, 0, count * shape->header, "header") &&
        (predicted || hold(&in, residual, 0, count * shape->elements, "residual"))) {
        Py_BEGIN_ALLOW_THREADS
        quantised_join(wide, shape, recipe, in.views[2].buf, in.views[1].buf,
                       predicted ? NULL : in.views[3].buf, count, in.views[0].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    let_go(&in);
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
    if (hold(&in, blocks, 0, count * shape->bytes, "blocks") &&
        hold_numbers(&in, values, 1, count * shape->elements, sizeof(float), "values")) {
        Py_BEGIN_ALLOW_THREADS
        quantised_values(wide, shape, in.views[0].buf, count, in.views[1].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    let_go(&in);
    return result;
}

/* --- rounded bytes --- */

/* The groups of `count` elements; 0 with an exception set for an unknown type or a grid that does not
 * fit. */
static size_t find_groups(unsigned number, const rounded_grid *grid, uint64_t position,
                          size_t count) {
    size_t groups = rounded_magnitudes(number) ? rounded_groups(grid, position, count) : 0;
    if (!groups) PyErr_SetString(PyExc_ValueError, "unknown type, or more scales than elements");
    return groups;
}

/* How many bytes an object holds; returns 0 with an exception set where it is no buffer. */
static int count_bytes(PyObject *from, size_t *count) {
    Py_buffer view;
    if (PyObject_GetBuffer(from, &view, PyBUF_SIMPLE)) return 0;
    *count = (size_t)view.len;
    PyBuffer_Release(&view);
    return 1;
}

PyObject *fit_rounded(PyObject *self, PyObject *arguments) {
    unsigned number;
    int wide;
    unsigned long long position, columns;
    size_t count, groups, magnitudes;
    rounded_grid grid;
    PyObject *content, *values, *sizes, *lower, *upper, *table, *result = NULL;
    rounded_group *work = NULL;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IpKKIIOOOOOO", &number, &wide, &position, &columns,
                          &grid.block_rows, &grid.block_columns, &content, &values, &sizes, &lower,
                          &upper, &table))
        return NULL;
    grid.columns = columns;
    if (!count_bytes(content, &count)) return NULL;
    groups = find_groups(number, &grid, position, count);
    if (!groups) return NULL;
    magnitudes = rounded_magnitudes(number);
    if (hold(&in, content, 0, count, "content") &&
        hold_numbers(&in, values, 0, count, sizeof(float), "values") &&
        hold_numbers(&in, sizes, 0, magnitudes, sizeof(double), "sizes") &&
        hold_numbers(&in, lower, 0, magnitudes, sizeof(double), "lower") &&
        hold_numbers(&in, upper, 0, magnitudes, sizeof(double), "upper") &&
        hold(&in, table, 1, groups * ROUNDED_TABLE_BYTES, "table")) {
        const rounded_steps steps = {in.views[2].buf, in.views[3].buf, in.views[4].buf};
        work = malloc(groups * sizeof *work);
        if (work) {
            Py_BEGIN_ALLOW_THREADS
            rounded_fit(wide, number, &grid, position, in.views[0].buf, in.views[1].buf, count,
                        &steps, work, in.views[5].buf);
            Py_END_ALLOW_THREADS
            Py_INCREF(result = Py_None);
        } else {
            PyErr_NoMemory();
        }
        free(work);
    }
    let_go(&in);
    return result;
}

PyObject *round_values(PyObject *self, PyObject *arguments) {
    unsigned number;
    int wide, predicted;
    unsigned long long position, columns;
    size_t count, groups;
    rounded_grid grid;
    PyObject *table, *values, *residual, *out, *result = NULL;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IpKKIIOOOO", &number, &wide, &position, &columns,
                          &grid.block_rows, &grid.block_columns, &table, &values, &residual, &out))
        return NULL;
    grid.columns = columns;
    predicted = residual == Py_None;
    if (!count_bytes(out, &count)) return NULL;
    groups = find_groups(number, &grid, position, count);
    if (!groups) return NULL;
    if (hold(&in, table, 0, groups * ROUNDED_TABLE_BYTES, "table") &&
        hold_numbers(&in, values, 0, count, sizeof(float), "values") &&
        hold(&in, out, 1, count, "out") &&
        (predicted || hold(&in, residual, 0, count, "residual"))) {
        Py_BEGIN_ALLOW_THREADS
        rounded_codes(wide, number, &grid, position, in.views[0].buf, in.views[1].buf,
                      predicted ? NULL : in.views[3].buf, count, in.views[2].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    let_go(&in);
    return result;
}

/* --- casts --- */

PyObject *cast_floats(PyObject *self, PyObject *arguments) {
    unsigned cast, rule;
    int wide;
    size_t bytes, count;
    PyObject *source, *target, *result = NULL;
    arrays in = {.held = 0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "IIpOO", &cast, &rule, &wide, &source, &target)) return NULL;
    if (cast >= CASTS || rule >= NAN_RULES) {
        PyErr_SetString(PyExc_ValueError, "unknown cast or rule");
        return NULL;
    }
    if (!count_bytes(source, &bytes)) return NULL;
    count = bytes / cast_source_bytes(cast);
    if (hold(&in, source, 0, count * cast_source_bytes(cast), "source") &&
        hold(&in, target, 1, count * cast_target_bytes(cast), "target")) {
        Py_BEGIN_ALLOW_THREADS
        cast_values(wide, cast, rule, in.views[0].buf, count, in.views[1].buf);
        Py_END_ALLOW_THREADS
        Py_INCREF(result = Py_None);
    }
    let_go(&in);
    return result;
}
