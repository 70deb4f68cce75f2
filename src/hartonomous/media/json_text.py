"""JSON and JSON Lines: the texts in it, each behind the path of its keys.

Positions are of the text that is taken out; an element of a list of the top, or a line, is a block.
Vocabularies, indexes of shards and settings of models, which say nothing, are left out.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from hartonomous.core.description import Notice
from hartonomous.core.document import TEXT_LIMIT_CHARS, BlockList, Document
from hartonomous.errors import LimitError, StructureError
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import JSON, ending
from hartonomous.media.plain_text import as_plain_text
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_DEPTH = 32
_VALUES = 200_000
_LIMIT_CHARS = 8 << 20
_LOOKED_AT_CHARS = 65_536
_LOOKED_AT_LINES = 20
_LINES_NAMED = 5
_OF_ONE_VALUE = frozenset("[]{},")  # such lines a value has that is written over several
# Files of models that hold no sentences.
_OF_MODELS = frozenset((
    "tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json",
    "special_tokens_map.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "data_config.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "adapter_config.json", "quantize_config.json",
    "model_index.json", "modules.json",
))  # fmt: skip
# What settings of other names hold: of transformers, of a pooling, of diffusers.
_SETTINGS = (b'"model_type"', b'"architectures"', b'"pooling_mode_', b'"_diffusers_version"')


class _JsonText:
    """The reader; see the module's text."""

    name = "json"
    recipe = "3"
    extra = ""

    def matches(self, path: str, head: bytes) -> bool:
        """Take files that are named so, but vocabularies, indexes of shards, settings of models."""
        name = path.rpartition("/")[2].lower()
        if name in _OF_MODELS or name.endswith(".index.json"):
            return False
        if name == "config.json" and any(one in head for one in _SETTINGS):
            return False
        return ending(path) in JSON and looks_like_text(head)

    def read(self, reader: RangeReader) -> Document:
        """Return its texts, or where it is no JSON itself; raises StructureError, LimitError."""
        text, notices = read_text(reader)
        cut = bool(notices) and notices[0].kind == LimitError.kind
        if cut:
            text = text[: text.rfind("\n") + 1]
        found = BlockList()
        if _is_lines(text):
            notices = (*notices, *_add_lines(found, text))
        else:
            if cut or len(text) > _LIMIT_CHARS:
                limit = f"{_LIMIT_CHARS:,} are read of JSON that is not in lines"
                raise LimitError(f"it has {reader.size:,} bytes, and {limit}")
            try:
                value = parsed(text)
            except ValueError as error:
                return as_plain_text(text, (*notices, read_as_text(error)))
            for one in value if isinstance(value, list) else (value,):
                found.add("\n".join(_texts(one, found)), "row")
        return Document(
            kind=self.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
        )


JSON_TEXT: Final[DocumentReader] = _JsonText()
"""The entry for the table of readers."""


def parsed(text: str) -> Any:
    """Return a text's value; raises ValueError where it is no JSON, StructureError if too deep."""
    try:
        # No number is searched, and one of a million digits takes a whole number long to become.
        return json.loads(text, parse_int=float)
    except RecursionError as error:
        raise StructureError(f"no JSON: {error}") from error


def read_as_text(error: ValueError) -> Notice:
    """Return what is said where a file's words are read though it is no JSON."""
    return Notice(kind=StructureError.kind, text=f"read as plain text, it is no JSON: {error}")


def _is_lines(text: str) -> bool:
    """Say whether half of the first lines are objects or lists: any of them may be damaged."""
    first = [one for one in text[:_LOOKED_AT_CHARS].split("\n") if one.strip()]
    if len(text) > _LOOKED_AT_CHARS and len(first) > 1:
        first.pop()  # of which a part is there
    elif len(first) == 1:
        first = [text.partition("\n")[0]] if "\n" in text.strip() else []
    first = first[:_LOOKED_AT_LINES]
    if any(one.strip() in _OF_ONE_VALUE for one in first):
        return False
    return 2 * sum(map(_is_element, first)) >= max(len(first), 1)


def _is_element(line: str) -> bool:
    try:
        return isinstance(parsed(line), dict | list)
    except (ValueError, StructureError):
        return False


def _add_lines(found: BlockList, text: str) -> tuple[Notice, ...]:
    """Add each line that is JSON; return what is said of those that are none.

    The last line of a log is often cut, which must not cost the others.
    """
    wrong: list[int] = []
    count = bad = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        count += 1
        try:
            value = parsed(line)
        except (ValueError, StructureError):
            bad += 1
            if len(wrong) < _LINES_NAMED:
                wrong.append(number)
            continue
        found.add("\n".join(_texts(value, found)), "row")
    if not bad:
        return ()
    named = ", ".join(f"{one:,}" for one in wrong) + (" …" if bad > len(wrong) else "")
    said = f"{bad:,} of {count:,} lines are no JSON and are not searched: line {named}"
    return (Notice(kind=StructureError.kind, text=said),)


def _texts(value: Any, found: BlockList) -> Iterator[str]:
    """Yield the texts in a value behind the paths of their keys, without recursion.

    Paths are put together one at a time: long keys within each other would fill the memory.
    """
    waiting: list[tuple[str, str, Any, int]] = [("", "", value, 0)]
    seen = chars = 0
    while waiting:
        before, key, one, depth = waiting.pop()
        path = f"{before}.{key}" if before and key else before or key
        seen += 1
        if seen > _VALUES or chars > TEXT_LIMIT_CHARS:
            found.leave("values of an element", seen - 1)
            return
        if isinstance(one, str):
            if one.strip():
                chars += len(path) + len(one)
                yield f"{path}: {one}" if path else one
        elif isinstance(one, dict | list) and one and depth >= _DEPTH:
            found.leave("levels of values within each other", _DEPTH)
        elif isinstance(one, dict):
            inner = [(path, str(key), item, depth + 1) for key, item in one.items()]
            waiting.extend(reversed(inner))
        elif isinstance(one, list):
            waiting.extend((path, "", item, depth + 1) for item in reversed(one))
