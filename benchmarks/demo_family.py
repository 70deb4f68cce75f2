"""The demo's family of one real model: what each member costs in each store.

Members are added one after the other, each in an add of its own; a cost is by how much the store
grew. Beside it, where the program can estimate, what ``hart estimate`` said before the add.
"""

import shutil
from pathlib import Path
from typing import Any

from context import Context, Result
from made_files import size_of
from measure import Measured
from peers import Hartonomous, Peer, UnavailableError
from peers.hartonomous_store import estimate
from side_by_side import available
from tables import megabytes, table

from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base
from hartonomous.operations.demo_family import make_family


def run(context: Context) -> Result:
    """Measure the family; it is as small when quick."""
    folder = context.files / "demo-family"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
        members = make_family(base, folder)
    except HartonomousError as error:
        return Result(text=f"demo: not run: {error}\n", figures={"not_run": str(error)})
    paths = [one.path for one in members]
    costs: dict[str, list[int | None]] = {"plain": [size_of(path) for path in paths]}
    notes = []
    estimates: list[int | None] = []
    for kind, peer, text in available(context):
        if peer is None:
            notes.append(f"{kind.name}: not run: {text}")
            continue
        try:
            costs[kind.name], reason = _grow(peer, paths, estimates)
        except UnavailableError as error:
            costs[kind.name], reason = [None] * len(paths), str(error)
        if reason:
            notes.append(f"{kind.name}: {reason}")
    if any(value is not None for value in estimates):
        costs["hart estimate"] = estimates
    return Result(text=_tables(paths, costs, notes), figures=_figures(paths, costs))


def _grow(
    peer: Peer, paths: list[Path], estimates: list[int | None]
) -> tuple[list[int | None], str]:
    """Add one path after the other; return by how much the store grew each time."""
    grown: list[int | None] = []
    try:
        peer.prepare()
        before = peer.stored_bytes()
        for path in paths:
            if isinstance(peer, Hartonomous):
                estimates.append(estimate(peer, path))
            added: Measured = peer.add([path])
            if not added.ok:
                left = len(paths) - len(grown)
                return [*grown, *([None] * left)], f"exit code {added.exit_code}: {added.output}"
            after = peer.stored_bytes()
            grown.append(after - before)
            before = after
    finally:
        peer.clean()
    return grown, ""


def _tables(paths: list[Path], costs: dict[str, list[int | None]], notes: list[str]) -> str:
    rows: list[list[Any]] = [
        [path.name, *(_mb(values[index]) for values in costs.values())]
        for index, path in enumerate(paths)
    ]
    rows.append(["all", *(_mb(_sum(values)) for values in costs.values())])
    plain = _sum(costs["plain"]) or 1
    rows.append(["of plain", *((_sum(values) or 0) / plain for values in costs.values())])
    return "\n".join([table("demo: MB that each member added", ["", *costs], rows), *notes, ""])


def _figures(paths: list[Path], costs: dict[str, list[int | None]]) -> dict[str, Any]:
    return {
        name: dict(zip((path.name for path in paths), values, strict=True))
        for name, values in costs.items()
    }


def _sum(values: list[int | None]) -> int | None:
    return None if any(value is None for value in values) else sum(value or 0 for value in values)


def _mb(value: int | None) -> float | None:
    return None if value is None else megabytes(value)
