"""Estimate: what a store would need for files, told from few of their bytes, storing nothing."""

import os
from collections.abc import Iterable, Sequence

import msgspec

from hartonomous.core.estimation import sum_of
from hartonomous.packs.forecast import EstimatedClass, forecast
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources.discover import discover


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a store would need. The truth is expected between ``low_bytes`` and ``high_bytes``.

    ``compared`` says whether there was a store to compare with; ``read_bytes`` of at most
    ``read_limit_bytes`` were read of the files.
    """

    artifact_count: int
    file_count: int
    tensor_count: int
    logical_bytes: int
    estimated_bytes: int
    low_bytes: int
    high_bytes: int
    read_bytes: int
    read_limit_bytes: int
    compared: bool
    classes: tuple[EstimatedClass, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def estimate(
    parts: StoreParts | None,
    paths: Sequence[str | os.PathLike[str]],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
) -> Estimate:
    """Tell what the store (``parts``; None: an empty one) would need for what is at ``paths``.

    Pieces that are the same at a few places count as equal and as costing nothing. Chunks that
    files without structure share are not looked for; only such files as a whole are. Raises
    NotFoundError and UsageError for wrong paths; a file that cannot be read becomes a note.
    """
    progress = progress or NoProgress()
    found = list(discover(paths, include=include, exclude=exclude))
    artifacts = [one for one in found if isinstance(one, Candidate)]
    told = forecast(parts, artifacts, progress)
    whole = sum_of([guess for _, guess in told.classes])
    return Estimate(
        artifact_count=len(artifacts),
        file_count=sum(len(one.members) for one in artifacts),
        tensor_count=told.tensor_count,
        logical_bytes=sum(one.logical_bytes for one, _ in told.classes),
        estimated_bytes=whole.estimated,
        low_bytes=whole.low,
        high_bytes=whole.high,
        read_bytes=told.read_bytes,
        read_limit_bytes=told.read_limit_bytes,
        compared=parts is not None,
        classes=tuple(one for one, _ in told.classes),
        notes=told.notes,
        skipped=tuple(f"{one.location}: {one.reason}" for one in found if isinstance(one, Skipped)),
    )
