"""One round of every peer over the same files: an empty store, add, stored bytes, get, compare."""

import filecmp
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from context import Context
from made_files import warm
from measure import Measured
from peers import PEERS, Peer, UnavailableError
from tables import megabytes, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one peer took for one set of files; ``reason`` says why it was not run."""

    peer: str
    version: str = ""
    syncs: bool = False
    plain_bytes: int = 0
    stored_bytes: int | None = None
    add: Measured | None = None
    get: Measured | None = None
    exact: bool | None = None
    reason: str = ""


def available(
    context: Context, kinds: Sequence[type[Peer]] = PEERS
) -> Iterator[tuple[type[Peer], Peer | None, str]]:
    """Yield each peer, ready to be prepared, or None with the reason why it cannot be had."""
    for kind in kinds:
        if kind.name in context.skip:
            yield kind, None, "left out by --skip"
            continue
        peer = kind(context.work, context.tools)
        try:
            version = peer.version()
        except (UnavailableError, OSError) as error:
            yield kind, None, str(error)
            continue
        context.versions[kind.name] = version
        yield kind, peer, version


def rounds(context: Context, paths: Sequence[Path], plain_bytes: int) -> list[Round]:
    """Run every peer once over ``paths``."""
    done = []
    for kind, peer, text in available(context):
        if peer is None:
            done.append(Round(peer=kind.name, reason=f"not run: {text}"))
            continue
        done.append(one_round(context, peer, text, paths, plain_bytes))
    return done


def one_round(
    context: Context, peer: Peer, version: str, paths: Sequence[Path], plain_bytes: int
) -> Round:
    """Run one peer over ``paths`` in an empty store and remove everything again."""
    out = context.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    try:
        peer.prepare()
        warm(paths)
        add = peer.add(paths)
        stored = peer.stored_bytes()
        get = peer.get(out) if add.ok else None
        exact = equal_paths(paths, out) if get is not None and get.ok else None
    except (UnavailableError, OSError) as error:
        return Round(peer=peer.name, version=version, reason=f"failed: {error}")
    finally:
        peer.clean()
        shutil.rmtree(out, ignore_errors=True)
    failed = next((one for one in (add, get) if one is not None and not one.ok), None)
    return Round(
        peer=peer.name, version=version, syncs=peer.syncs, plain_bytes=plain_bytes,
        stored_bytes=stored, add=add, get=get, exact=exact,
        reason="" if failed is None else f"exit code {failed.exit_code}: {failed.output[-300:]}",
    )  # fmt: skip


def round_table(title: str, done: Sequence[Round]) -> str:
    """Return the table of a set of rounds."""
    rows = [
        [
            f"{one.peer} {one.version}".strip(),
            None if one.stored_bytes is None else round(megabytes(one.stored_bytes)),
            *_columns(one.add),
            *_columns(one.get),
            {True: "yes", False: "NO", None: "-"}[one.exact],
            "yes" if one.syncs else "no",
        ]
        for one in done
    ]
    head = [
        "tool", "stored MB", "add s", "add+sync s", "add CPU-s", "add anon MB",
        "get s", "get+sync s", "get CPU-s", "get anon MB", "exact", "syncs itself",
    ]  # fmt: skip
    text = table(title, head, rows)
    return "\n".join([text, *(f"{one.peer}: {one.reason}" for one in done if one.reason), ""])


def as_figures(done: Sequence[Round]) -> list[dict[str, Any]]:
    """Return rounds for JSON, without programs' texts."""
    return [asdict(one) for one in done]


def _columns(measured: Measured | None) -> list[float | None]:
    if measured is None or not measured.ok:
        return [None] * 4
    return [
        measured.wall_s, measured.synced_s, measured.cpu_s, megabytes(measured.peak_anon_bytes)
    ]  # fmt: skip


def equal_paths(paths: Sequence[Path], out: Path) -> bool:
    """Say whether every file came back byte for byte, under its name."""
    for path in paths:
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        for file in files:
            twin = out / file.relative_to(path.parent)
            if not twin.is_file() or not filecmp.cmp(file, twin, shallow=False):
                return False
    return True
