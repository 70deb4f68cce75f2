"""Claims: what files say about themselves, read with type and bounds; the rest is ignored.

Model cards, configuration files and GGUF keys are untrusted. A value of a wrong type or size costs
a notice and is treated as not there; nothing here raises.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hartonomous.core.description import Notice

MAX_TEXT_BYTES = 1024
MAX_LIST_LENGTH = 256
MAX_NOTICES = 32
MAX_NUMBER = 2**53
"""Counts beyond what JSON readers keep exactly are taken for nonsense."""

Scalar = str | int | float | bool

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def clean(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Return ``text`` in at most ``limit`` UTF-8 bytes, runs of control characters as one space.

    Control characters include those that redraw a terminal or reverse a line of text.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # as most names are
    short = _CONTROL.sub(" ", text[:limit])
    return short.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


class NoticeLog:
    """Collects notices up to a bound, each once; what is beyond it is counted, not kept."""

    __slots__ = ("_kept", "_left_out")

    def __init__(self, notices: Iterable[Notice] = ()) -> None:
        self._kept: dict[Notice, None] = dict.fromkeys(notices)
        self._left_out = 0

    def add(self, kind: str, text: str) -> None:
        """Keep a notice, or count it."""
        notice = Notice(kind=kind, text=clean(text))
        if len(self._kept) < MAX_NOTICES - 1:
            self._kept[notice] = None
        elif notice not in self._kept:
            self._left_out += 1

    def notices(self) -> list[Notice]:
        """Return what was kept, and a last notice about what was not."""
        if not self._left_out:
            return list(self._kept)
        return [*self._kept, Notice(kind="more", text=f"{self._left_out} more notices left out")]


class Claims:
    """The values of one mapping (a JSON object, a card's front matter, GGUF's keys).

    ``origin`` names the file in notices. Absent and null values are None without a notice.
    """

    __slots__ = ("_log", "_values", "origin")

    def __init__(self, values: object, *, origin: str, log: NoticeLog) -> None:
        self.origin = origin
        self._log = log
        self._values: Mapping[Any, Any] = values if isinstance(values, Mapping) else {}
        if values is not None and not isinstance(values, Mapping):
            log.add("metadata", f"{origin} holds no object but {_type(values)}")

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said, or no such file is there."""
        return not self._values

    def part(self, key: str) -> "Claims":
        """Return the object under ``key``; an empty one where there is none."""
        return Claims(self._values.get(key), origin=f"{self.origin}: {key}", log=self._log)

    def text(self, key: str) -> str | None:
        """Return a string cut to ``MAX_TEXT_BYTES`` and freed of control characters."""
        value = self._values.get(key)
        if isinstance(value, dict) and value.get("type") == "string":
            value = value.get("head")  # a long GGUF string, summarised by its parser
        if value is None or isinstance(value, str):
            return (clean(value).strip() or None) if value else None
        self._refuse(key, "a text", value)
        return None

    def count(self, *keys: str) -> int | None:
        """Return the first of ``keys`` that holds a whole number from 0 to 2**53.

        Of a list (one number a layer) the largest counts.
        """
        for key in keys:
            value = self._values.get(key)
            if value is None:
                continue
            numbers = [number for number in _elements(value) if _is_count(number)]
            if numbers:
                return int(max(numbers))
            self._refuse(key, f"a count up to {MAX_NUMBER}", value)
        return None

    def texts(self, key: str) -> list[str]:
        """Return a list of strings; a single string counts as a list of one. No duplicates."""
        value = self._values.get(key)
        if value is None:
            return []
        found = [item for item in _elements(value)[:MAX_LIST_LENGTH] if isinstance(item, str)]
        if not found and not _is_empty(value):
            self._refuse(key, "a text or a list of texts", value)
        cleaned = (clean(item, 256).strip() for item in found)
        return list(dict.fromkeys(item for item in cleaned if item))

    def length(self, key: str) -> int | None:
        """Return the length of a list or object, or of a long GGUF array that was summarised."""
        value = self._values.get(key)
        if isinstance(value, Mapping) and value.get("type") == "array":
            return Claims(value, origin=f"{self.origin}: {key}", log=self._log).count("count")
        return len(value) if isinstance(value, (list, tuple, Mapping)) else None

    def scalar(self, key: str) -> Scalar | None:
        """Return a boolean, a bounded number or a bounded string, whatever is there."""
        value = self._values.get(key)
        if isinstance(value, str):
            return self.text(key)
        if isinstance(value, float):
            return value if abs(value) < MAX_NUMBER else None
        return value if isinstance(value, bool) or _is_count(value) else None

    def extents(self, key: str) -> str | None:
        """Return a short list of counts as text, such as ``128x128``."""
        value = self._values.get(key)
        if not isinstance(value, (list, tuple)) or not 0 < len(value) <= 8:
            return None
        return "x".join(map(str, value)) if all(map(_is_count, value)) else None

    def _refuse(self, key: str, wanted: str, value: object) -> None:
        self._log.add(
            "metadata", f"{self.origin}: {key} is ignored: not {wanted} but {_type(value)}"
        )


def _elements(value: object) -> Sequence[Any]:
    """Return a list's elements, the head of a summarised array, or the value alone."""
    if isinstance(value, Mapping) and value.get("type") == "array":
        value = value.get("head")
    if isinstance(value, (list, tuple)):
        return value[: 16 * MAX_LIST_LENGTH]
    return [value]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _is_empty(value: object) -> bool:
    return isinstance(value, (str, list, tuple, Mapping)) and not value


def _type(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        bits = value.bit_length()
        return f"the number {value}" if bits <= 64 else f"a number of {bits} bits"
    return {"dict": "an object", "list": "a list", "str": "a text"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
