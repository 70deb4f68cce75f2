"""Entries of tables of readers: ``module:attribute``, imported when the first file wants one."""

import functools
import importlib
from typing import Any


@functools.cache
def load(entry: str) -> Any:
    """Import what an entry names, ``module:attribute``; raises what the import raises.

    Whoever calls it says what it is: a ``Format``, a ``DocumentReader``.
    """
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
