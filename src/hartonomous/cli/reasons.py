"""Why an artifact cost what it cost, in one short line.

``add`` counts pieces by reason (``tensor already stored``, ``tensor stored zstd``, ``data stored
raw``, ``file already stored`` …); a line for people sums them up.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hartonomous.operations.add import Reason

_KINDS = (("file", "files"), ("tensor", "tensors"), ("data", "pieces of data"))
_KNOWN = "already stored"
_NEW = " stored "


def summary(reasons: Sequence["Reason"]) -> str:
    """Return such as ``97 of 101 tensors already stored; zstd 0.92, raw``.

    A number behind an encoding is stored bytes over plain bytes. Empty without reasons.
    """
    parts = [part for kind, words in _kinds(reasons) if (part := _known(reasons, kind, words))]
    encodings = ", ".join(_encodings(reasons))
    if encodings:
        parts.append(encodings)
    if not parts and reasons:
        parts.append("all of it inside the manifest")
    return "; ".join(parts)


def _kinds(reasons: Iterable["Reason"]) -> Iterable[tuple[str, str]]:
    """Return the kinds worth a word: beside tensors, data is headers and small files."""
    tensors = any(one.reason.startswith("tensor ") for one in reasons)
    return (kind for kind in _KINDS if not (tensors and kind[0] == "data"))


def _known(reasons: Iterable["Reason"], kind: str, words: str) -> str:
    ours = [one for one in reasons if one.reason.startswith(f"{kind} ")]
    known = sum(one.piece_count for one in ours if one.reason == f"{kind} {_KNOWN}")
    total = sum(one.piece_count for one in ours)
    if not known:
        return ""
    if kind == "file":  # only files that were known have a reason of their own
        return f"{known:,} {words} {_KNOWN}" if known > 1 else f"{kind} {_KNOWN}"
    if known == total == 1:
        return f"{kind} {_KNOWN}"
    if known == total:
        return f"all {known:,} {words} {_KNOWN}"
    return f"{known:,} of {total:,} {words} {_KNOWN}"


def _encodings(reasons: Iterable["Reason"]) -> list[str]:
    """Return the encodings of what is new, that of the most bytes first, with what they saved."""
    sums: dict[str, list[int]] = {}
    for one in reasons:
        kind, sign, encoding = one.reason.partition(_NEW)
        if sign and not kind.endswith(" already"):
            total = sums.setdefault(encoding, [0, 0])
            total[0] += one.logical_bytes
            total[1] += one.stored_bytes
    ordered = sorted(sums.items(), key=lambda item: -item[1][0])
    return [_encoding(name, logical, stored) for name, (logical, stored) in ordered]


def _encoding(name: str, logical: int, stored: int) -> str:
    if name == "raw" or not logical:
        return name
    part = stored / logical
    return f"{name} {part:.2f}" if part >= 0.005 else f"{name} under 0.01"
