"""The family of ``family.toml`` in every store: bytes, CPU-seconds, time and memory by class.

Each tool gets an empty store and takes one class after the other in an add of its own, so a class
costs what it adds to what is there. Then each class is got back by itself and compared byte for
byte. Runs are interleaved over the tools; times are medians, memory the highest seen. CPU-seconds
are what to judge by: wall clock depends on what else the machine does.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import family_references
from context import Context, Result
from family import build, definition
from family.definition import Family
from made_files import size_of, warm
from measure import Measured
from measure import run as run_command
from peers import COMPARED, Peer, UnavailableError
from peers.peer import package_version, python_with
from side_by_side import available, equal_paths
from tables import megabytes, table

PLOTTER = "matplotlib"
_COMMAND_CHARS = 90


@dataclass(slots=True)
class Kept:
    """One class in one tool: what it grew by, and each run's add and get."""

    plain_bytes: int
    stored_bytes: int | None = None
    adds: list[Measured] = field(default_factory=list)
    gets: list[Measured] = field(default_factory=list)
    exact: bool = True


@dataclass(slots=True)
class Runs:
    """One tool over all classes; ``reason`` says why it was not run or where it failed."""

    name: str
    version: str = ""
    syncs: bool = False
    kinds: dict[str, Kept] = field(default_factory=dict)
    reason: str = ""


def run(context: Context) -> Result:
    """Measure the members that are built; say how to build them where there are none."""
    family = definition.load()
    groups = _groups(context, family)
    if not groups:
        of = f" of part {context.part}" if context.part else ""
        text = f"family: not run: nothing{of} is built in {context.family}; make family\n"
        return Result(text=text, figures={"not_run": text})
    done = _measure(context, groups)
    against = family_references.measure(context, family, _parts(family, groups))
    count = sum(len(paths) for paths in groups.values())
    scope = f"family, part {context.part}" if context.part else "family"
    scope += "" if context.delta else ", without delta"
    title = f"{scope}: {count} members, {_plain(groups) / 1e6:,.0f} MB, {context.runs} runs"
    stored = {one.name: stored_of(one) for one in done}
    figures = {
        "part": context.part,
        "members": {kind: [path.name for path in paths] for kind, paths in groups.items()},
        "plain_bytes": {kind: _plain({kind: paths}) for kind, paths in groups.items()},
        "tools": {one.name: _figures(one) for one in done},
        "references": against.figures(),
    }
    texts = [title, "", *_tables(done, list(groups)), *against.tables(stored)]
    texts.append(_commands(done))
    texts += [f"{one.name}: {one.reason}" for one in done if one.reason]
    texts.append(_plot(context, figures))
    return Result(text="\n".join(texts) + "\n", figures=figures)


def _groups(context: Context, family: Family) -> dict[str, list[Path]]:
    """Return the paths of built members by class, in the order in which they arrive."""
    groups: dict[str, list[Path]] = {}
    for one in family.members:
        path = build.path_of(context.family, one)
        if path.exists() and context.part in (None, family.part_of(one.name)):
            groups.setdefault(one.kind or "", []).append(path)
    return groups


