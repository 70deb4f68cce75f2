"""Spaces: which embedding spaces there are, switching, removing, and bringing vectors of one's own.

See ``docs/spaces.md``.
"""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import Any

import msgspec

from hartonomous.catalog import spaces
from hartonomous.catalog.spaces import SpaceRow
from hartonomous.core.space import Space
from hartonomous.errors import UsageError
from hartonomous.packs.meaning_search import MeaningSearch
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.space_writer import find_space
from hartonomous.packs.vector_blocks import drop_blocks, find_blocks
from hartonomous.packs.vector_import import Imported, import_vectors
from hartonomous.packs.vector_search import Near, OpenSpaces
from hartonomous.packs.vector_truth import SpaceTruth
from hartonomous.ports.vector_index import Vectors
from hartonomous.vectors.graph import GraphSettings
from hartonomous.vectors.opening import ENGINES, with_settings


class ListedSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A space of the store. ``state``: building, current (searched) or retired; ``use``: meaning or
    likeness. ``logical_bytes`` are those of its live vectors.
    """

    name: str
    state: str
    use: str
    modality: str
    encoder: str
    quantisation: str
    dimension: int
    metric: str
    dtype: str
    vector_count: int
    block_count: int
    tail_count: int
    dead_count: int
    engine: str
    logical_bytes: int
    key: str
    created_us: int


class ShownSpace(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one space; ``blocks`` are the names of its blocks' artifacts."""

    summary: ListedSpace
    recipe: str
    pooling: str
    encoder_digest: str
    family: str
    file_count: int
    blocks: tuple[str, ...]


class SpaceSwitched(msgspec.Struct, frozen=True, kw_only=True):
    """A switch: ``former`` was searched before, None where nothing was."""

    name: str
    former: str | None
    changed: bool
    dry_run: bool = False


class SpaceRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """A space that was removed; its blocks are in the trash.

    ``searched`` says that it was searched, for ``use`` of its ``modality``: no space is then.
    ``others`` are those of the same use that may be switched to.
    """

    name: str
    vector_count: int
    block_count: int
    searched: bool = False
    modality: str = ""
    use: str = ""
    others: tuple[str, ...] = ()
    dry_run: bool = False


class Spaces:
    """The embedding spaces of an open store, as ``Store.spaces``."""

    def __init__(self, parts: StoreParts, files: OpenFiles) -> None:
        self._parts = parts
        self._files = files
        self.open = OpenSpaces(parts, files)
        self.meaning = MeaningSearch(parts, files, self.open)

    def close(self) -> None:
        """Close the indexes and encoders that are open."""
        try:
            self.meaning.close()
        finally:
            self.open.close()

    def nearest(
        self, name: str, queries: Vectors, k: int = 10, *, files: Set[bytes] | None = None
    ) -> list[list[Near]]:
        """Return what is nearest to each query [n, dimension] in a space, the best first.

        ``files`` are digests (BLAKE3): only parts of these files are found.
        """
        row = find_space(self._parts, self._files, name)
        return self.open.nearest(row, queries, k, files=files)

    def list(self) -> list[ListedSpace]:
        """Return every space, by name."""
        return list_spaces(self._parts, self._files)

    def show(self, name: str) -> ShownSpace:
        """Return everything known of a space; raises NotFoundError."""
        return show_space(self._parts, self._files, name)

    def switch(
        self,
        name: str,
        *,
        engine: str | None = None, graph: GraphSettings | None = None, dry_run: bool = False,
    ) -> SpaceSwitched:  # fmt: skip
        """Search this space from now on in the place of the one of its modality and use.

        ``engine`` chooses its index: auto, exact, scan or graph; ``graph`` (``vectors.graph``) says
        how a graph is built and searched.
        """
        return switch_space(
            self._parts, self._files, name, engine=engine, graph=graph, dry_run=dry_run
        )

    def rm(self, name: str, *, dry_run: bool = False) -> SpaceRemoved:
        """Remove a space; its blocks go to the trash."""
        return remove_space(self._parts, self._files, name, dry_run=dry_run)

    def add_vectors(
        self,
        name: str,
        vectors: str | os.PathLike[str],
        names: str | os.PathLike[str],
        *,
        encoder: str, metric: str = "cosine", modality: str = "text", dry_run: bool = False,
    ) -> Imported:  # fmt: skip
        """Bring vectors of one's own, from an ``.npy`` and a list. See `hart spaces import`."""
        return import_vectors(
            self._parts, self._files, name=name, vectors=Path(vectors), names=Path(names),
            encoder=encoder, metric=metric, modality=modality, dry_run=dry_run,
        )  # fmt: skip

    def truth(self, name: str) -> SpaceTruth:
        """Return the exact vectors of a space, by id."""
        return SpaceTruth(self._parts, self._files, find_space(self._parts, self._files, name))


