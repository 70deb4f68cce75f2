"""Lineage: what a model came from and what came from it, measured beside declared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from hartonomous.catalog import contents, relations, resolve, versions
from hartonomous.catalog.columns import damaged
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.declaration import declared_kind, names_meant
from hartonomous.core.relation import RelationKind, Side, judge, main_weight
from hartonomous.errors import UsageError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.containment import links, place_words
from hartonomous.packs.declared_bases import versions_meant
from hartonomous.packs.kinship import Relative, relatives, side_of
from hartonomous.packs.parts import StoreParts

MAX_DEPTH = 32
MAX_VERSIONS = 500
"""A lineage is cut, and says so, beyond so many versions."""

Direction = Literal["up", "down", "both"]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the tensors say: parts of the source's tensor bytes, by how they are related.

    ``distance`` is the mean log2 ulp distance of the near ones; ``weight`` the target's in a merge.
    ``reason`` says what gave the direction, or why there is none.
    """

    kind: str
    reason: str
    equal: float
    cast: float
    transposed: float
    quantised: float
    merged: float
    near: float
    distance: float | None = None
    weight: float | None = None


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says, or (``said_by`` is ``user``) somebody stated."""

    kind: str
    said_by: str
    name: str
    weight: float | None = None
    note: str = ""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """The source is ``kind`` the target; ``directed`` is false where nothing gives a direction.

    Where it contains files of the target, ``places`` say where.
    """

    source: str
    target: str
    kind: str
    directed: bool
    measured: Measured | None = None
    declared: tuple[Declared, ...] = ()
    places: tuple[str, ...] = ()


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """The relations around one version, each once; ``versions`` in the order they were reached.

    ``warnings`` say where measured and declared disagree, and which declared bases are not here.
    """

    root: str
    edges: tuple[Edge, ...]
    versions: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    truncated: bool = False


@dataclass(slots=True)
class _Link:
    """An edge in the making between two version ids."""

    source: int
    target: int
    kind: RelationKind
    directed: bool
    measured: Measured | None = None
    declared: list[Declared] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Walk:
    parts: StoreParts
    reader: AtomReader
    rows: dict[int, VersionRow] = field(default_factory=dict)
    sides: dict[int, Side] = field(default_factory=dict)
    links: dict[tuple[int, int], _Link] = field(default_factory=dict)
    kin: dict[int, list[Relative]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    truncated: bool = False


def lineage(
    parts: StoreParts,
    reader: AtomReader,
    spec: str,
    *,
    direction: Direction = "both",
    depth: int = 3,
) -> Lineage:
    """Return what ``spec`` came from (up), what came from it (down), or both, ``depth`` steps far.

    Undirected relatives are listed with the version that they are near to, and not followed.
    Raises NotFoundError, UsageError.
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise UsageError(f"a depth of {depth} is not between 1 and {MAX_DEPTH}")
    walk = _Walk(parts, reader)
    with parts.database.read() as tx:
        root = resolve.version(tx, spec)
        walk.rows = {row.id: row for row in versions.live(tx)}
        walk.rows[root.id] = root
    reached = [root.id]
    for wanted in ("up", "down") if direction == "both" else (direction,):
        level = [root.id]
        seen = {root.id}
        for _ in range(depth):
            found = dict.fromkeys(other for one in level for other in _step(walk, one, wanted))
            level = [one for one in found if one not in seen]
            seen.update(level)
            reached += [one for one in level if one not in reached]
            if len(reached) > MAX_VERSIONS:
                walk.truncated = True
                break
    return _lineage(walk, root, reached[:MAX_VERSIONS], direction)


def _step(walk: _Walk, version_id: int, wanted: str) -> list[int]:
    """Return the versions one step up or down from one, by the directed edges."""
    _look_at(walk, version_id)
    found = []
    for link in walk.links.values():
        if link.directed and wanted == "up" and link.source == version_id:
            found.append(link.target)
        if link.directed and wanted == "down" and link.target == version_id:
            found.append(link.source)
    return sorted(found)


def _look_at(walk: _Walk, version_id: int) -> None:
    if version_id in walk.kin:
        return
    walk.kin[version_id] = relatives(walk.parts, walk.reader, version_id)
    for one in walk.kin[version_id]:
        _measured_link(walk, version_id, one)
    with walk.parts.database.read() as tx:
        stated = relations.stated(tx, version_id)
        summary = versions.model_of(tx, version_id) or {}
    for row in stated:
        said = Declared(
            kind=row.kind, said_by="user", name=row.target, weight=row.weight, note=row.note
        )
        _declared_link(walk, row.source_id, row.target_id, _kind_of(row.kind), said)
    _file_links(walk, version_id, summary)
    _claims_of_others(walk, version_id)
    _contained_links(walk, version_id)


