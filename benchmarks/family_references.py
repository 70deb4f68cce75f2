"""What the family would take by two references, part by part, and our bytes over everyone's.

A part is a base model with everything that is made from it. The references attribute every distinct
piece to one member, so they are known for each part in any run; what a tool stores is known for the
run's own scope: the whole family, or with ``--part`` one part.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensor_reference
import xor_reference
from context import Context
from family.definition import Family
from made_files import size_of
from peers import Dvc, GitLfs, Hartonomous, HfXet, UnavailableError
from tables import megabytes, table
from tensor_reference import Reference
from xor_reference import XorReference

WHOLE = "all parts"
TENSORS, XOR = "tensor dedupe + zipnn", "tensor dedupe + xor"
GOALS = {HfXet.name: 0.28, TENSORS: 0.45, XOR: 0.72, GitLfs.name: 0.22, Dvc.name: 0.22}
"""What hartonomous may store at most, of what they store."""
GOALS_ALONE = {TENSORS: 1.02}
"""The same where every tensor is kept on its own (``--no-delta``)."""
GOAL_PART = {HfXet.name: "minilm"}
"""Goals that are meant for one part only: it is made from a published model."""
PROTOTYPE, PROTOTYPE_GOAL = "prototype", 1.05
PROTOTYPE_BYTES = {"minilm": (1_258_867_325, 209_848_330), "llama": (2_215_382_044, 896_416_616)}
"""Bytes of a part's files, and what the prototype stores of them: profiles/prototype_floor.txt."""


@dataclass(frozen=True, slots=True)
class Against:
    """Both references by part; ``tensors`` is the reason where zipnn cannot be had."""

    part: str | None
    delta: bool
    plain: dict[str, int]
    tensors: dict[str, Reference] | str
    xor: dict[str, XorReference]

    def figures(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        tensors = self.tensors
        return {
            TENSORS: tensors if isinstance(tensors, str) else _figures(tensors),
            XOR: _figures(self.xor),
        }

    def tables(self, stored: Mapping[str, int | None]) -> list[str]:
        """Return the references by part, and the ratios to them and to what each tool stored."""
        return [self._tensors_table(), self._xor_table(), self._ratios(stored)]

    def _tensors_table(self) -> str:
        title = "each tensor once through zipnn, the rest cut and compressed as the store does, MB"
        if isinstance(self.tensors, str):
            return f"{title}\n\n{self.tensors}\n"
        rows = {
            part: [one.zipnn_plain, one.zipnn_stored, one.other_plain, one.other_stored,
                   one.rest_plain, one.rest_stored, one.stored_bytes]
            for part, one in self.tensors.items()
        }  # fmt: skip
        head = ["part", "by zipnn", "stored", "by zstd", "stored", "no tensors", "stored", "all"]
        return _parts_table(title, head, rows)

    def _xor_table(self) -> str:
        title = "each tensor once, XOR with declared bases, byte planes and zstd -3, MB"
        rows = {
            part: [one.xor_plain, one.xor_stored, one.other_plain, one.other_stored,
                   one.stored_bytes]
            for part, one in self.xor.items()
        }  # fmt: skip
        head = ["part", "with a base", "stored", "without", "stored", "all"]
        return _parts_table(title, head, rows)

    def _ratios(self, stored: Mapping[str, int | None]) -> str:
        sizes = {name: size for name, size in stored.items() if name != Hartonomous.name}
        if not isinstance(self.tensors, str):
            sizes[TENSORS] = sum(one.stored_bytes for one in self.tensors.values())
        sizes[XOR] = sum(one.stored_bytes for one in self.xor.values())
        goals = {**GOALS, PROTOTYPE: PROTOTYPE_GOAL} if self.delta else GOALS_ALONE
        sizes[PROTOTYPE] = self._prototype_bytes()
        ours = stored.get(Hartonomous.name)
        rows: list[list[object]] = []
        for name, size in sizes.items():
            meant = GOAL_PART.get(name) in (None, self.part)
            rows.append([
                name, None if size is None else megabytes(size),
                ours / size if ours and size else None, goals.get(name) if meant else None,
            ])  # fmt: skip
        title = f"hartonomous over the others, {self.part or WHOLE}"
        return table(title, ["tool", "stored MB", "ratio", "goal"], rows)

    def _prototype_bytes(self) -> int | None:
        """Return what the prototype stores of the same files; None where they are others."""
        known = [PROTOTYPE_BYTES.get(part, (0, 0)) for part in self.plain]
        same = [plain for plain, _ in known] == list(self.plain.values())
        return sum(size for _, size in known) if same else None


def measure(context: Context, family: Family, parts: Mapping[str, Sequence[Path]]) -> Against:
    """Compute both references over ``parts``, whose paths are in their order of arrival."""
    print("family: each tensor once, by zipnn", file=sys.stderr, flush=True)
    tensors: dict[str, Reference] | str
    try:
        tensors = tensor_reference.references(context, parts)
    except UnavailableError as error:
        tensors = f"not run: {error}"
    print("family: each tensor once, XOR with its base", file=sys.stderr, flush=True)
    plain = {part: sum(map(size_of, paths)) for part, paths in parts.items()}
    xor = xor_reference.references(family, parts)
    return Against(context.part, context.delta, plain, tensors, xor)


def _figures(parts: Mapping[str, Reference] | Mapping[str, XorReference]) -> dict[str, Any]:
    return {part: {**asdict(one), "stored_bytes": one.stored_bytes} for part, one in parts.items()}


def _parts_table(title: str, head: Sequence[str], parts: Mapping[str, Sequence[int]]) -> str:
    """Return a table of bytes as MB, a row for each part and, where there are several, the sum."""
    rows = dict(parts)
    if len(rows) > 1:
        rows[WHOLE] = [sum(column) for column in zip(*parts.values(), strict=True)]
    return table(title, head, [[part, *map(megabytes, row)] for part, row in rows.items()])
