/* The binding of signs.c: arrays of numpy, compared without the GIL. */
#include "module.h"
#include "signs.h"

/* Whether a buffer holds exactly `bytes`, which may be read as words where they are. */
static int fits(const Py_buffer *view, size_t bytes, const char *name) {
    if ((size_t)view->len == bytes && !((uintptr_t)view->buf % 8)) return 1;
    PyErr_Format(PyExc_ValueError, "%s has to be %zu aligned bytes", name, bytes);
    return 0;
}

/* Take word w of all columns from a matrix of uint64 whose rows may lie apart. */
static int rows_of(const Py_buffer *view, const uint64_t *words[SIGN_WORDS], size_t *count) {
    const char *base = view->buf;
    if (view->ndim != 2 || view->itemsize != 8 || view->shape[0] != SIGN_WORDS ||
        (view->shape[1] > 1 && view->strides[1] != 8) || view->strides[0] % 8 ||
        (uintptr_t)base % 8) {
        PyErr_SetString(PyExc_ValueError, "words have to be uint64 of shape (4, n), row by row");
        return 0;
    }
    for (int k = 0; k < SIGN_WORDS; k++)
        words[k] = (const uint64_t *)(const void *)(base + k * view->strides[0]);
    *count = (size_t)view->shape[1];
    return 1;
}

PyObject *near_signs(PyObject *self, PyObject *arguments) {
    const uint64_t *words[SIGN_WORDS];
    enum { WORDS, WANTED, LIMITS, COLUMNS, DISTANCES, ALL };
    PyObject *from[ALL], *result = NULL;
    Py_buffer views[ALL];
    size_t count, found;
    int wide, held = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "pOOOOO", &wide, from, from + 1, from + 2, from + 3, from + 4))
        return NULL;
    for (; held < ALL; held++) {
        int flags = held == WORDS ? PyBUF_STRIDES : held < COLUMNS ? PyBUF_SIMPLE : PyBUF_WRITABLE;
        if (PyObject_GetBuffer(from[held], views + held, flags)) goto done;
    }
    if (rows_of(views + WORDS, words, &count) && fits(views + WANTED, 8 * SIGN_WORDS, "wanted") &&
        fits(views + LIMITS, sizeof(int16_t) * SIGN_LIMITS, "limits") &&
        fits(views + COLUMNS, 8 * count, "columns") &&
        fits(views + DISTANCES, 8 * count, "distances")) {
        Py_BEGIN_ALLOW_THREADS
        found = near_columns(wide, words, count, views[WANTED].buf, views[LIMITS].buf,
                             views[COLUMNS].buf, views[DISTANCES].buf);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(found);
    }
done:
    while (held) PyBuffer_Release(views + --held);
    return result;
}

PyObject *any_near_signs(PyObject *self, PyObject *arguments) {
    enum { WORDS, WANTED, LIMITS, MOST, FOUND, ALL };
    PyObject *from[ALL], *result = NULL;
    Py_buffer views[ALL];
    sign_query query;
    int wide, held = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "pOOOOO", &wide, from, from + 1, from + 2, from + 3, from + 4))
        return NULL;
    for (; held < ALL; held++) {
        int flags = held == WORDS ? PyBUF_STRIDES : held < FOUND ? PyBUF_SIMPLE : PyBUF_WRITABLE;
        if (PyObject_GetBuffer(from[held], views + held, flags)) goto done;
    }
    query.many = (size_t)views[FOUND].len;
    if (rows_of(views + WORDS, query.words, &query.count) &&
        fits(views + WANTED, 8 * SIGN_WORDS * query.many, "wanted") &&
        fits(views + LIMITS, sizeof(int16_t) * SIGN_LIMITS * query.many, "limits") &&
        fits(views + MOST, sizeof(int16_t) * query.many, "most")) {
        query.wanted = views[WANTED].buf;
        query.limits = views[LIMITS].buf;
        query.most = views[MOST].buf;
        Py_BEGIN_ALLOW_THREADS
        any_near(wide, &query, views[FOUND].buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
done:
    while (held) PyBuffer_Release(views + --held);
    return result;
}
