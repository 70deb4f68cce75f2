"""Patterns of LIKE, which treat the letters A to Z and a to z alike on every database."""

import re
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection

_MARKS = re.compile(r"[\\%_]")


def as_it_is(text: str) -> str:
    """Return the pattern that only this text fits."""
    return _MARKS.sub(r"\\\g<0>", text)


def holding(text: str) -> str:
    """Return the pattern that every text fits which this one is a part of."""
    return f"%{as_it_is(text)}%"


def of_shell(pattern: str) -> str:
    """Return a shell pattern as one of LIKE; a set in brackets becomes any letter."""
    made, inside = [], False
    for letter in pattern:
        if inside:
            inside = letter != "]"
        elif letter == "[" and "]" in pattern:
            inside = True
            made.append("_")
        else:
            made.append({"*": "%", "?": "_"}.get(letter) or as_it_is(letter))
    return "".join(made)


def fits(tx: Connection, column: Column[Any], pattern: str) -> ColumnElement[bool]:
    """Return the condition that a text fits a pattern; a backslash takes a letter as it is."""
    if tx.dialect.name == "sqlite":
        return column.like(pattern, escape="\\")
    return column.ilike(pattern, escape="\\")
