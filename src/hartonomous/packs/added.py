"""What an add tells: its artifacts, what became of them, and why they cost what they cost."""

from collections import Counter

import msgspec

from hartonomous.core.notebook import html_table
from hartonomous.core.quantity import size


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a part of an artifact cost what it cost."""

    reason: str
    piece_count: int
    logical_bytes: int
    stored_bytes: int


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one artifact. ``outcome``: added, updated, unchanged, or failed.

    ``moved`` says that its source was removed, ``source_kept`` why it was not though asked for.
    ``unread_count`` files or folders of its source could not be read and are not in it.
    """

    outcome: str
    name: str
    number: int | None = None
    digest: str | None = None
    kind: str = "file"
    source: str = ""
    file_count: int = 0
    tensor_count: int = 0
    parameter_count: int | None = None
    logical_bytes: int = 0
    stored_bytes: int = 0
    reasons: tuple[Reason, ...] = ()
    labels: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    moved: bool = False
    source_kept: str | None = None
    error: str | None = None
    unread_count: int = 0


class AddReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an add did, or (``dry_run``) would do: its artifacts, and what was met and not taken.

    ``unread_count`` files or folders were wanted and could not be read, inside artifacts or not.
    """

    artifacts: tuple[Added, ...]
    skipped: tuple[str, ...]
    logical_bytes: int
    stored_bytes: int
    failed_count: int
    dry_run: bool = False
    unread_count: int = 0

    @property
    def unread(self) -> str:
        """How much could not be read, in words; empty where everything was read."""
        if not self.unread_count:
            return ""
        what = "files or folders" if self.unread_count > 1 else "file or folder"
        return f"{self.unread_count:,} {what} could not be read and stayed out"

    def __repr__(self) -> str:
        """Return one line, such as ``<AddReport: 2 added, 1 failed; 1.2 GB, stored 310 MB>``."""
        return f"<AddReport: {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        return html_table(
            self._summary(),
            ("name", "version", "outcome", "size", "stored", "error"),
            (
                (one.name, one.number, one.outcome, size(one.logical_bytes),
                 size(one.stored_bytes), one.error)
                for one in self.artifacts
            ),
        )  # fmt: skip

    def _summary(self) -> str:
        counts = Counter(one.outcome for one in self.artifacts)
        told = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.items())
        stored = "would take about" if self.dry_run else "stored"
        sizes = f"{size(self.logical_bytes)}, {stored} {size(self.stored_bytes)}"
        sizes += f"; {self.unread}" if self.unread else ""
        return f"{told or 'nothing found'}; {sizes}"
