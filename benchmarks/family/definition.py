"""Reads ``family.toml``: steps (needed, not measured) and members (measured), in order.

A step or member names a recipe, the steps and members that it is made from, a seed and parameters.
Members have a class and their expected size; those whose recipe gives the same bytes on every
machine have a BLAKE3 digest too.
"""

import hashlib
import json
import re
import tomllib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from family.recipes import RECIPES

PINS = Path(__file__).resolve().parents[1] / "family.toml"
BASE = "base"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*", re.IGNORECASE)
_KEYS = {"name", "class", "recipe", "sources", "seed", "parameters", "size_bytes", "blake3"}


class DefinitionError(Exception):
    """The family's definition says something that cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One thing to make; a step has no class and is not measured."""

    name: str
    recipe: str
    kind: str | None = None
    sources: tuple[str, ...] = ()
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int | None = None
    blake3: str | None = None

    @property
    def measured(self) -> bool:
        """Whether it belongs to the family; steps are only needed to make it."""
        return self.kind is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All steps and members.

    ``parts`` are in an order in which they can be made, ``members`` in that of the file, in which
    they arrive in a store.
    """

    parts: tuple[Member, ...]
    members: tuple[Member, ...]

    @property
    def kinds(self) -> list[str]:
        """Classes in the order in which they appear first."""
        return list(dict.fromkeys(one.kind for one in self.members if one.kind))

    def needed(self, names: Sequence[str]) -> list[Member]:
        """Return the named parts and everything that they are made from, in order."""
        by_name = {one.name: one for one in self.parts}
        unknown = sorted(set(names) - set(by_name))
        if unknown:
            raise DefinitionError(f"the family has no {', '.join(unknown)}")
        waiting, wanted = list(names), set()
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting += by_name[name].sources
        return [one for one in self.parts if one.name in wanted]

    def part_of(self, name: str) -> str:
        """Return the base that a member is or was made from, or that came out of the same step."""
        needed = {one.name for one in self.needed([name])}
        bases = [
            one.name for one in self.members
            if one.kind == BASE
            and (one.name in needed or (one.sources and needed.issuperset(one.sources)))
        ]  # fmt: skip
        if len(bases) != 1:
            raise DefinitionError(f"{name} belongs to {len(bases)} members of class {BASE!r}")
        return bases[0]

    def bases_of(self, name: str) -> list[str]:
        """Return the members that one is made from, directly or not, the nearest first."""
        by_name = {one.name: one for one in self.parts}
        waiting, seen, found = deque(by_name[name].sources), {name}, []
        while waiting:
            one = by_name[waiting.popleft()]
            if one.name not in seen:
                seen.add(one.name)
                found += [one.name] if one.measured else []
                waiting.extend(one.sources)
        return found

    def key(self, name: str) -> str:
        """Return what identifies how a part is made: its own words and those of its sources."""
        one = next(part for part in self.parts if part.name == name)
        said = {
            "recipe": one.recipe, "seed": one.seed, "parameters": dict(one.parameters),
            "name": one.name, "sources": [self.key(source) for source in one.sources],
        }  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def load(path: Path = PINS) -> Family:
    """Read a definition; raises DefinitionError for anything that is not meant to be there."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    strange = set(content) - {"step", "member"}
    if strange:
        raise DefinitionError(f"{path} has unknown tables: {', '.join(sorted(strange))}")
    rows = [(False, row) for row in content.get("step", [])]
    rows += [(True, row) for row in content.get("member", [])]
    parts = [_part(row, measured) for measured, row in rows]
    return Family(parts=_in_order(parts), members=tuple(one for one in parts if one.measured))


def _part(row: Mapping[str, Any], measured: bool) -> Member:
    name = row.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} is no name of a member")
    strange = set(row) - _KEYS
    if strange:
        raise DefinitionError(f"{name}: unknown keys {', '.join(sorted(strange))}")
    if row.get("recipe") not in RECIPES:
        raise DefinitionError(f"{name}: there is no recipe {row.get('recipe')!r}")
    if measured != ("class" in row):
        raise DefinitionError(f"{name}: members have a class, steps have none")
    return Member(
        name=name, recipe=row["recipe"], kind=row.get("class"),
        sources=tuple(row.get("sources", ())), seed=row.get("seed", 0),
        parameters=row.get("parameters", {}), size_bytes=row.get("size_bytes"),
        blake3=row.get("blake3"),
    )  # fmt: skip


def _in_order(parts: Sequence[Member]) -> tuple[Member, ...]:
    """Put sources before what is made from them, else keep the file's order."""
    by_name = {one.name: one for one in parts}
    if len(by_name) != len(parts):
        raise DefinitionError("a name occurs twice")
    done: dict[str, Member] = {}

    def visit(one: Member, above: tuple[str, ...]) -> None:
        if one.name in above:
            raise DefinitionError(f"{one.name} is made from itself")
        for source in one.sources:
            if source not in by_name:
                raise DefinitionError(f"{one.name}: its source {source!r} is not there")
            visit(by_name[source], (*above, one.name))
        done.setdefault(one.name, one)

    for one in parts:
        visit(one, ())
    return tuple(done.values())
