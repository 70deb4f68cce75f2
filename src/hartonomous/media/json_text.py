"""JSON and JSON Lines: the texts in it, each behind the path of its keys.

Positions are of the text that is taken out; an element of a list of the top, or a line, is a block.
Vocabularies, indexes of shards and settings of models, which say nothing, are left out.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from hartonomous.core.document import TEXT_LIMIT_CHARS, BlockList, Document
from hartonomous.errors import LimitError, StructureError
from hartonomous.media.decoding import looks_like_text, read_text
from hartonomous.media.endings import JSON, ending
from hartonomous.ports.document import DocumentReader
from hartonomous.ports.format import RangeReader

_DEPTH = 32
_VALUES = 200_000
_LIMIT_CHARS = 8 << 20
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
        """Return its texts; raises StructureError where it is no JSON."""
        text, notices = read_text(reader)
        if len(text) > _LIMIT_CHARS and not _is_lines(text):
            limit = f"{_LIMIT_CHARS:,} are read of JSON that is not in lines"
            raise LimitError(f"it has {reader.size:,} bytes, and {limit}")
        if notices and notices[0].kind == LimitError.kind:
            text = text[: text.rfind("\n") + 1]
        found = BlockList()
        for value in _values(text):
            found.add("\n".join(_texts(value, found)), "row")
        return Document(
            kind=self.name, blocks=tuple(found.blocks), notices=(*notices, *found.notices())
        )


JSON_TEXT: Final[DocumentReader] = _JsonText()
"""The entry for the table of readers."""


def _is_lines(text: str) -> bool:
    first = text.split("\n", 1)[0]
    try:
        return isinstance(_parsed(first), dict | list) and "\n" in text.strip()
    except StructureError:
        return False


def _values(text: str) -> Iterator[Any]:
    """Yield what is a block each: lines, elements of a list, or the whole."""
    if _is_lines(text):
        for line in text.split("\n"):
            if line.strip():
                yield _parsed(line)
        return
    value = _parsed(text)
    if isinstance(value, list):
        yield from value
    else:
        yield value


def _parsed(text: str) -> Any:
    try:
        # No number is searched, and one of a million digits takes a whole number long to become.
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"no JSON: {error}") from error


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