def _parts(family: Family, groups: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """Return the same paths, in the same order, by the base that they are made from."""
    parts: dict[str, list[Path]] = {}
    for path in (path for paths in groups.values() for path in paths):
        parts.setdefault(family.part_of(path.name), []).append(path)
    return parts


def _measure(context: Context, groups: Mapping[str, Sequence[Path]]) -> list[Runs]:
    done: dict[str, Runs] = {}
    ready: list[Peer] = []
    for kind, peer, text in available(context, COMPARED):
        done[kind.name] = Runs(name=kind.name, syncs=kind.syncs)
        if peer is None:
            done[kind.name].reason = f"not run: {text}"
        else:
            done[kind.name].version = text
            ready.append(peer)
    for turn in range(context.runs):
        for peer in ready:
            runs = done[peer.name]
            several = not peer.slow and peer.name not in context.once
            if not runs.reason and (several or not turn):
                print(f"family: run {turn + 1}, {peer.name}", file=sys.stderr, flush=True)
                runs.reason = _one_run(context, peer, runs, groups)
    return list(done.values())


def _one_run(context: Context, peer: Peer, runs: Runs, groups: Mapping[str, Sequence[Path]]) -> str:
    """Add and get every class once; return what failed, or nothing."""
    out = context.work / "out"
    try:
        peer.prepare()
        before = 0  # an empty store's own files belong to the first class
        for kind, paths in groups.items():
            kept = runs.kinds.setdefault(kind, Kept(plain_bytes=_plain({kind: paths})))
            warm(paths)
            kept.adds.append(peer.add(paths))
            if not kept.adds[-1].ok:
                return _failed(kind, kept.adds[-1])
            after = peer.stored_bytes()
            kept.stored_bytes, before = after - before, after
        for kind, paths in groups.items():
            shutil.rmtree(out, ignore_errors=True)
            kept = runs.kinds[kind]
            kept.gets.append(peer.get(out, [path.name for path in paths]))
            if not kept.gets[-1].ok:
                return _failed(kind, kept.gets[-1])
            kept.exact &= equal_paths(paths, out)
    except (UnavailableError, OSError) as error:
        return f"failed: {error}"
    finally:
        peer.clean()
        shutil.rmtree(out, ignore_errors=True)
    return ""


def _failed(kind: str, measured: Measured) -> str:
    command = " ".join(measured.command)[:120].replace("\n", " ")
    return f"{kind}: exit code {measured.exit_code}: {measured.output[-300:]} ({command} …)"


def _plain(groups: Mapping[str, Sequence[Path]]) -> int:
    return sum(size_of(path) for paths in groups.values() for path in paths)


# -- sums


def _median(measured: Sequence[Measured], name: str) -> float | None:
    return statistics.median(getattr(one, name) for one in measured) if measured else None


def _total(runs: Runs, phase: str, name: str) -> float | None:
    """Return the median over the runs of the sum over the classes."""
    rows = [getattr(kept, phase) for kept in runs.kinds.values()]
    if runs.reason or not rows:
        return None
    turns = min(len(row) for row in rows)
    return statistics.median(
        sum(getattr(row[turn], name) for row in rows) for turn in range(turns)
    )  # fmt: skip


def _peak(runs: Runs, phase: str) -> float | None:
    peaks = [one.peak_anon_bytes for kept in runs.kinds.values() for one in getattr(kept, phase)]
    return megabytes(max(peaks)) if peaks else None


def stored_of(runs: Runs) -> int | None:
    """Return what the tool stored in all; None when a class is missing."""
    sizes = [kept.stored_bytes for kept in runs.kinds.values()]
    if runs.reason or not sizes or any(size is None for size in sizes):
        return None
    return sum(size or 0 for size in sizes)


# -- tables


def _tables(done: Sequence[Runs], kinds: Sequence[str]) -> list[str]:
    ran = [one for one in done if one.kinds]
    head = ["class", "files MB", *(one.name for one in ran)]
    texts = [
        table(
            "all classes: medians; RssAnon over all processes",
            ["tool", "stored MB", "ratio", "ingest CPU-s", "user-s", "ingest s", "restore CPU-s",
             "user-s", "restore s", "ingest peak MB", "restore peak MB", "exact", "syncs", "runs"],
            [_total_row(one) for one in done],
        ),
        table("stored MB by class, in the order of arrival", head,
              [_class_row(kind, ran, _stored_mb) for kind in kinds]),
        table("ratio by class: plain / stored", head,
              [_class_row(kind, ran, _ratio) for kind in kinds]),
    ]  # fmt: skip
    for phase, verb in (("adds", "ingest"), ("gets", "restore")):
        for name, unit in (("cpu_s", "CPU-seconds"), ("wall_s", "seconds")):
            rows = [
                _class_row(kind, ran, lambda kept, p=phase, n=name: _median(getattr(kept, p), n))
                for kind in kinds
            ]
            texts.append(table(f"{verb}: {unit} by class", head, rows))
    return texts


def _total_row(one: Runs) -> list[object]:
    stored = stored_of(one)
    plain = sum(kept.plain_bytes for kept in one.kinds.values())
    exact = all(kept.exact and kept.gets for kept in one.kinds.values())
    return [
        f"{one.name} {one.version}".strip(),
        None if stored is None else megabytes(stored),
        None if not stored else plain / stored,
        _total(one, "adds", "cpu_s"), _total(one, "adds", "user_s"), _total(one, "adds", "wall_s"),
        _total(one, "gets", "cpu_s"), _total(one, "gets", "user_s"), _total(one, "gets", "wall_s"),
        _peak(one, "adds"), _peak(one, "gets"),
        "-" if stored is None else "yes" if exact else "NO",
        "yes" if one.syncs else "no",
        max((len(kept.gets) for kept in one.kinds.values()), default=0),
    ]  # fmt: skip


def _class_row(kind: str, ran: Sequence[Runs], figure: Any) -> list[object]:
    plain = next(one.kinds[kind].plain_bytes for one in ran if kind in one.kinds)
    row: list[object] = [kind, megabytes(plain)]
    return row + [figure(one.kinds[kind]) if kind in one.kinds else None for one in ran]


def _commands(done: Sequence[Runs]) -> str:
    """Return the table of what was run: first commands, and the exit codes of all."""
    rows: list[list[object]] = []
    for one in done:
        for phase in ("adds", "gets"):
            ran = [each for kept in one.kinds.values() for each in getattr(kept, phase)]
            codes = ", ".join(sorted({str(each.exit_code) for each in ran})) or "not run"
            shown = _shown(ran[0].command) if ran else ""
            rows.append([f"{one.name} {one.version}".strip(), phase[:-1], len(ran), codes, shown])
    return table("what was run", ["tool", "", "commands", "exit codes", "the first one"], rows)


def _shown(command: Sequence[str]) -> str:
    """Return a command in one line: folders and programs given by -c are left out."""
    words = [Path(word).name if word.startswith("/") else word for word in command]
    text = " ".join("…" if "\n" in word else word for word in words)
    return text if len(text) <= _COMMAND_CHARS else f"{text[:_COMMAND_CHARS]} …"


def _stored_mb(kept: Kept) -> float | None:
    return None if kept.stored_bytes is None else megabytes(kept.stored_bytes)


def _ratio(kept: Kept) -> float | None:
    return kept.plain_bytes / kept.stored_bytes if kept.stored_bytes else None


def _figures(one: Runs) -> dict[str, Any]:
    return {
        "version": one.version, "reason": one.reason, "syncs": one.syncs,
        "stored_bytes": stored_of(one),
        "totals": {
            f"{phase}_{name}": _total(one, phase, name)
            for phase in ("adds", "gets") for name in ("cpu_s", "user_s", "wall_s", "synced_s")
        },
        "classes": {
            kind: {
                "plain_bytes": kept.plain_bytes, "stored_bytes": kept.stored_bytes,
                "exact": kept.exact, "adds": [asdict(each) for each in kept.adds],
                "gets": [asdict(each) for each in kept.gets],
            }
            for kind, kept in one.kinds.items()
        },
    }  # fmt: skip


# -- the plot


def _plot(context: Context, figures: Mapping[str, Any]) -> str:
    """Draw the figures in an environment of its own; return where, or why not."""
    name = f"family-{context.part}" if context.part else "family"
    name += "" if context.delta else "-no-delta"
    source, target = context.out / f"{name}.json", context.out / f"{name}.svg"
    source.write_text(json.dumps(figures, default=str), encoding="utf-8")
    try:
        python = python_with(PLOTTER, context.tools)
    except UnavailableError as error:
        return f"plot: not drawn: {error}"
    context.versions[PLOTTER] = package_version(python, PLOTTER)
    script = Path(__file__).with_name("family_plot.py")
    done = run_command([str(python), str(script), str(source), str(target)])
    return f"plot: {target}" if done.ok else f"plot: not drawn: {done.output}"
