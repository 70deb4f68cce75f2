"""Conditions on what a search finds: ``meta.author = Ada* and (size > 1MB or tag in (a, b))``."""

import fnmatch
import math
import re
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from hartonomous.core.quantity import parse_size
from hartonomous.errors import UsageError

MOST_CHARS = 4_096
FIELDS = ("name", "file", "format", "kind", "number", "size", "tag", "title")
"""Fields besides ``meta.KEY``, which is the metadata of a version or of a document."""

Operator = Literal["=", "!=", "~", "<", ">", "<=", ">=", "in"]
Values = Callable[[str], Sequence[str]]
"""What a thing has in a field: none, one or several texts."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<sign>!=|<=|>=|[=~<>(),])|(?P<word>[^\s=!~<>(),"']+))"""
)
_END = ("", "")
_MOST_DEPTH = 40


class Comparison(msgspec.Struct, frozen=True, kw_only=True, tag="comparison"):
    """One field compared with values; several only for ``in``."""

    field: str
    operator: Operator
    values: tuple[str, ...]


class Combination(msgspec.Struct, frozen=True, kw_only=True, tag="combination"):
    """Conditions of which all have to hold, or any."""

    every: bool
    parts: tuple["Comparison | Combination", ...]


_NUMBERS = ("size", "number")

Condition = Comparison | Combination


def parse_condition(text: str) -> Condition:
    """Return what a text says.

    ``=`` and ``!=`` compare with a shell pattern, ``~`` says that it contains (whatever the case),
    the others compare sizes and numbers as such and everything else as text. A name that is no
    field is a key of metadata. Raises UsageError that shows where it cannot be understood.
    """
    if len(text) > MOST_CHARS:
        raise UsageError(f"a condition of {len(text):,} characters, {MOST_CHARS:,} are taken")
    return _Parser(text).whole()


def both(conditions: Sequence[Condition]) -> Condition | None:
    """Return the condition that all of some hold."""
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return Combination(every=True, parts=tuple(conditions))


def holds(condition: Condition, values: Values) -> bool:
    """Say whether a condition holds of a thing; a field that it does not have fits ``!=`` alone."""
    if isinstance(condition, Combination):
        parts = (holds(one, values) for one in condition.parts)
        return all(parts) if condition.every else any(parts)
    found = values(condition.field)
    if condition.operator == "!=":
        return not any(_fits(one, "=", wanted) for one in found for wanted in condition.values)
    return any(_fits(one, condition.operator, wanted)
               for one in found for wanted in condition.values)  # fmt: skip


def fields_of(condition: Condition) -> set[str]:
    """Return the fields that a condition asks for."""
    if isinstance(condition, Combination):
        return {field for one in condition.parts for field in fields_of(one)}
    return {condition.field}


def values_of(condition: Condition, field: str) -> set[str]:
    """Return the values of which a field is asked to have one."""
    if isinstance(condition, Combination):
        return {value for one in condition.parts for value in values_of(one, field)}
    said = condition.field == field and condition.operator in ("=", "in")
    return set(condition.values) if said else set()


def _fits(value: str, operator: Operator, wanted: str) -> bool:
    if operator in ("=", "in"):
        return value == wanted or fnmatch.fnmatchcase(value, wanted)
    if operator == "~":
        return wanted.casefold() in value.casefold()
    mine, other = _number(value), _number(wanted)
    left, right = (value, wanted) if mine is None or other is None else (mine, other)
    if operator in ("<", "<="):
        return bool(left < right or (operator == "<=" and left == right))  # type: ignore[operator]
    return bool(left > right or (operator == ">=" and left == right))  # type: ignore[operator]


def _number(text: str) -> float | None:
    for read in (float, parse_size):
        try:
            found = float(read(text))
        except (ValueError, OverflowError):
            continue
        return None if math.isnan(found) else found
    return None


class _Parser:
    """Reads a condition from the left to the right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._next = _END
        self._step()

    def whole(self) -> Condition:
        found = self._any()
        if self._next != _END:
            raise self._wrong("and, or, or its end belongs here")
        return found

    def _step(self) -> tuple[str, str]:
        """Return the token that is next, (what it is, its text), and look at the one behind it."""
        last = self._next
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise self._wrong("a quotation mark is not closed, or a sign belongs elsewhere")
            self._next = _END
            return last
        self._at = found.end()
        kind = str(found.lastgroup)
        said = found[kind]
        self._next = ("quoted", said[1:-1]) if kind == "quoted" else (kind, said)
        return last

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._is_word("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Combination(every=False, parts=tuple(parts))

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._is_word("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Combination(every=True, parts=tuple(parts))

    def _is_word(self, word: str) -> bool:
        if self._next[0] == "word" and self._next[1].lower() == word:
            self._step()
            return True
        return False

    def _is_sign(self, sign: str) -> bool:
        if self._next == ("sign", sign):
            self._step()
            return True
        return False

    def _one(self) -> Condition:
        if self._is_sign("("):
            self._depth += 1
            if self._depth > _MOST_DEPTH:
                raise self._wrong("too many brackets")
            found = self._any()
            if not self._is_sign(")"):
                raise self._wrong("a closing bracket belongs here")
            self._depth -= 1
            return found
        kind, field = self._step()
        if kind not in ("word", "quoted") or not field:
            raise self._wrong("the name of a field belongs here")
        return self._comparison(field if field in FIELDS else f"meta.{field.removeprefix('meta.')}")

    def _comparison(self, field: str) -> Comparison:
        if self._is_word("in"):
            if not self._is_sign("("):
                raise self._wrong("an opening bracket belongs behind 'in'")
            values = [self._value()]
            while self._is_sign(","):
                values.append(self._value())
            if not self._is_sign(")"):
                raise self._wrong("a closing bracket belongs here")
            return Comparison(field=field, operator="in", values=tuple(values))
        for sign in ("=", "!=", "~", "<=", ">=", "<", ">"):
            if self._is_sign(sign):
                value = self._value()
                if field in _NUMBERS and sign[0] in "<>" and _number(value) is None:
                    raise self._wrong(f"the {field} is a number, and {value!r} is none")
                return Comparison(field=field, operator=sign, values=(value,))
        raise self._wrong("one of = != ~ < > <= >= in belongs here")

    def _value(self) -> str:
        """Return a value; words that follow each other are one, up to ``and`` and ``or``."""
        if self._next[0] == "quoted":
            return self._step()[1]
        words = []
        while self._next[0] == "word" and self._next[1].lower() not in ("and", "or"):
            words.append(self._step()[1])
        if not words:
            raise self._wrong("a value belongs here")
        return " ".join(words)

    def _wrong(self, what: str) -> UsageError:
        shown = self._text[: self._at][-40:]
        return UsageError(
            f"the condition {self._text[:80]!r} cannot be understood behind {shown!r}: {what}",
            hint="such as meta.author = Ada and size > 1MB; quote values with signs in them",
        )
