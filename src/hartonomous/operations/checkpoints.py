"""Checkpoints: which versions of an artifact a training run saved, with which parts."""

import msgspec

from hartonomous.catalog import artifacts, versions
from hartonomous.packs.checkpoint_files import OPTIMIZER_FILE, STEP_KEY, WEIGHTS_FILE, step_label
from hartonomous.packs.parts import StoreParts

_PARTS = {WEIGHTS_FILE: "weights", OPTIMIZER_FILE: "optimizer"}


class SavedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A version with a step. ``protected``: it carries a label that somebody else gave it."""

    number: int
    step: int
    parts: frozenset[str]
    protected: bool


def saved_checkpoints(parts: StoreParts, name: str) -> list[SavedCheckpoint]:
    """Return the checkpoints of an artifact, the oldest version first; empty if there is none."""
    with parts.database.read() as tx:
        artifact = artifacts.by_name(tx, name)
        if artifact is None:
            return []
        rows = versions.of_artifact(tx, artifact.id)
        steps = versions.metadata_of(tx, artifact.id, STEP_KEY)
        paths = versions.paths_of(tx, artifact.id, list(_PARTS))
        labels = artifacts.labels(tx, artifact.id)
    named: dict[int, set[str]] = {}
    for label, version_id in labels.items():
        named.setdefault(version_id, set()).add(label)
    found = []
    for row in rows:
        written = steps.get(row.id, "")
        if written.isdecimal() and paths.get(row.id):
            step = int(written)
            found.append(
                SavedCheckpoint(
                    number=row.number,
                    step=step,
                    parts=frozenset(_PARTS[path] for path in paths[row.id]),
                    protected=bool(named.get(row.id, set()) - {step_label(step)}),
                )
            )
    return found
