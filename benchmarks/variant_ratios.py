"""What tensors take beside what they were made from, by relation and by type.

Each row has a store of its own: the sources are added, then the target, and of the target's tensors
those are counted that were not there before. *share* is what they take of their own size, with the
headers of their records; *parts* is how they are kept, in MB of their own size. Types below 0.01 MB
are left out. Where the goal is a share, less is better; where it is a ratio, more.
"""

import json
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
from context import Context, Result
from deltas import tensors
from family import definition
from tables import megabytes, table
from xor_reference import xor_bytes

import hartonomous as hn
from hartonomous.catalog import extents
from hartonomous.store import Store

FLOAT, IMPORTANCE, SIBLING, SMALLEST = "F32", "F32, importance", "Q8_0", "F32, --smallest"
LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SHARES = {
    **dict.fromkeys(LEGACY, 0.02), "Q2_K": 0.21, "Q3_K": 0.14, "Q4_K": 0.12, "Q5_K": 0.12,
    "Q6_K": 0.12, "IQ4_NL": 0.15, "IQ4_XS": 0.15,
}  # fmt: skip
"""What a quantised tensor beside its float source may take of itself."""
_QUANTISED = (
    "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "q4_0", "q4_1", "q5_0", "q5_1",
    "iq4_nl", "iq4_xs",
)  # fmt: skip
_SIBLINGS = ("q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k", "q4_0", "iq4_nl", "iq4_xs")
_LEAST_MB = 0.01
_ALONE = ("fields", "raw", "zstd")
_RELATIONS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("cast", ("llama",), "llama-bf16"),
    ("cast", ("llama",), "llama-f16"),
    ("cast", ("minilm",), "minilm-bf16"),
    ("cast", ("minilm",), "minilm-f16"),
    ("transposed", ("minilm",), "minilm.onnx"),
    ("permuted", ("llama-f16",), "llama-f16.gguf"),
    ("permuted", ("llama",), "llama-bf16.gguf"),
    ("merged", ("llama-decay-100", "llama-plain-100"), "llama-average"),
    ("merged", ("llama", "llama-decay-100", "llama-plain-100"), "llama-task-arithmetic"),
    ("merged", ("llama", "llama-lora"), "llama-lora-merged"),
    ("fine-tune", ("llama-bf16",), "llama-half-100"),
)
_GOALS = {"cast": 500.0, "transposed": 500.0, "permuted": 500.0, "merged": 15.0}


