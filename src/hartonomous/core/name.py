"""Names that people type: artifacts, labels, tags, metadata keys, and ``NAME@SELECTOR``.

Pure text. An artifact's name is UTF-8 in Unicode form NFC, so that the same word typed on two
machines is one name; a path inside an artifact is never normalised, because it has to come back as
it was. What a file name may hold and a name may not (control characters, bytes that are no UTF-8)
is escaped byte by byte as ``\\xNN``, by ``escape_path``.
"""

import re
import unicodedata
from dataclasses import dataclass

from hartonomous.core.digest import LEAST_DIGITS, digest, is_short_prefix, parse_digest_prefix
from hartonomous.errors import UsageError

MAX_NAME_BYTES = 512
SPACES_FOLDER = ".spaces/"
"""Names below it are those of blocks of vectors, and nobody else's."""
MAX_LABEL_CHARACTERS = 64
MAX_META_BYTES = 4096
MAX_VERSION_NUMBER = 2**63 - 1

# Control characters, line and paragraph separators, characters that turn the direction of the text
# around (they make one name look like another), and surrogates (they stand for raw bytes).
_UNPRINTABLE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_FORBIDDEN = re.compile(f"[{_UNPRINTABLE}]")
_ESCAPED = re.compile(rf"[\\{_UNPRINTABLE}]")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,64}")
_META_KEY = _LABEL
_META_HINT = "write --meta licence=apache-2.0; a key is 1 to 64 of A-Z a-z 0-9 . _ / -"
_DIGITS = re.compile(r"[0-9]+")
_VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_SPACE_OR_COMMA = re.compile(r"[\s,]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """What the ``X`` of ``NAME@X`` may mean; the fields that are not None are tried in this order.

    Only the catalog knows which of them exists: ``12345678`` may be a version number and a digest
    prefix, ``deadbeef`` a label and a digest prefix.
    """

    text: str
    number: int | None = None
    label: str | None = None
    digest_prefix: str | None = None


def check_name(text: str) -> str:
    """Return ``text`` as an artifact's name (in NFC); raises UsageError saying what is wrong.

    A name is 1 to 512 bytes of UTF-8 whose parts between slashes are neither empty nor ``.`` nor
    ``..``, without control characters. Spaces, colons, ``@`` and letters of any script are fine.
    """
    problem = _problem_of(text)
    if problem is None:
        name = unicodedata.normalize("NFC", text)
        problem = _problem_of(name)  # composing may lengthen a name
        if problem is None:
            return name
    raise UsageError(
        f"{text[:600]!r} is not a name: {problem}",
        hint="use something like org/name or name:tag",
    )


def check_new_name(text: str) -> str:
    """Return ``text`` as a name that somebody gives (in NFC); raises UsageError.

    Names below ``.spaces/`` are those of blocks of vectors.
    """
    name = check_name(text)
    if name.startswith(SPACES_FOLDER):
        raise UsageError(
            f"names below {SPACES_FOLDER} are those of vectors", hint="give another name"
        )
    return name


def is_name(text: str) -> bool:
    """Say whether ``text`` is valid as an artifact's name."""
    return _problem_of(text) is None and _problem_of(unicodedata.normalize("NFC", text)) is None


def _problem_of(text: str) -> str | None:
    if not text:
        return "it is empty"
    if len(text) > MAX_NAME_BYTES:  # before encoding or searching, so that the work is bounded
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    bad = _FORBIDDEN.search(text)
    if bad:
        return f"it has the character U+{ord(bad.group()):04X} (write raw bytes as \\xNN)"
    if len(text.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if any(part in ("", ".", "..") for part in text.split("/")):
        return "a part between slashes is empty, '.' or '..'"
    return None


def escape_path(raw: bytes) -> str:
    r"""Return the text form of a path on disk: UTF-8 that can be printed, stored and hashed.

    Bytes that are no UTF-8, control characters and the backslash itself become ``\xNN``, one for
    each byte, so that two different paths never share a text form; all else stays as it is.
    """
    return _ESCAPED.sub(_escape_one, raw.decode("utf-8", "surrogateescape"))


def unescape_path(text: str) -> bytes:
    """Return the bytes whose text form is ``text``; the inverse of ``escape_path``."""
    pieces: list[bytes] = []
    at = 0
    for found in _ESCAPE.finditer(text):
        pieces += (text[at : found.start()].encode(), bytes.fromhex(found.group(1)))
        at = found.end()
    return b"".join((*pieces, text[at:].encode()))


def _escape_one(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found.group().encode("utf-8", "surrogateescape"))


def path_endings(path: str, *, at_least: int = 1) -> tuple[str, ...]:
    """Return the endings of a path as names to try in order, the shortest first.

    ``path`` is the text form of an absolute path, or of a relative one without ``.`` and ``..``:
    ``/m/bert/model.safetensors`` gives ``model.safetensors``, ``bert/model.safetensors``,
    ``m/bert/model.safetensors``. The first has ``at_least`` parts (or all there are). An ending
    over 512 bytes is no name and is left out; if that would leave nothing, the first one is cut and
    closed by ``~`` and 16 hex digits of the BLAKE3 of what it was. Empty for a path without parts.
    """
    parts = [part for part in unicodedata.normalize("NFC", path).split("/") if part]
    if not parts:
        return ()
    start = max(0, len(parts) - max(1, at_least))
    ending = "/".join(parts[start:])
    endings: list[str] = []
    while len(ending.encode()) <= MAX_NAME_BYTES:
        endings.append(ending)
        if start == 0:
            break
        start -= 1
        ending = f"{parts[start]}/{ending}"
    return tuple(endings) or (_cut(ending),)


def _cut(ending: str) -> str:
    content = ending.encode()
    mark = f"~{digest(content).hex()[:16]}"
    head = content[: MAX_NAME_BYTES - len(mark)].decode("utf-8", "ignore")
    return head.rstrip("/.") + mark


def split_spec(text: str) -> list[tuple[str, str | None]]:
    """Return what ``NAME`` or ``NAME@X`` may mean, as (name, selector text) in order.

    The whole text comes first: a file whose name holds ``@`` is found as it is, and its versions by
    ``a@b.bin@2``. Then the split at the last ``@``, since no selector can hold one. The first whose
    name exists in the catalog is meant. Raises UsageError when neither part could be a name.
    """
    readings: list[tuple[str, str | None]] = []
    if is_name(text):
        readings.append((unicodedata.normalize("NFC", text), None))
    name, mark, selector = text.rpartition("@")
    if mark and is_name(name) and _reading_of(selector) is not None:
        readings.append((unicodedata.normalize("NFC", name), selector))
    if not readings:
        check_name(name if mark and selector else text)  # raises, unless the selector is at fault
        parse_selector(selector)
    return readings


def parse_selector(text: str) -> Selector:
    """Return what the ``X`` of ``NAME@X`` may be: version number, label, digest prefix.

    Raises UsageError when it can be none of them.
    """
    found = _reading_of(text)
    if found is None and is_short_prefix(text):
        raise UsageError(
            f"{text!r} selects no version",
            hint=f"the beginning of a digest needs {LEAST_DIGITS} digits or more",
        )
    if found is None:
        raise UsageError(
            f"{text[:100]!r} selects no version",
            hint="write NAME@3 (version), NAME@prod (label) or NAME@1a2b3c4d (digest prefix)",
        )
    return found


def _reading_of(text: str) -> Selector | None:
    number = int(text) if _VERSION_NUMBER.fullmatch(text) else None
    if number is not None and number > MAX_VERSION_NUMBER:
        number = None
    label = text if is_label(text) else None
    prefix = parse_digest_prefix(text)
    if number is None and label is None and prefix is None:
        return None
    return Selector(text=text, number=number, label=label, digest_prefix=prefix)


def is_label(text: str) -> bool:
    """Say whether ``text`` is valid as a label."""
    return _LABEL.fullmatch(text) is not None and _DIGITS.fullmatch(text) is None


def check_label(text: str) -> str:
    """Return ``text`` as a label; raises UsageError.

    A label is 1 to 64 of ``A-Z a-z 0-9 . _ / -`` and not digits alone, which would be a version
    number. Having no colon, it is never mistaken for ``blake3:…``.
    """
    if is_label(text):
        return text
    raise UsageError(
        f"{text[:100]!r} is not a label",
        hint=f"use 1 to {MAX_LABEL_CHARACTERS} of A-Z a-z 0-9 . _ / - and not digits alone",
    )


def check_tag(text: str) -> str:
    """Return ``text`` as a tag (in NFC); raises UsageError.

    A tag is 1 to 64 printable characters without white space or comma.
    """
    tag = unicodedata.normalize("NFC", text[: MAX_LABEL_CHARACTERS + 1])
    fits = 0 < len(tag) <= MAX_LABEL_CHARACTERS and len(text) <= MAX_LABEL_CHARACTERS
    if fits and not _FORBIDDEN.search(tag) and not _SPACE_OR_COMMA.search(tag):
        return tag
    raise UsageError(
        f"{text[:100]!r} is not a tag",
        hint=f"use 1 to {MAX_LABEL_CHARACTERS} characters without spaces, commas or controls",
    )


def parse_meta(text: str) -> tuple[str, str]:
    """Return key and value of ``key=value``, cut at the first ``=``; raises UsageError."""
    key, mark, value = text.partition("=")
    if not mark:
        raise UsageError(f"{text[:100]!r} is not key=value", hint=_META_HINT)
    check_meta(key, value)
    return key, value


def check_meta(key: object, value: object) -> None:
    """Raise UsageError for what is no metadata of a version.

    The key is 1 to 64 of ``A-Z a-z 0-9 . _ / -``. The value is up to 4096 bytes of UTF-8, kept as
    it is, and it may be empty; of the control characters it may hold tabs and newlines only.
    """
    if not isinstance(key, str) or not _META_KEY.fullmatch(key):
        raise UsageError(f"{str(key)[:100]!r} is no key of metadata", hint=_META_HINT)
    if not isinstance(value, str):
        raise UsageError(
            f"the value of {key!r} is of type {type(value).__name__}; metadata are text",
            hint="use str(value)",
        )
    if len(value) > MAX_META_BYTES or _FORBIDDEN.search(value.translate({9: None, 10: None})):
        raise UsageError(
            f"the value of {key!r} is too long or has control characters",
            hint=f"use at most {MAX_META_BYTES} bytes of plain text",
        )
    if len(value.encode()) > MAX_META_BYTES:
        raise UsageError(f"the value of {key!r} is longer than {MAX_META_BYTES} bytes")
