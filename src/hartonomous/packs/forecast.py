"""Forecast: what files would take in a store, told from few of their bytes, storing nothing.

Reads at most a hundredth of the bytes and 2 GiB, of up to 4 MB at most 1 MiB: headers first, then
samples of files and tensors for equality, places of tensors for likeness, and what is left for
samples of each class, encoded as they would be. A large file's header is read whatever the limit,
up to 1 MiB of them, and samples then have at least 24 kB. Reads of the store are not counted.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
import numpy as np

from hartonomous.core.chunking import NORMAL_BYTES
from hartonomous.core.description import Description
from hartonomous.core.dtype import DTYPES
from hartonomous.core.estimation import Guess, share_out
from hartonomous.core.ggml import is_dequantisable
from hartonomous.core.manifest import INLINE_BYTES, partition
from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import HartonomousError
from hartonomous.formats.detect import HEAD_BYTES
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs import overhead
from hartonomous.packs.external_files import said_by, with_external
from hartonomous.packs.foreseen_variants import EXACT, NEAR, ForeseenVariants, looked_bytes
from hartonomous.packs.hints import heads_of
from hartonomous.packs.likeness import StoredLikeness, mark_equal
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.sampling import (
    COMPUTED,
    EQUAL,
    NEW,
    PIECE,
    STORED,
    Otherwise,
    Pieces,
    Sampler,
    measure,
)
from hartonomous.packs.tally import Tally
from hartonomous.ports.progress import Progress
from hartonomous.ports.source import Candidate, MemberSource

SMALL_BYTES, SMALL_LIMIT_BYTES = 4_000_000, 1 << 20
"""Of no more bytes than the former the latter may be read; of more, a hundredth."""
MOST_READ_BYTES = 2 << 30  # however many there are: a sparse file may be larger than any disk
HEADER_LIMIT_BYTES = 1 << 20
LEAST_SAMPLED_BYTES = 24_000
"""Headers of files that are larger than the former may take that whatever the limit; then so many
bytes may be read for samples all the same."""

TENSOR_FORMATS = (
    "hartonomous.formats.safetensors:SAFETENSORS",
    "hartonomous.formats.gguf:GGUF",
    "hartonomous.formats.npy:NPY",
    "hartonomous.formats.torch_shards:TORCH_SHARDS",
    "hartonomous.formats.torch_zip:TORCH_ZIP",
    "hartonomous.formats.torch_legacy:TORCH_LEGACY",
    "hartonomous.formats.npz:NPZ",
    "hartonomous.formats.onnx:ONNX",
)
_LEAST_PARSED_BYTES = 2 * HEAD_BYTES
_INLINE, _HEADERS, _DATA = 0, 1, 2
_KINDS = ("inside manifests", "headers", "other data")


class EstimatedClass(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one kind: what they are, and what they would take in the store."""

    kind: str
    piece_count: int
    logical_bytes: int
    estimated_bytes: int
    low_bytes: int
    high_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What candidates would take: by class, and of each candidate what would go into packs, why.

    ``tallies`` has the reasons of an add; ``new`` and ``like others`` stand for encodings, which
    samples do not tell.
    """

    classes: tuple[tuple[EstimatedClass, Guess], ...]
    tallies: tuple[Tally, ...]
    tensor_count: int
    read_bytes: int
    read_limit_bytes: int
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is known so far."""

    sampler: Sampler
    kinds: list[str] = field(default_factory=lambda: list(_KINDS))
    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    tensor_count: int = 0
    overhead: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    heads: dict[int, tuple[int, ...]] = field(default_factory=dict)  # that a file names
    shares: dict[int, float] = field(default_factory=dict)  # of a kind: what a byte would take

    def add(
        self, row: tuple[int, int, int, int, int], name: str = "", shape: tuple[int, ...] = ()
    ) -> None:
        """Take a piece: file, offset, length, kind, state; with name and shape of its tensor."""
        self.rows.append(row)
        self.names.append(name)
        self.shapes.append(shape)

    def kind(self, name: str) -> int:
        """Return the number of a kind."""
        if name not in self.kinds:
            self.kinds.append(name)
        return self.kinds.index(name)


