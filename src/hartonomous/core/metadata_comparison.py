"""Comparison of two models' metadata: which JSON values differ, and where.

Pure. Walks both values together without recursion; the number of differences and the length of
every value told are bounded, what was left out is counted.
"""

from typing import Any

import msgspec

from hartonomous.core.quantity import several

MAX_DIFFERENCES = 1_000
"""So many differences are listed; further ones are counted."""

_MAX_TEXT = 200


class MetadataDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A value at ``path`` that is in one side only (``added``, ``removed``) or ``changed``.

    ``a`` and ``b`` are JSON scalars; long text is cut at 200 characters, a list or mapping is told
    by its size, and a number that JSON does not have by its name (``NaN``, ``Infinity``).
    """

    path: str
    change: str
    a: str | int | float | bool | None = None
    b: str | int | float | bool | None = None


class MetadataComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The differences found, in order of path, and how many more there are."""

    differences: tuple[MetadataDifference, ...] = ()
    omitted_count: int = 0


def compare_metadata(
    a: dict[str, Any], b: dict[str, Any], *, limit: int = MAX_DIFFERENCES
) -> MetadataComparison:
    """Return where two mappings of JSON values differ.

    Paths join keys with ``.`` and list positions as ``[n]``. ``1``, ``1.0`` and ``true`` are
    different values; NaN equals NaN.
    """
    found: list[MetadataDifference] = []
    omitted = 0
    waiting: list[tuple[str, Any, Any]] = [("", a, b)]
    while waiting:
        path, left, right = waiting.pop()
        if left is right:
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            waiting += _mapping_children(path, left, right)
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            waiting += _sequence_children(path, left, right)
        elif _differs(left, right):
            if len(found) < limit:
                found.append(_difference(path, left, right))
            else:
                omitted += 1
    return MetadataComparison(differences=tuple(found), omitted_count=omitted)


class _Absent:
    """Marks a key or position that one side does not have."""


_ABSENT = _Absent()


def _mapping_children(
    path: str, left: dict[str, Any], right: dict[str, Any]
) -> list[tuple[str, Any, Any]]:
    # In reverse, because the stack gives back the last one first.
    keys = sorted(left.keys() | right.keys(), key=str, reverse=True)
    prefix = f"{path}." if path else ""
    return [
        (_bounded(f"{prefix}{key}"), left.get(key, _ABSENT), right.get(key, _ABSENT))
        for key in keys
    ]


def _sequence_children(path: str, left: Any, right: Any) -> list[tuple[str, Any, Any]]:
    children = []
    for index in range(max(len(left), len(right)) - 1, -1, -1):
        in_left = left[index] if index < len(left) else _ABSENT
        in_right = right[index] if index < len(right) else _ABSENT
        if type(in_left) is type(in_right) and isinstance(in_left, str) and in_left == in_right:
            continue  # vocabularies are long and mostly equal: no path is built for these
        children.append((_bounded(f"{path}[{index}]"), in_left, in_right))
    return children


def _differs(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return True
    both_nan = left != left and right != right  # noqa: PLR0124 - the test for NaN
    return bool(left != right) and not both_nan


def _difference(path: str, left: Any, right: Any) -> MetadataDifference:
    change = "added" if left is _ABSENT else "removed" if right is _ABSENT else "changed"
    return MetadataDifference(path=path, change=change, a=_told(left), b=_told(right))


def _told(value: Any) -> str | int | float | bool | None:
    if value is None or value is _ABSENT:
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else _bounded(hex(value))
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124 - the test for NaN
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    if isinstance(value, dict | list | tuple):
        return several(len(value), "key" if isinstance(value, dict) else "item")
    return _bounded(str(value))


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
