"""README.md of a model folder: the front matter's few facts, the title, the first paragraph.

Front matter is YAML between ``---`` lines. Read here is the part of YAML that model cards use:
``key: scalar`` (plain or quoted), lists of scalars (``- item`` lines, or ``[a, b]`` on one line),
mappings of scalars one level deep. All scalars stay text, so that the language ``no`` is not taken
for false. Everything else (block scalars, anchors, tags, deeper nesting, values over several lines)
is skipped with its key; a notice says so for the keys that the metadata would have had. A YAML
library is not used: they build objects, expand aliases without bound, or both.

``metadata``: license, license_name, library_name, pipeline_tag, title, summary (text); base_model,
tags, language, datasets (lists of text). What the card does not say is not there.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from itertools import chain, takewhile
from pathlib import PurePosixPath
from typing import Any

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.errors import StructureError
from hartonomous.ports.format import RangeReader

MAX_READ_BYTES = 256 * 1024
"""Only the beginning of a card is read; title and summary stand there."""
MAX_FRONT_MATTER = 64 * 1024
MAX_TEXT = 1_024
MAX_SUMMARY = 500
"""Characters of the summary, as `MAX_TEXT` is of every other text."""

TEXT_KEYS = ("license", "license_name", "library_name", "pipeline_tag")
LIST_KEYS = ("base_model", "tags", "language", "datasets")

Scalar = str | None
Value = Scalar | list[Scalar] | dict[str, Scalar]

_KEY = re.compile(r"([A-Za-z_][\w.-]*)[ \t]*:(?:[ \t]+(.*))?$", re.ASCII)
_ITEM = re.compile(r"-(?:[ \t]+(.*))?$")
_NULLS = {"", "~", "null", "Null", "NULL"}
# Anchors, aliases, tags, block scalars, flow collections, directives, reserved marks.
_SPECIAL = tuple("&*!|>{}[],%@`?'\"")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_NOT_PROSE = re.compile(r"[ \t]*(?:<|!\[|\[!\[|\||[-*+>][ \t]|\d+[.)][ \t]|\*{3,}[ \t]*$)")


class ModelCardFormat:
    """Model cards as a ``ports.format.Format``; without state."""

    name = "model-card"

    def matches(self, path: str, head: bytes) -> bool:  # noqa: ARG002 — the port's signature
        """Say whether the base name of ``path`` is README.md; the bytes are not asked."""
        return PurePosixPath(path).name == "README.md"

    def parse(self, reader: RangeReader) -> Description:
        """Return the card's facts; raises StructureError for bytes that are no text."""
        content = reader.read(0, min(reader.size, MAX_READ_BYTES))
        if b"\0" in content:
            raise StructureError("the model card holds NUL bytes: it is no text")
        # A character that the cut goes through is left out; one that is damaged is escaped.
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        text = decoder.decode(content, final=len(content) == reader.size)
        front, body, notices = split_front_matter(text.removeprefix("\ufeff"))
        values, skipped = read_front_matter(front)
        metadata = _facts(values)
        lost = [key for key in skipped if key in TEXT_KEYS or key in LIST_KEYS]
        if lost:
            notices.append(
                Notice(
                    kind="front-matter",
                    text=f"not read, because its YAML is not plain: {', '.join(sorted(set(lost)))}",
                )
            )
        metadata |= _title_and_summary(body)
        return Description(format=self.name, metadata=metadata, notices=tuple(notices))


MODEL_CARD = ModelCardFormat()
"""The format object that the table of formats names."""


def split_front_matter(text: str) -> tuple[list[str], list[str], list[Notice]]:
    """Return the front matter's lines, the other lines, and what is to be said of the cut."""
    lines = text.split("\n")
    lines = [line.rstrip("\r") for line in lines]
    start = next((index for index, line in enumerate(lines) if line.strip()), 0)
    if lines[start].rstrip() != "---":
        return [], lines, []
    length = 0
    for index in range(start + 1, len(lines)):
        if lines[index].rstrip() in ("---", "..."):
            return lines[start + 1 : index], lines[index + 1 :], []
        length += len(lines[index].encode("utf-8", "surrogatepass")) + 1
        if length > MAX_FRONT_MATTER:
            break
    reason = f"the front matter does not end within {MAX_FRONT_MATTER:,} bytes: card not read"
    return [], [], [Notice(kind="front-matter", text=reason)]


def read_front_matter(lines: Sequence[str]) -> tuple[dict[str, Value], list[str]]:
    """Return ``(values by key, keys skipped)``; the first of equal keys counts."""
    values: dict[str, Value] = {}
    skipped: list[str] = []
    for key, inline, block in _entries(lines):
        if key in values:
            skipped.append(key)
            continue
        try:
            values[key] = _read_block(block) if inline is None else _read_inline(inline, block)
        except _NotPlainError:
            skipped.append(key)
    return values, skipped


