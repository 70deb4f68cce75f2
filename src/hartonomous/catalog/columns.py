"""Column types that check what the database gives back.

SQLite keeps any kind of value in any column, and a catalog may come from somebody else or from a
failing disk. So every value is looked at where it enters the program: what no writer puts there is
damage of the catalog, and not an error somewhere further up. (STRICT tables would check what is
written, not what is read, and know no BIGINT.)
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    TypeDecorator,
    false,
)
from sqlalchemy.types import TypeEngine

from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError

T = TypeVar("T")

LARGEST = 2**63 - 1
"""The largest number that a column holds."""


def numbered(column: ColumnElement[int], number: int) -> ColumnElement[bool]:
    """Return the condition that a column has a number; no row meets it where none can hold it.

    A database would refuse such a number: this is for those that people give to name a row.
    """
    return column == number if abs(number) <= LARGEST else false()


def damaged(what: str) -> IntegrityError:
    """Return the error for a catalog in which something cannot be as it is."""
    return IntegrityError(
        f"the catalog is damaged: {what}", hint="hart repair rebuilds it from the packs"
    )


def decode_json(text: str, kind: type[T] | Any) -> T:
    """Return the value of a column that holds JSON; raises IntegrityError if it is none such."""
    try:
        decoded: T = msgspec.json.decode(text, type=kind)
    except UNDECODABLE as error:
        raise damaged(f"a column's JSON cannot be understood: {error}") from error
    return decoded


class _Checked(TypeDecorator[Any]):
    """A type whose results are checked; ``optional`` allows NULL, in outer joins as well."""

    impl: type[TypeEngine[Any]] = Text
    cache_ok = True
    python_type_wanted: type = str

    def __init__(self, *arguments: Any, optional: bool = False) -> None:
        super().__init__(*arguments)
        self.optional = optional

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return the value; raises IntegrityError where it has another type."""
        if type(value) is self.python_type_wanted or (value is None and self.optional):
            return value
        found = "NULL" if value is None else type(value).__name__
        raise damaged(f"{found} stands where {self.python_type_wanted.__name__} belongs")


_ESCAPE = "\ue000"
"""A letter for private use, which stands before what PostgreSQL cannot keep in a text."""


def escaped(text: str) -> str:
    """Return a text as PostgreSQL can keep it: without NUL, which hostile names may have."""
    if "\0" not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")


def unescaped(text: str) -> str:
    """Return the text that ``escaped`` was given."""
    if _ESCAPE not in text:
        return text
    return text.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE)


class Words(_Checked):
    """Text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the value as the database can keep it."""
        if dialect.name == "sqlite" or type(value) is not str:
            return value
        return escaped(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value; raises IntegrityError where it is no text."""
        if type(value) is str:
            return value if dialect.name == "sqlite" else unescaped(value)
        return super().process_result_value(value, dialect)


class Whole(_Checked):
    """A whole number of 64 bits with a sign, such as a time."""

    impl: type[TypeEngine[Any]] = BigInteger
    cache_ok = True
    python_type_wanted = int

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value; raises IntegrityError where it is no whole number."""
        if type(value) is Decimal and value == value.to_integral_value():
            return int(value)  # a sum of BIGINT, which PostgreSQL gives as NUMERIC
        return super().process_result_value(value, dialect)


class Count(Whole):
    """A whole number from 0 on: a size, a place, a number of things."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value; raises IntegrityError where it is negative, too."""
        found = super().process_result_value(value, dialect)
        if found is not None and found < 0:
            raise damaged(f"{found} stands where a size or a count belongs")
        return found


class Small(Count):
    """A whole number of 16 bits."""

    impl = SmallInteger
    cache_ok = True


class Mode(Count):
    """The permission bits of a file."""

    impl = Integer
    cache_ok = True


class RowId(Whole):
    """A surrogate key. SQLite gives rowids to INTEGER keys only."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return INTEGER for SQLite, BIGINT for others."""
        kind = Integer() if dialect.name == "sqlite" else BigInteger()
        return dialect.type_descriptor(kind)


class Binary(_Checked):
    """Bytes; with a length, exactly so many."""

    impl = LargeBinary
    cache_ok = True
    python_type_wanted = bytes

    def __init__(self, length: int | None = None, *, optional: bool = False) -> None:
        super().__init__(length, optional=optional)
        self.length = length

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the check alone: ``bytes`` of a number would be that many zeros."""
        del coltype

        def check(value: Any) -> Any:
            return self.process_result_value(
                bytes(value) if isinstance(value, memoryview) else value, dialect
            )

        return check

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value; raises IntegrityError where it has another length, too."""
        found = super().process_result_value(value, dialect)
        if found is not None and self.length is not None and len(found) != self.length:
            raise damaged(f"{len(found)} bytes stand where {self.length} belong")
        return found