@dataclass(slots=True)
class Kept:
    """Tensors of one type that a store did not have: their size, what they take, how."""

    plain_bytes: int = 0
    stored_bytes: int = 0
    ways: dict[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """Return how they are kept, the most first."""
        some = sorted(self.ways.items(), key=lambda one: -one[1])
        return ", ".join(f"{way} {megabytes(size):.2f}" for way, size in some)


def run(context: Context) -> Result:
    """Measure what is built of the family; say how to build it where nothing is."""
    members = _members(context)
    if "llama" not in members:
        text = f"variants: not run: no llama is built in {context.family}; make family\n"
        return Result(text=text, figures={"not_run": text})
    place = context.work / "variants"
    quantised = list(_quantised_rows(members, place, quick=context.quick))
    related = list(_related_rows(members, place))
    tuned = list(_tuned_rows(members, place))
    texts = [
        table(
            "variants: a quantised tensor beside what it was made from",
            ["type", "beside", "file", "MB", "stored MB", "share", "goal", "parts, MB"], quantised,
        ),
        table(
            "variants: tensors that are computed from others",
            ["relation", "beside", "file", "MB", "stored MB", "ratio", "goal", "parts, MB"],
            related,
        ),
        table(
            "variants: BF16 fine-tunes beside their BF16 base, all tensors",
            ["model", "MB", "stored MB", "ratio", "goal", "xor, planes, zstd -3", "over that"],
            tuned,
        ),
    ]  # fmt: skip
    figures = {"quantised": quantised, "related": related, "tuned": tuned}
    return Result(text="\n".join(texts), figures=figures)


def _members(context: Context) -> dict[str, Path]:
    """Return the parts of the family that are built, those too that are no members."""
    found = {}
    for one in definition.load().parts:
        path = context.family / ("members" if one.measured else "steps") / one.name
        if path.exists():
            found[one.name] = path
    return found


# -- rows


def _quantised_rows(
    members: dict[str, Path], place: Path, *, quick: bool
) -> Iterator[list[object]]:
    names = _QUANTISED[1:4] if quick else _QUANTISED
    ways = [(FLOAT, "llama", name, "") for name in names]
    ways += [(IMPORTANCE, "llama", name, "-imatrix") for name in names]
    ways += [(SIBLING, "llama-q8_0.gguf", name, "") for name in _SIBLINGS if name in names]
    ways += [(SMALLEST, "llama", name, "") for name in names if name.endswith(("_k", "_k_m"))]
    for beside, source, name, ending in ways:
        target = f"llama-{name}{ending}.gguf"
        if target not in members or source not in members:
            continue
        kept = _kept(place, [members[source]], members[target], smallest=beside == SMALLEST)
        for dtype, one in sorted(kept.items()):
            if dtype in SHARES and megabytes(one.plain_bytes) >= _LEAST_MB:
                yield [
                    dtype, beside, target, megabytes(one.plain_bytes), megabytes(one.stored_bytes),
                    one.stored_bytes / one.plain_bytes, _goal(dtype, beside), one.words(),
                ]  # fmt: skip


def _goal(dtype: str, beside: str) -> float | None:
    if beside == SIBLING:
        return 0.15 if dtype == "Q4_K" else None
    if beside == SMALLEST:
        return 0.01 if dtype in K_TYPES else None
    if beside == IMPORTANCE and dtype in LEGACY and dtype != "Q8_0":
        return 0.12
    return SHARES[dtype]


def _related_rows(members: dict[str, Path], place: Path) -> Iterator[list[object]]:
    for relation, sources, target in _RELATIONS:
        if not {*sources, target} <= members.keys():
            continue
        kept = _kept(place, [members[one] for one in sources], members[target], by_way=True)
        for way, one in sorted(kept.items(), key=lambda pair: -pair[1].plain_bytes):
            if megabytes(one.plain_bytes) >= _LEAST_MB:
                yield [
                    relation, " + ".join(sources), target, megabytes(one.plain_bytes),
                    megabytes(one.stored_bytes), one.plain_bytes / one.stored_bytes,
                    None if way in _ALONE else _GOALS.get(relation), one.words(),
                ]  # fmt: skip


def _tuned_rows(members: dict[str, Path], place: Path) -> Iterator[list[object]]:
    """Yield the fine-tunes as people publish them: base and fine-tune both in BF16."""
    pairs = (
        ("minilm", "minilm-tuned-50", 10.0, None), ("minilm", "minilm-tuned-100", 10.0, None),
        ("llama", "llama-half-50", None, 1.3), ("llama", "llama-half-100", None, 1.3),
        ("llama", "llama-decay-100", None, 1.3),
    )  # fmt: skip
    for base, tuned, goal, over in pairs:
        if not {base, tuned} <= members.keys():
            continue
        halves = [_halves(members[one] / "model.safetensors") for one in (base, tuned)]
        files = []
        for name, half in zip((base, tuned), halves, strict=True):
            files.append(place.parent / f"{name}-halves.safetensors")
            _write_halves(files[-1], half)
        kept = _kept(place, files[:1], files[1])
        for file in files:
            file.unlink()
        plain = sum(one.plain_bytes for one in kept.values())
        stored = sum(one.stored_bytes for one in kept.values())
        changed = {name: one for name, one in halves[1].items() if halves[0].get(name) != one}
        peer = plain / sum(xor_bytes(one, halves[0][name], 2) for name, one in changed.items())
        yield [
            f"{tuned} on {base}", megabytes(plain), megabytes(stored), plain / stored,
            goal or peer * (over or 0), peer, plain / stored / peer,
        ]  # fmt: skip


def _halves(path: Path) -> dict[str, bytes]:
    return {name: one.astype(ml_dtypes.bfloat16).tobytes() for name, one in tensors(path)}


def _write_halves(path: Path, content: dict[str, bytes]) -> None:
    """Write flat BF16 tensors as a safetensors file; a base is found in any shape of one size."""
    header, at = {}, 0
    for name, one in content.items():
        shape = [len(one) // 2]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(one)]}
        at += len(one)
    text = json.dumps(header).encode()
    path.write_bytes(b"".join([struct.pack("<Q", len(text)), text, *content.values()]))


# -- one store


def _kept(
    place: Path, sources: Sequence[Path], target: Path, *, smallest: bool = False,
    by_way: bool = False,
) -> dict[str, Kept]:  # fmt: skip
    """Return the target's new tensors by type, or by how they are kept; the bytes are compared."""
    print(f"variants: {target.name}", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    with hn.open(place, create=True) as store:
        for one in sources:
            store.add(one, hidden=True)
        known = _digests(store)
        store.add(target, hidden=True)
        if smallest:
            store.repack(smallest=True)
        kept = dict(_counted(store, target.name, known, by_way=by_way))
        if not store.verify().sound:
            raise ValueError(f"{target.name} did not come back")
    shutil.rmtree(place)
    return kept


def _digests(store: Store) -> set[str]:
    return {
        tensor.digest
        for name in store.names(limit=1000)
        for file in store.show(name).files
        for tensor in file.tensors
        if tensor.digest
    }


def _counted(
    store: Store, name: str, known: set[str], *, by_way: bool
) -> Iterator[tuple[str, Kept]]:
    found: dict[str, Kept] = {}
    for file in store.show(name).files:
        for tensor in file.tensors:
            if not tensor.digest or tensor.digest in known:
                continue
            known.add(tensor.digest)
            explained = store.explain(name, tensor.name, member=file.path)
            way = explained.pieces[0].encoding
            headers = _header_bytes(store, [one.digest for one in explained.pieces])
            one = found.setdefault(way if by_way else tensor.dtype, Kept())
            one.plain_bytes += explained.logical_bytes
            one.stored_bytes += explained.stored_bytes + headers
            one.ways[way] = one.ways.get(way, 0) + explained.logical_bytes
    yield from found.items()


def _header_bytes(store: Store, digests: Sequence[str | None]) -> int:
    """Return the bytes of the headers of atoms' records; bytes inside a manifest have none."""
    names = [bytes.fromhex(one.partition(":")[2]) for one in digests if one]
    with store.parts.database.read() as tx:
        rows = [row for some in extents.of_atoms(tx, names).values() for row in some]
    headers = [store.files.atoms.record(row.pack_key, row.header_offset)[1] for row in rows]
    return sum(len(one.encode()) for one in headers)