def forecast(
    parts: StoreParts | None, artifacts: Sequence[Candidate], progress: Progress
) -> Forecast:
    """Tell what the store (``parts``; None: an empty one) would need for these candidates.

    Pieces that are the same at a few places count as equal and as costing nothing. A file that
    cannot be read becomes a note.
    """
    files = [member for one in artifacts for member in one.members]
    total = sum(member.size for member in files)
    limit = min(total // 100, MOST_READ_BYTES) if total > SMALL_BYTES else SMALL_LIMIT_BYTES
    sampler = Sampler(files=files, limit_bytes=limit)
    work = _Work(sampler=sampler)
    progress.stage("estimate", total_bytes=min(limit, total))
    with closing(sampler):
        pieces = _look(parts, work, artifacts)
        places = [(int(one["file"]), int(one["offset"]), int(one["length"])) for one in pieces]
        with closing(ForeseenVariants(parts, sampler, places)) as foreseen:
            _compare(work, pieces, foreseen)
            classes = _classes(work, pieces, foreseen, progress)
    classes.append(_overhead(work, pieces, len(artifacts)))
    return Forecast(
        classes=tuple(classes),
        tallies=_by_candidate(work, pieces, artifacts),
        tensor_count=work.tensor_count,
        read_bytes=sampler.read_bytes,
        read_limit_bytes=sampler.limit_bytes,
        notes=(*work.notes, *(f"not as it was: {one}" for one in sampler.faults.values())),
    )


def _by_candidate(work: _Work, pieces: Pieces, artifacts: Sequence[Candidate]) -> tuple[Tally, ...]:
    """Share out what new pieces would take; equal ones cost what has them first."""
    owner = [at for at, one in enumerate(artifacts) for _ in one.members]
    tallies = tuple(Tally() for _ in artifacts)
    known = np.isin(pieces["state"], (EQUAL, STORED))
    long = pieces["kind"] != _INLINE
    files = np.unique(pieces["file"][long])
    whole = np.setdiff1d(files, pieces["file"][long & ~known]).tolist()
    sizes = np.zeros(len(owner), np.int64)
    np.add.at(sizes, pieces["file"], pieces["length"])
    for file in whole:
        tallies[owner[file]].add("file already stored", int(sizes[file]))
    rest = pieces[~np.isin(pieces["file"], whole)]
    groups, inverse, counts = np.unique(
        rest[["file", "kind", "state"]], return_inverse=True, return_counts=True
    )
    sums = np.zeros(len(groups), np.int64)
    np.add.at(sums, inverse, rest["length"])
    for group, size, count in zip(groups, sums.tolist(), counts.tolist(), strict=True):
        file, kind, state = (int(one) for one in group)
        taken = round(size * work.shares.get(kind, 0.0)) if state == NEW else 0
        tallies[owner[file]].add(_reason(work.kinds[kind], kind, state), size, taken, count)
    return tallies


def _reason(name: str, kind: int, state: int) -> str:
    """Return why pieces of a kind and state take what they take, in the words of an add."""
    if kind == _INLINE:
        return "inside the manifest"
    what = "tensor" if kind > _DATA else "data"
    if state in (EQUAL, STORED):
        return f"{what} already stored"
    if state == COMPUTED:
        return f"{what} stored computed"
    return f"{what} stored {NEAR if name.endswith(NEAR) else 'new'}"


# -- what there is


def _look(parts: StoreParts | None, work: _Work, artifacts: Sequence[Candidate]) -> Pieces:
    """Return the pieces of all files, with what is probably equal or stored marked as such.

    They come in the order in which they would be added, so that the first of equal ones counts.
    """
    sampler = work.sampler
    sizes, linked = _readable(work, sampler.files)
    described = _describe(work, sampler.files, sizes, linked)
    index = 0
    for artifact in artifacts:
        found = {
            one.path: described[at]
            for at, one in enumerate(artifact.members, index)
            if at in described
        }
        said = said_by(found, found.keys())
        for at, one in enumerate(artifact.members, index):
            if at in described:
                description = with_external(described[at], one.path, sizes[at], said)
                _cut(work, at, sizes[at], description)
            elif at in linked:
                work.add((at, 0, sizes[at], _DATA, EQUAL))
        index += len(artifact.members)
    if max(sizes, default=0) > HEADER_LIMIT_BYTES:
        sampler.limit_bytes = max(sampler.limit_bytes, sampler.read_bytes + LEAST_SAMPLED_BYTES)
    pieces = np.array(work.rows, PIECE)
    long = pieces["kind"] != _INLINE
    view = pieces[long]
    if not mark_equal(sampler, view, share=sampler.left_bytes // 3):
        work.notes.append("there are too many small things to look for equal ones among all")
    if parts is not None:
        names = [name for name, one in zip(work.names, long, strict=True) if one]
        with closing(StoredLikeness(parts)) as stored:
            stored.mark_files(sampler, view, sizes, share=sampler.left_bytes // 8)
            stored.mark_tensors(sampler, view, names, share=sampler.left_bytes // 3)
            if stored.exhausted:
                work.notes.append("the store has too many things of these sizes to compare all")
    pieces[long] = view
    return pieces


def _readable(work: _Work, files: Sequence[MemberSource]) -> tuple[list[int], set[int]]:
    """Return the sizes of files as they are now, 0 for those that cannot be read.

    Also the indexes of files that are an earlier one by another name: certainly equal.
    """
    sizes: list[int] = []
    linked: set[int] = set()
    seen: set[tuple[int, int]] = set()
    for index in range(len(files)):
        try:
            source = work.sampler.open(index)
        except HartonomousError as error:
            work.notes.append(f"left out: {error.message}")
            sizes.append(0)
            continue
        sizes.append(source.size)
        status = os.fstat(source.descriptor)
        place = (status.st_dev, status.st_ino)
        if place in seen:
            linked.add(index)
        seen.add(place)
    return sizes, linked


def _describe(
    work: _Work, files: Sequence[MemberSource], sizes: Sequence[int], linked: set[int]
) -> dict[int, Description]:
    """Read the headers of new files, the largest first; return what they say, by file."""
    sampler = work.sampler
    described: dict[int, Description] = {}
    reserve = sampler.left_bytes // 8
    unread = 0
    with ParserProcess(formats=TENSOR_FORMATS) as parser:
        for index in sorted(range(len(files)), key=lambda at: (-sizes[at], at)):
            size = sizes[index]
            if index in linked:
                continue
            description = Description(format="file")
            # The first bytes are read once to tell the format, and again by its parser.
            left = sampler.left_bytes - reserve
            if size > HEADER_LIMIT_BYTES:
                left = max(left, HEADER_LIMIT_BYTES - sampler.read_bytes)
            granted = min(left, size + HEAD_BYTES)
            # A short model may tell of a long file beside it.
            told = size > _LEAST_PARSED_BYTES or files[index].path.lower().endswith(".onnx")
            if told and granted > HEAD_BYTES:
                try:
                    source = sampler.open(index)
                except HartonomousError as error:  # it was there a moment ago
                    work.notes.append(f"left out: {error.message}")
                    continue
                description, read = parser.describe_within(
                    source.descriptor, files[index].path, read_limit_bytes=granted
                )
                sampler.read_bytes += read
                work.notes += [f"{files[index].path}: {one.text}" for one in description.notices]
            elif told:
                unread += 1
            described[index] = description
    if unread:
        work.notes.append(f"the headers of {unread} files were not read, to read no more")
    return described


def _cut(work: _Work, index: int, size: int, description: Description) -> None:
    pieces = partition(size, description.tensors)
    work.tensor_count += len(description.tensors)
    work.overhead[index] = overhead.file_overhead(size, pieces, description)
    if found := heads_of(description):
        work.heads[index] = found
    tensors = {one.offset: one for one in description.tensors if one.length}
    rest = _HEADERS if description.tensors else _DATA
    for piece in pieces:
        kind = rest if piece.dtype is None else work.kind(f"tensors {piece.dtype}")
        kind = _INLINE if piece.length <= INLINE_BYTES else kind
        tensor = tensors.get(piece.offset) if piece.dtype is not None else None
        whole = tensor is not None and tensor.strides is None and tensor.length == piece.length
        work.add(
            (index, piece.offset, piece.length, kind, NEW),
            tensor.name if tensor is not None else "",
            tensor.shape if tensor is not None and whole else (),
        )


def _compare(work: _Work, pieces: Pieces, foreseen: ForeseenVariants) -> None:
    """Mark new tensors that would be computed from others, or kept as what differs from them.

    In the order in which they would be added, the large ones where not all can be looked at, but
    one of each type: the others of a type are taken for what most of these are.
    """
    new = [
        at
        for at, one in enumerate(pieces)
        if one["state"] == NEW and work.shapes[at] and _can_be_compared(work.kinds[one["kind"]])
    ]
    sampler = work.sampler
    share = sampler.left_bytes // 3
    least = sampler.left_bytes - share
    chosen: set[int] = set()
    ordered = sorted(new, key=lambda at: (-int(pieces["length"][at]), at))
    first = {int(pieces["kind"][at]): at for at in reversed(ordered)}
    for at in sorted(ordered, key=lambda at: first[int(pieces["kind"][at])] != at):
        needed = looked_bytes(_dtype_of(work.kinds[pieces["kind"][at]]))
        if needed <= share:
            share -= needed
            chosen.add(at)
    looked: dict[str, list[int]] = {}  # of a kind: bytes looked at, and of these with plans
    for at in sorted(chosen):
        kind = work.kinds[pieces["kind"][at]]
        if sampler.left_bytes - looked_bytes(_dtype_of(kind)) < least:
            chosen.discard(at)
            continue
        try:
            told = foreseen.look(
                at, _dtype_of(kind), work.shapes[at], name=work.names[at],
                heads=work.heads.get(int(pieces["file"][at]), ()),
            )  # fmt: skip
        except HartonomousError as error:
            work.notes.append(f"not compared: {error.message}")
            continue
        found = looked.setdefault(kind, [0, 0])
        found[0] += int(pieces["length"][at])
        found[1] += int(pieces["length"][at]) if told else 0
        if told == EXACT:
            pieces["state"][at] = COMPUTED
        elif told == NEAR:
            pieces["kind"][at] = work.kind(f"{kind} {NEAR}")
    for at in new:
        kind = work.kinds[pieces["kind"][at]]
        whole, alike = looked.get(kind, (0, 0))
        if at not in chosen and 2 * alike > whole:
            pieces["kind"][at] = work.kind(f"{kind} {NEAR}")


def _can_be_compared(kind: str) -> bool:
    """Say whether pieces of a class are tensors of which single values can be read."""
    # Small tensors lie in manifests.
    known = DTYPES.get(_dtype_of(kind)) if kind.startswith("tensors ") else None
    return known is not None and (known.block_elements == 1 or is_dequantisable(_dtype_of(kind)))


def _dtype_of(kind: str) -> str:
    return kind.split(" ")[1]


# -- what it takes


def _classes(
    work: _Work, pieces: Pieces, foreseen: ForeseenVariants, progress: Progress
) -> list[tuple[EstimatedClass, Guess]]:
    """Measure samples of each class within what is left of the bytes that may be read."""
    rows = [
        np.flatnonzero((pieces["kind"] == kind) & (pieces["state"] == NEW))
        for kind in range(len(work.kinds))
    ]
    new = [pieces[which] for which in rows]
    totals = [int(one["length"].sum()) if kind else 0 for kind, one in enumerate(new)]
    shares = share_out(work.sampler.left_bytes, totals)
    classes = []
    for kind, name in enumerate(work.kinds):
        guess = Guess(estimated=0, low=0, high=0)  # what is inline counts with the manifests
        if kind != _INLINE:
            tensors = kind not in (_HEADERS, _DATA)
            seen = rows[kind]
            if name.endswith(NEAR):  # others are taken for what these are
                seen = seen[[foreseen.has_plans(int(at)) for at in seen]]
            guess = measure(
                work.sampler,
                pieces[seen],
                dtype=_dtype_of(name) if tensors else None,
                share=shares[kind],
                longest=FRAME_BYTES if tensors else NORMAL_BYTES,
                advance=progress.advance,
                otherwise=_otherwise(foreseen, seen) if name.endswith(NEAR) else None,
            )
            guess = guess.of(totals[kind], int(pieces["length"][seen].sum()))
            if not guess.low and guess.high == totals[kind]:
                guess = _unseen(totals[kind], name)
        work.shares[kind] = guess.estimated / totals[kind] if totals[kind] else 0.0
        if len(new[kind]):
            classes.append(_class(name, new[kind], guess))
    nothing = Guess(estimated=0, low=0, high=0)
    for state, name in (
        (EQUAL, "equal within the set"),
        (STORED, "already stored"),
        (COMPUTED, EXACT),
    ):
        marked = pieces[pieces["state"] == state]
        if len(marked):
            classes.append(_class(f"probably {name}", marked, nothing))
    return classes


def _unseen(total: int, kind: str) -> Guess:
    """Return what bytes of a kind take of which no sample could be read: as others of the kind do.

    Shares are those of the benchmark's family (``benchmarks/estimate_error.py``), for floats of 8
    bits of casts of it: nearly nothing beside their source, 0.4 beside a relative.
    """
    low, share, high = 0.0, 1.0, 1.0
    if kind == _KINDS[_HEADERS]:
        low, share, high = 0.0, 0.3, 0.6
    elif kind.endswith(NEAR):
        dtype, share = DTYPES[_dtype_of(kind)], 0.5
        if dtype.block_elements > 1:
            share, high = 0.06, 0.2
        elif dtype.kind == "float" and dtype.block_bytes == 1:
            share, high = 0.2, 0.5
    return Guess(estimated=round(total * share), low=round(total * low), high=round(total * high))


def _otherwise(foreseen: ForeseenVariants, rows: "np.ndarray") -> Otherwise:
    """Return how the pieces in some rows would be built on others."""
    return Otherwise(
        cost=lambda at, offset, content: foreseen.cost(int(rows[at]), offset, content),
        together=lambda windows: foreseen.together(
            [(int(rows[at]), offset, content) for at, offset, content in windows]
        ),
        others=max((foreseen.base_bytes(int(at)) for at in rows), default=0.0),
    )


def _class(kind: str, pieces: Pieces, guess: Guess) -> tuple[EstimatedClass, Guess]:
    return (
        EstimatedClass(
            kind=kind,
            piece_count=len(pieces),
            logical_bytes=int(pieces["length"].sum()),
            estimated_bytes=guess.estimated,
            low_bytes=guess.low,
            high_bytes=guess.high,
        ),
        guess,
    )


def _overhead(work: _Work, pieces: Pieces, artifact_count: int) -> tuple[EstimatedClass, Guess]:
    fresh = (pieces["state"] == NEW) | (pieces["state"] == COMPUTED)
    new = pieces[fresh & (pieces["kind"] != _INLINE)]
    tensors = new[new["kind"] > _DATA]
    opaque = int(new["length"].sum()) - int(tensors["length"].sum())
    chunks = max(len(new) - len(tensors), opaque // overhead.CHUNK_BYTES)
    # A file none of whose bytes are new has its manifest already; a tiny one lies in its own.
    with_news = set(new["file"].tolist())
    with_more = set(pieces["file"][pieces["kind"] != _INLINE].tolist())
    own = sum(size for at, size in work.overhead.items() if at in with_news or at not in with_more)
    size = (
        own
        + overhead.atoms_overhead(len(tensors) + chunks, int(new["length"].sum()))
        + overhead.artifacts_overhead(artifact_count)
        + sum(
            overhead.sketches_overhead(
                _dtype_of(work.kinds[one["kind"]]), int(one["length"]), work.shapes[at]
            )
            for at, one in enumerate(pieces)
            if fresh[at] and one["kind"] > _DATA
        )
    )
    guess = Guess(estimated=size, low=size // 2, high=size + size // 2)
    return _class("manifests and rows", pieces[:0], guess)