def _kind_of(text: str) -> RelationKind:
    try:
        return RelationKind(text)
    except ValueError as error:
        raise damaged(f"a relation has the kind {text!r:.40}, which is none") from error


def _contained_links(walk: _Walk, version_id: int) -> None:
    """Follow pictures that documents contain byte for byte, both ways."""
    with walk.parts.database.read() as tx:
        members, files = contents.of_version(tx, version_id)
    held = [(one.path, files[one.manifest_id].file_digest) for one in members]
    for one in links(walk.parts, version_id, held):
        source, target = one.document.version_id, one.picture.version_id
        if source not in walk.rows or target not in walk.rows:
            continue
        link = _between(walk, source, target)
        if link is None:
            link = walk.links[source, target] = _Link(
                source, target, RelationKind.CONTAINS, directed=True
            )
        where = f"{one.document.path} {place_words(one.part, one.pages, one.page)}"
        told = f"{where} is {one.picture.path}"
        if (link.source, link.target) == (source, target) and told not in link.places:
            link.places.append(told)


def _side(walk: _Walk, version_id: int) -> Side:
    held = walk.sides.get(version_id)
    if held is None:
        with walk.parts.database.read() as tx:
            held = walk.sides[version_id] = side_of(tx, version_id)
    return held


def _measured_link(walk: _Walk, version_id: int, one: Relative) -> None:
    first, second = _side(walk, version_id), _side(walk, one.version_id)
    verdict = judge(first, second, one.shares)
    if verdict is None:
        return
    forward, kind, reason = verdict.forward, verdict.kind, verdict.reason
    if kind is RelationKind.MERGED_FROM:
        forward = one.built_on_it >= one.carries  # who is predicted from whom
        if 2 * one.undone > one.shares.merged:
            forward, reason = not forward, "less an adapter it fits"
            if first.adapter or second.adapter:
                forward, kind = first.adapter, RelationKind.ADAPTER_OF
    source, target = (version_id, one.version_id) if forward is not False else (
        one.version_id, version_id)  # fmt: skip
    if _between(walk, source, target) is None:
        whole = first.tensor_bytes or 1
        shares = one.shares
        measured = Measured(
            kind=kind.value, reason=reason, equal=shares.equal / whole,
            cast=shares.cast / whole, transposed=shares.transposed / whole,
            quantised=shares.quantised / whole, merged=shares.merged / whole,
            near=shares.near / whole, distance=one.distance, weight=main_weight(shares.weights),
        )  # fmt: skip
        walk.links[source, target] = _Link(
            source, target, kind, directed=forward is not None, measured=measured
        )


def _between(walk: _Walk, first: int, second: int) -> _Link | None:
    return walk.links.get((first, second)) or walk.links.get((second, first))


def _declared_link(
    walk: _Walk, source: int, target: int, kind: RelationKind, said: Declared
) -> None:
    """Join a declaration with what was measured; a declaration gives an open relation direction."""
    if source not in walk.rows or target not in walk.rows:
        return
    link = _between(walk, source, target)
    # A sum fits whichever member came last: what an adapter is for tells that it is not the base.
    turned = (
        link is not None
        and kind is RelationKind.ADAPTER_OF
        and link.kind is RelationKind.MERGED_FROM
    )
    if link is None:
        link = walk.links[source, target] = _Link(source, target, kind, directed=True)
    elif turned or not link.directed:
        del walk.links[link.source, link.target]
        link.source, link.target, link.directed = source, target, True
        walk.links[source, target] = link
        if turned or link.kind in (RelationKind.NEAR, RelationKind.SAME_TENSORS):
            link.kind = kind
    elif link.measured is not None and (link.source, link.target) != (source, target):
        _warn(
            walk,
            f"{_spec(walk, source)} is declared to be {kind.value} {_spec(walk, target)}"
            f" ({said.said_by}), measured the other way round: {link.measured.reason}",
        )
    if said not in link.declared:
        link.declared.append(said)


def _declarations(
    walk: _Walk, version_id: int, summary: dict[str, Any]
) -> Iterator[tuple[Declared, RelationKind, int | None]]:
    """Yield what a version's files declare as its bases, and the version that each means here."""
    side = _side(walk, version_id)
    for claim in summary.get("declared_base_models") or ():
        name = str(claim.get("name", ""))
        kind = declared_kind(claim.get("relation"), adapter=side.adapter, quantised=side.quantised)
        said = Declared(kind=kind.value, said_by=str(claim.get("said_by", "")), name=name)
        yield said, kind, _stored_as(walk, name, besides=version_id)


