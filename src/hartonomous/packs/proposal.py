"""A version that somebody proposes to publish."""

from dataclasses import dataclass, field
from typing import Any

from hartonomous.catalog import versions
from hartonomous.core.role import Role
from hartonomous.core.tree import tree_digest
from hartonomous.packs.ingest import IngestedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A version to publish: what is in it, where it came from, what it would like to be called."""

    kind: str
    names: tuple[str, ...]
    files: tuple[IngestedFile, ...]
    source_place: str
    model: dict[str, Any] | None = None
    layers: tuple[versions.LayerRow, ...] = ()
    tensor_count: int = 0
    parameter_count: int | None = None
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    # Asked for by name: a next version, unless the newest has the same bytes.
    next_version: bool = False
    # One of several states of a source: a next version, unless any has the same bytes.
    revisions: bool = False
    # A next version of whatever this source gave before.
    update: bool = False

    @property
    def digest(self) -> bytes:
        """The version's digest."""
        return tree_digest((one.source.path, one.digest) for one in self.files)

    @property
    def is_adapter(self) -> bool:
        """Whether it has matrices of low rank, which may have been merged into other models."""
        return self.model is not None and Role.LORA_B.value in self.model["roles"]

    @property
    def row_count(self) -> int:
        """About how many rows its publication writes, its events among them."""
        return 4 + 3 * len(self.labels) + (self.model is not None)