def list_spaces(parts: StoreParts, files: OpenFiles) -> list[ListedSpace]:
    """Return every space, by name."""
    find_blocks(parts, files)
    with parts.database.read() as tx:
        return [_listed(tx, row) for row in spaces.listed(tx)]


def _listed(tx: Any, row: SpaceRow) -> ListedSpace:
    blocks = spaces.blocks(tx, row.id)
    tail, dead = spaces.tail_count(tx, row.id), spaces.dead_count(tx, row.id)
    count = sum(one.row_count for one in blocks) - dead + tail
    made: Space = row.space
    return ListedSpace(
        name=row.name, state=row.state, use=row.use, modality=made.modality, encoder=made.encoder,
        quantisation=made.quantisation, dimension=made.dimension, metric=made.metric,
        dtype=made.dtype, vector_count=count, block_count=len(blocks), tail_count=tail,
        dead_count=dead, engine=row.engine,
        logical_bytes=count * made.vector_bytes,
        key=made.key, created_us=row.created_us,
    )  # fmt: skip


def show_space(parts: StoreParts, files: OpenFiles, name: str) -> ShownSpace:
    """Return everything known of a space; raises NotFoundError."""
    row = find_space(parts, files, name)
    with parts.database.read() as tx:
        summary = _listed(tx, row)
        held = {one.version_uid for one in spaces.blocks(tx, row.id)}
        names = [one.name for one in spaces.stored_blocks(tx) if one.version_uid in held]
    _, places = SpaceTruth(parts, files, row).every_place()
    return ShownSpace(
        summary=summary, recipe=row.space.recipe, pooling=row.space.pooling,
        encoder_digest=row.space.encoder_digest, family=row.space.family,
        file_count=len(places.digests), blocks=tuple(sorted(names)),
    )  # fmt: skip


def switch_space(
    parts: StoreParts,
    files: OpenFiles,
    name: str,
    *,
    engine: str | None = None,
    graph: GraphSettings | None = None,
    dry_run: bool = False,
) -> SpaceSwitched:
    """Make a space the one that is searched, in one transaction; raises NotFoundError.

    With ``engine`` its index is another one from now on, with ``graph`` as that says; UsageError
    for an unknown one, and for ``graph`` with another.
    """
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=f"one of {', '.join(ENGINES)}")
    if graph is not None:
        if engine != "graph":
            raise UsageError("a graph's settings are for the engine 'graph'",
                             hint="name it too: --engine graph")  # fmt: skip
        engine = with_settings(graph)
    row = find_space(parts, files, name)

    def work(tx: Any) -> SpaceSwitched:
        former = spaces.current(tx, row.space.modality, row.use)
        same = former is not None and former.id == row.id
        if not same and not dry_run:
            spaces.switch(tx, row, now_us=parts.clock())
        if engine is not None and not dry_run:
            spaces.set_engine(tx, row.id, engine)
        return SpaceSwitched(
            name=row.name, former=None if former is None else former.name, changed=not same,
            dry_run=dry_run,
        )  # fmt: skip

    if dry_run:
        with parts.database.read() as tx:
            return work(tx)
    return parts.database.run(work)


def remove_space(
    parts: StoreParts, files: OpenFiles, name: str, *, dry_run: bool = False
) -> SpaceRemoved:
    """Remove a space; raises NotFoundError."""
    row = find_space(parts, files, name)
    with parts.database.read() as tx:
        summary = _listed(tx, row)
        blocks = spaces.blocks(tx, row.id)
        current = spaces.current(tx, row.space.modality, row.use)
        others = tuple(
            one.name for one in spaces.listed(tx)
            if one.id != row.id and (one.space.modality, one.use) == (row.space.modality, row.use)
        )  # fmt: skip
    if not dry_run:
        left = blocks
        while True:
            if left:
                drop_blocks(parts, row, left)
            # A writer may have added one meanwhile: it would bring the space back.
            left = parts.database.run(lambda tx: _removed(tx, row.id))
            if not left:
                break
    return SpaceRemoved(
        name=row.name, vector_count=summary.vector_count, block_count=len(blocks),
        searched=current is not None and current.id == row.id, modality=row.space.modality,
        use=row.use, others=others, dry_run=dry_run,
    )  # fmt: skip


def _removed(tx: Any, space_id: int) -> list[spaces.BlockRow]:
    """Remove a space that has no blocks, or return those that it has."""
    left = spaces.blocks(tx, space_id)
    if not left:
        spaces.remove(tx, space_id)
    return left
