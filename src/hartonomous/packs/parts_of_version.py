"""Parts of a version: which of its files hold weights, which a training run's state.

A file belongs to the part that all of its tensors belong to; a file without tensors that are read
belongs to the optimizer's part by its name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hartonomous.catalog import manifests, versions
from hartonomous.core.role import Role
from hartonomous.errors import NotFoundError, UsageError

PARTS = ("weights", "optimizer")
_MIXED = "weights and optimizer"
_STATE_FILE = re.compile(
    r"(?:training_args|optimizer|optim|scheduler|scaler|rng_state|random_states)[^/]*"
    r"\.(?:bin|pt|pth|ckpt|safetensors)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPart:
    """A member, its stored file, and the part that it belongs to; None for neither."""

    row: versions.MemberRow
    file: manifests.ManifestRow
    part: str | None


def check_part(part: str) -> str:
    """Return ``part`` if there is such a part; raises UsageError."""
    if part not in PARTS:
        raise UsageError(f"part {part!r} is unknown", hint=f"use {' or '.join(PARTS)}")
    return part


def member_parts(tx: Any, version_id: int) -> list[MemberPart]:
    """Return the members of a version with their parts."""
    rows = versions.members_of(tx, version_id)
    files = manifests.by_ids(tx, [row.manifest_id for row in rows])
    return [
        MemberPart(
            row=row,
            file=files[row.manifest_id],
            part=_part_of(tx, row.path, files[row.manifest_id]),
        )
        for row in rows
    ]


def _part_of(tx: Any, path: str, file: manifests.ManifestRow) -> str | None:
    if not file.tensor_count:
        return "optimizer" if _STATE_FILE.fullmatch(path.rpartition("/")[2]) else None
    state = [row.role == Role.OPTIMIZER_STATE.value for row in manifests.tensors_of(tx, file.id)]
    if all(state):
        return "optimizer"
    return _MIXED if any(state) else "weights"


def chosen_part(members: Sequence[MemberPart], part: str, spec: str) -> list[MemberPart]:
    """Return the members of a part, to be dropped; raises NotFoundError if there are none.

    Raises UsageError where a file holds both parts (without some of its tensors it is another
    file), and where nothing would be left.
    """
    mixed = [one.row.path for one in members if one.part == _MIXED]
    if mixed:
        raise UsageError(
            f"{mixed[0]} of {spec} holds weights and an optimizer's state in one file, which cannot"
            " be left in part",
            hint="'hart get --as safetensors' writes its tensors; hn.Checkpoints and"
            " store.add_tensors(..., optimizer=...) keep the two as files of their own",
        )
    chosen = [one for one in members if one.part == part]
    if not chosen:
        raise NotFoundError(
            f"{spec} has no {part}", hint=f"it has {', '.join(one.row.path for one in members[:8])}"
        )
    if len(chosen) == len(members):
        raise UsageError(
            f"{spec} has nothing but its {part}", hint=f"hart rm {spec!r} removes the version"
        )
    return chosen