def _file_links(walk: _Walk, version_id: int, summary: dict[str, Any]) -> None:
    """Follow the bases that a version's own files declare."""
    for said, kind, target in _declarations(walk, version_id, summary):
        if target is None:
            _warn(
                walk,
                f"{_spec(walk, version_id)} declares {said.name!r} as its base"
                f" ({said.said_by}), which is not in this store",
            )
            continue
        _declared_link(walk, version_id, target, kind, said)
        _check_declared(walk, version_id, target, said.name, kind)


def _check_declared(
    walk: _Walk, version_id: int, target: int, name: str, kind: RelationKind
) -> None:
    """Warn where the declared base shares nothing, and another version does."""
    link = _between(walk, version_id, target)
    if kind is RelationKind.ADAPTER_OF or (link is not None and link.measured is not None):
        return
    nearest = next(iter(walk.kin.get(version_id, ())), None)
    instead = "" if nearest is None else f"; its nearest is {_spec(walk, nearest.version_id)}"
    _warn(
        walk,
        f"{_spec(walk, version_id)} declares {name!r} as its base, and no tensor of it was found"
        f" to be related{instead}",
    )


def _claims_of_others(walk: _Walk, version_id: int) -> None:
    """Follow the declarations of others that mean this version."""
    own = walk.rows[version_id].name
    with walk.parts.database.read() as tx:
        claims = versions.declaring(tx, own.rsplit("/", 1)[-1])
    for other, summary in claims:
        if other != version_id and other in walk.rows:
            _file_links_to(walk, other, summary, version_id)


def _file_links_to(walk: _Walk, source: int, summary: dict[str, Any], target: int) -> None:
    for said, kind, meant in _declarations(walk, source, summary):
        if meant == target:
            _declared_link(walk, source, target, kind, said)


def _stored_as(walk: _Walk, declared: str, *, besides: int) -> int | None:
    """Return the newest version in use that a declared name means; None if there is none."""
    meant = names_meant(declared)
    with walk.parts.database.read() as tx:
        fitting = [one for one in versions_meant(tx, declared) if one != besides]
        if fitting:
            return fitting[-1]
    tails = [
        row
        for row in walk.rows.values()
        if meant and row.name.rsplit("/", 1)[-1] == meant[-1] and row.id != besides
    ]
    return tails[-1].id if len({row.artifact_id for row in tails}) == 1 else None


def _warn(walk: _Walk, text: str) -> None:
    if text not in walk.warnings:
        walk.warnings.append(text)


def _spec(walk: _Walk, version_id: int) -> str:
    row = walk.rows[version_id]
    return f"{row.name}@{row.number}"


def _lineage(
    walk: _Walk, root: VersionRow, reached: Sequence[int], direction: Direction
) -> Lineage:
    _warn_of_circles(walk)
    inside = set(reached)
    shown = [
        link
        for link in walk.links.values()
        if inside.issuperset((link.source, link.target))
        or (
            not link.directed
            and direction == "both"
            and inside.intersection((link.source, link.target))
        )
    ]
    others = [end for link in shown for end in (link.source, link.target)]
    ids = list(dict.fromkeys([*reached, *others]))
    order = {one: at for at, one in enumerate(ids)}
    shown.sort(key=lambda link: (order[link.source], order[link.target]))
    return Lineage(
        root=_spec(walk, root.id),
        edges=tuple(_edge(walk, link) for link in shown),
        versions=tuple(_spec(walk, one) for one in ids),
        warnings=tuple(walk.warnings),
        truncated=walk.truncated,
    )


def _warn_of_circles(walk: _Walk) -> None:
    """Warn where declarations lead back to where they began; each circle once."""
    above: dict[int, list[int]] = {}
    for version_id in walk.kin:
        with walk.parts.database.read() as tx:
            summary = versions.model_of(tx, version_id) or {}
        meant = (one for _, _, one in _declarations(walk, version_id, summary))
        above[version_id] = [one for one in meant if one is not None]
    done: set[int] = set()
    for start in sorted(above):
        way: list[int] = []
        one: int | None = start
        while one is not None and one not in way and one not in done:
            way.append(one)
            one = next(iter(above.get(one, ())), None)
        if one is not None and one in way:
            circle = " > ".join(_spec(walk, each) for each in [*way[way.index(one) :], one])
            _warn(walk, f"declared bases lead back to where they began: {circle}")
        done.update(way)


def _edge(walk: _Walk, link: _Link) -> Edge:
    return Edge(
        source=_spec(walk, link.source), target=_spec(walk, link.target), kind=link.kind.value,
        directed=link.directed, measured=link.measured, declared=tuple(link.declared),
        places=tuple(link.places),
    )  # fmt: skip
