"""Tensors in a search by words: by parts of their names, by roles, and by shapes.

``layer.0.attention`` is a part of a name, ``attention-q`` a role, ``384x1536`` or ``[384,1536]`` a
shape. Roles and shapes narrow down what names find; alone they count where nothing else is asked
for, since documents may speak of 1920x1080 too.
"""

import json
import re
from collections.abc import Iterator

import msgspec

from hartonomous.catalog import tensors
from hartonomous.catalog.patterns import holding
from hartonomous.catalog.tensors import FoundRow, TensorFilter
from hartonomous.core.role import Role
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.search_filter import Chosen
from hartonomous.packs.word_search import MOST_ROWS

_READ = 200
_MOST_NAMES = 4
_AROUND = ".,;\"'"
_PART = re.compile(r"[._]")
_SHAPE = re.compile(r"\[(\d{1,19}(?:,\d{1,19})*)\]|(\d{1,19}(?:x\d{1,19})+)")
_ROLES = frozenset(one.value for one in Role)


class TensorWords(msgspec.Struct, frozen=True, kw_only=True):
    """What a text asks of tensors; ``others`` are words that may be meant for anything."""

    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def tensor_words(text: str) -> TensorWords:
    """Sort the words of a text; ``shapes`` are JSON as the catalog has them."""
    found: dict[str, list[str]] = {"names": [], "roles": [], "shapes": [], "others": []}
    for word in text.split():
        plain = word.strip(_AROUND)
        shape = _SHAPE.fullmatch(plain)
        if shape:
            sizes = re.findall(r"\d+", plain)
            found["shapes"].append(json.dumps([int(one) for one in sizes]))
        elif plain in _ROLES and "-" in plain:
            found["roles"].append(plain)
        elif _PART.search(plain):
            found["names"].append(plain)
        elif plain:
            found["others"].append(plain)
    return TensorWords(**{key: tuple(words) for key, words in found.items()})


def tensors_by_words(parts: StoreParts, chosen: Chosen, words: TensorWords) -> list[FoundRow]:
    """Return tensors that count and are asked for, those of each name up to 200.

    Where nothing but tensors is searched, other words are roles or parts of names too.
    """
    found: dict[tuple[str, int, str, str], FoundRow] = {}
    for wanted in _filters(words, alone=tuple(chosen.wanted.kinds) == ("tensor",)):
        for row in _read(parts, chosen, wanted):
            found[row.name, row.number, row.path, row.tensor] = row
    return list(found.values())


def _filters(words: TensorWords, *, alone: bool) -> Iterator[TensorFilter]:
    names, roles = [*words.names], [*words.roles]
    if alone:
        for one in words.others:
            (roles if one in _ROLES else names).append(one)
    elif not names and words.others:
        return
    role = roles[0] if roles else None
    shape = words.shapes[0] if words.shapes else None
    if names:
        for one in names[:_MOST_NAMES]:
            yield TensorFilter(name=holding(one), role=role, shape=shape)
    elif role or shape:
        yield TensorFilter(role=role, shape=shape)
    # "attention" is a role, and a part of the names of attention-q, attention-k and others too.
    for one in roles[:_MOST_NAMES]:
        if alone and one in words.others:
            yield TensorFilter(name=holding(one), shape=shape)


def _read(parts: StoreParts, chosen: Chosen, wanted: TensorFilter) -> list[FoundRow]:
    """Return tensors that count, up to ``_READ``, of all that there are."""
    limit = 2 * _READ
    while True:
        with parts.database.read() as tx:
            rows = tensors.search(tx, wanted, limit=limit, at=chosen.moment)
        found = [row for row in rows if chosen.counts(row.use, row.uid)]
        if len(rows) < limit or len(found) >= _READ or limit >= MOST_ROWS:
            return found[:_READ]
        limit *= 4
