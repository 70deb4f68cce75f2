"""Patterns of LIKE, which treat the letters A to Z and a to z alike on every database."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection


def fits(tx: Connection, column: Column[Any], pattern: str) -> ColumnElement[bool]:
    """Return the condition that a text fits a pattern; a backslash takes a letter as it is."""
    if tx.dialect.name == "sqlite":
        return column.like(pattern, escape="\\")
    return column.ilike(pattern, escape="\\")
