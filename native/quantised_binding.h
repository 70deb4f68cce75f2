/* What module.c puts into the module of quantised tensors and of casts. */
#ifndef HARTONOMOUS_QUANTISED_BINDING_H
#define HARTONOMOUS_QUANTISED_BINDING_H

#include "module.h"

PyObject *split_blocks(PyObject *self, PyObject *arguments);
PyObject *join_blocks(PyObject *self, PyObject *arguments);
PyObject *values_of_blocks(PyObject *self, PyObject *arguments);
PyObject *fit_rounded(PyObject *self, PyObject *arguments);
PyObject *round_values(PyObject *self, PyObject *arguments);
PyObject *cast_floats(PyObject *self, PyObject *arguments);

#endif