class _NotPlainError(Exception):
    """A value uses a part of YAML that is not read; never leaves this module."""


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield (key, text after the colon or None, lines below it) of the top level."""
    key, inline = "", None
    block: list[str] = []
    for line in chain(lines, ["end:"]):
        is_below = not line.strip() or line[0] in " \t#" or _ITEM.match(line) is not None
        if is_below:
            block.append(line)
            continue
        if key:
            yield key, inline, block
        matched = _KEY.match(line)
        key, block = (matched[1], []) if matched else ("", [])
        text = _without_comment(matched[2] or "") if matched else ""
        inline = text or None


def _without_comment(text: str) -> str:
    """Cut a trailing comment off a plain scalar; quoted ones and lists cut their own."""
    text = text.strip()
    if text.startswith(("'", '"', "[")):
        return text
    if text.startswith("#"):
        return ""
    return re.split(r"[ \t]#", text, maxsplit=1)[0].rstrip()


def _is_content(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def _read_inline(text: str, block: list[str]) -> Value:
    if any(_is_content(line) for line in block):
        raise _NotPlainError  # a scalar or list over several lines, or a block scalar
    if text.startswith("["):
        return [_scalar(item) for item in _flow_items(text)]
    return _scalar(text)


def _read_block(block: list[str]) -> Value:
    """Read the lines below a key: a list, a mapping of scalars, or nothing."""
    lines = [line for line in block if _is_content(line)]
    if not lines:
        return None
    indents = {len(line) - len(line.lstrip(" ")) for line in lines}
    if len(indents) > 1:
        raise _NotPlainError
    stripped = [line.strip() for line in lines]
    items = [_ITEM.match(line) for line in stripped]
    if all(items):
        return [_list_item(item[1] or "") for item in items if item]
    keys = [_KEY.match(line) for line in stripped]
    if any(items) or not all(keys):
        raise _NotPlainError
    return {key[1]: _scalar(_without_comment(key[2] or "")) for key in keys if key}


def _list_item(text: str) -> Scalar:
    text = _without_comment(text)
    if _KEY.match(text) or _ITEM.match(text):
        raise _NotPlainError  # a mapping or a list inside a list
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    """Return a plain or quoted scalar as text, None for YAML's null."""
    text = text.strip()
    if text.startswith("'"):
        matched = re.fullmatch(r"'((?:[^']|'')*+)'(?:[ \t]+#.*)?", text)
        if not matched:
            raise _NotPlainError
        return matched[1].replace("''", "'")[:MAX_TEXT]
    if text.startswith('"'):
        return _double_quoted(text)
    if text in _NULLS:
        return None
    if text.startswith(_SPECIAL) or re.search(r":(?:[ \t]|$)", text):
        raise _NotPlainError
    return text[:MAX_TEXT]


def _double_quoted(text: str) -> str:
    matched = re.fullmatch(r'("(?:[^"\\]|\\.)*+")(?:[ \t]+#.*)?', text)
    if not matched:
        raise _NotPlainError
    try:
        # JSON's escapes are those that cards use; YAML's others are left to the notice.
        return msgspec.json.decode(matched[1].encode(), type=str)[:MAX_TEXT]
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _NotPlainError from error


# Possessive throughout: no input makes it step back.
_FLOW_ITEM = re.compile(
    r"""[ \t]*+('(?:[^']|'')*+'|"(?:[^"\\]|\\.)*+"|[^,'"\[\]{}#]*+)[ \t]*+([,\]])"""
)
_FLOW_END = re.compile(r"[ \t]*(?:[ \t]#.*)?$")


def _flow_items(text: str) -> Iterator[str]:
    """Yield the items of ``[a, 'b, c', d]  # comment``; a last comma is allowed."""
    at, mark = 1, "["
    while mark != "]":
        matched = _FLOW_ITEM.match(text, at)
        if not matched:
            raise _NotPlainError
        item, mark = matched[1].strip(), matched[2]
        if item:
            yield item
        elif mark == ",":
            raise _NotPlainError
        at = matched.end()
    if not _FLOW_END.match(text, at):
        raise _NotPlainError


def _facts(values: dict[str, Value]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key in TEXT_KEYS:
        found = _texts(values.get(key))
        if found:
            facts[key] = ", ".join(found)[:MAX_TEXT]
    for key in LIST_KEYS:
        found = _texts(values.get(key))
        if found:
            facts[key] = found
    return facts


def _texts(value: Value) -> list[str]:
    if isinstance(value, dict) or value is None:
        return []
    return [item for item in (value if isinstance(value, list) else [value]) if item]


def _title_and_summary(lines: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    paragraph: list[str] = []
    for line in chain(_prose(lines), [""]):
        heading = _HEADING.match(line)
        if _UNDERLINE.match(line):
            if paragraph:
                found.setdefault("title", " ".join(paragraph)[:MAX_TEXT])
            paragraph = []
            continue
        if heading or not line.strip():
            if paragraph:
                found.setdefault("summary", " ".join(paragraph)[:MAX_SUMMARY])
            paragraph = []
            if heading:
                title = (heading[2] or "").rstrip("# \t")
                if title:
                    found.setdefault("title", title[:MAX_TEXT])
            continue
        paragraph.append(line.strip())
        if len(found) == 2:
            break
    return found


def _prose(lines: Sequence[str]) -> Iterator[str]:
    """Yield headings and text; blank lines for code, HTML, pictures, tables, lists, quotes."""
    remaining = iter(lines)
    for line in remaining:
        fence = _FENCE.match(line)
        if fence:
            mark = fence[1]
            for _ in takewhile(lambda inner: not inner.lstrip().startswith(mark), remaining):  # noqa: B023
                pass
            yield ""
        elif line.lstrip().startswith("<!--"):
            if "-->" not in line:
                for _ in takewhile(lambda inner: "-->" not in inner, remaining):
                    pass
            yield ""
        elif _UNDERLINE.match(line):
            yield line
        elif line.startswith(("    ", "\t")) or _NOT_PROSE.match(line):
            yield ""
        else:
            yield line
