"""Patterns of LIKE, which treat the letters A to Z and a to z alike on every database."""

import fnmatch
import re
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection

_MARKS = re.compile(r"[\\%_]")
_SHELL = re.compile(r"\[(?:!.|[^!])[^\]]*\]|.", re.DOTALL)


def as_it_is(text: str) -> str:
    """Return the pattern that only this text fits."""
    return _MARKS.sub(r"\\\g<0>", text)


def holding(text: str) -> str:
    """Return the pattern that every text fits which this one is a part of."""
    return f"%{as_it_is(text)}%"


def of_shell(pattern: str) -> str:
    """Return a shell pattern as one of LIKE; a set in brackets becomes any letter."""
    # A set has one letter at least, so a bracket that follows its beginning does not end it; a
    # bracket that nothing ends stands for itself. So ``fnmatch`` reads them.
    return "".join(
        {"*": "%", "?": "_"}.get(part) or ("_" if len(part) > 1 else as_it_is(part))
        for part in _SHELL.findall(pattern)
    )


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return a shell pattern, sets in brackets too, that treats letters as LIKE does."""
    return re.compile(fnmatch.translate(pattern), re.IGNORECASE)


def fits(tx: Connection, column: Column[Any], pattern: str) -> ColumnElement[bool]:
    """Return the condition that a text fits a pattern; a backslash takes a letter as it is."""
    if tx.dialect.name == "sqlite":
        return column.like(pattern, escape="\\")
    return column.ilike(pattern, escape="\\")
