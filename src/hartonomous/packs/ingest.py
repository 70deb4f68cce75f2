"""Taking in one file: describe, hash, look up, and only then store what is new.

The first pass parses the header (in the limited child process) and hashes the file and its tensors
in one read; a file or tensor that is known costs nothing more. The second pass reads what is new,
checks that it still has the digest it had, and hands its frames to the writing session.
"""

import contextlib
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

from hartonomous import locks
from hartonomous.codecs.choice import choose
from hartonomous.core import manifest as manifests
from hartonomous.core.chunking import MIN_BYTES
from hartonomous.core.description import Description, Tensor
from hartonomous.core.digest import AtomHasher, Sha256Hasher, digest
from hartonomous.core.dtype import DTYPES
from hartonomous.core.elements import ReadRanges, ranges_of, values_of
from hartonomous.core.item_names import ItemNames
from hartonomous.core.json_size import MAX_VALUES, count_values
from hartonomous.core.manifest import INLINE_BYTES, Manifest, Piece, Segment, partition
from hartonomous.core.record import FRAME_BYTES
from hartonomous.errors import IntegrityError, SourceChangedError, UsageError
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.base_search import TensorQuery, sketches_of
from hartonomous.packs.declared_bases import DeclaredBases
from hartonomous.packs.external_files import Said, external_files, with_external
from hartonomous.packs.files import MAX_MANIFEST_BYTES, load_manifest
from hartonomous.packs.first_look import Look, can_be_looked_at
from hartonomous.packs.frames import split_frames
from hartonomous.packs.freed_memory import keep_freed_memory
from hartonomous.packs.hints import MOST_BASES, bases_of, heads_of
from hartonomous.packs.looks import Looks
from hartonomous.packs.pieces import (
    PieceHasher,
    WholeFrames,
    changed_source,
    check_same,
    checked_frames,
    chunks_of,
    ranges_of_piece,
)
from hartonomous.packs.session import WriteSession
from hartonomous.packs.source_file import SourceFile
from hartonomous.packs.tally import Counter, Tally
from hartonomous.packs.variants import VariantChoice
from hartonomous.ports.progress import Progress
from hartonomous.ports.source import MemberSource, ReadSource

LOCKED_BYTES = 8 * 1024 * 1024
"""Files of at least this size are stored by one process at a time; others wait and find them."""

MAX_SEGMENTS = MAX_VALUES // 4
"""Of a manifest: a segment is a list of three values."""

_HELD_BYTES = 4 * 1024 * 1024
"""Tensors up to this size are read once, to be looked at and encoded; of larger ones parts are."""
_RELATIVES_BYTES = 1 << 20
"""Of new tensors of a file, and of what waits for its rows: then the file may be built on that."""
_CHUNKS_A_LOOKUP = 256
_BLOCKS_BEHIND = 2
_MOST_HEADS = 4  # different numbers of heads that tensors are looked for with


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestedFile:
    """A member whose bytes are stored or on their way; its manifest's id is known after a flush."""

    source: MemberSource
    digest: bytes
    sha256: bytes
    size: int
    description: Description
    manifest_digest: bytes
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hashed:
    digest: bytes
    sha256: bytes
    pieces: list[Piece]
    checks: dict[int, bytes]  # piece offset -> digest of its bytes
    digests: dict[int, bytes]  # the same, for the pieces that become one atom each


class FileIngest:
    """Takes files into one writing session."""

    def __init__(
        self,
        session: WriteSession,
        parser: ParserProcess,
        atoms: AtomReader,
        progress: Progress,
    ) -> None:
        keep_freed_memory()
        self._session = session
        self._variants = VariantChoice(session, progress.note)
        self._first = self._variants.first_look()
        # Of a folder, what its files say: numbers of heads, and names of bases.
        self._said: tuple[str, tuple[int, ...], tuple[str, ...]] = ("", (), ())
        self._declared = DeclaredBases(session.parts.database)
        self._parser = parser
        self._atoms = atoms
        self._progress = progress
        # A thread for each of the file's own digests: a digest takes its blocks in order.
        self._sha256 = ThreadPoolExecutor(1, "sha256")
        self._blake3 = ThreadPoolExecutor(1, "blake3")
        self._kept: dict[bytes, Tally] = {}  # tensors stored before their file was known

    def close(self) -> None:
        """End the hashing threads."""
        self._sha256.shutdown(wait=True)
        self._blake3.shutdown(wait=True)

    def take_all(self, members: Sequence[MemberSource]) -> tuple[IngestedFile, ...]:
        """Take in the files of one artifact; raises what ``take`` raises."""
        said = external_files(members, self._parser)
        names = ItemNames()
        return tuple(self.take(member, said, names) for member in members)

    def take(
        self,
        member: MemberSource,
        said: Said | None = None,
        names: ItemNames | None = None,
    ) -> IngestedFile:
        """Take in one file; ``said`` and ``names`` are what others of its artifact say of it.

        Raises NotFoundError, UsageError or SourceChangedError when it cannot be read as it is.
        """
        if member.made is not None:
            self._kept.clear()
            with contextlib.closing(member.made.open(self)) as made:
                return self._take(made, member, made.description)
        with SourceFile(member.location) as source:
            description = self._describe(source, member, said or {})
            if names is not None:
                description = names.told(member.path, description)
            return self._take(source, member, description)

    def _take(
        self, source: ReadSource, member: MemberSource, description: Description
    ) -> IngestedFile:
        self._hear(member, description)
        hashed = self._hash(source, description)
        source.check_unchanged()
        known = self._known(member, hashed)
        if known is not None:
            return known
        with self._one_at_a_time(hashed, source.size):
            known = self._known(member, hashed)
            if known is not None:
                return known
            taken = self._store(source, member, description, hashed)
            source.check_unchanged()
            if source.size >= LOCKED_BYTES:
                self._session.flush()
            return taken

    # -- tensors that come one at a time, before their file

    def keep(self, source: ReadSource, dtype: str, shape: tuple[int, ...]) -> bytes:
        """Store one tensor of more than ``INLINE_BYTES`` bytes; return its digest."""
        hasher = AtomHasher()
        for block in source.blocks():
            hasher.update(block)
        name = hasher.digest()
        if name not in self._session.known_atoms([name]):
            tally = self._kept[name] = Tally()
            self._variants.look_anew()
            tensor = Tensor(name="", dtype=dtype, shape=shape, offset=0, length=source.size)
            self._store_tensor(source, Piece(0, source.size, dtype), name, tensor, tally)
        return name

    def settle(self) -> None:
        """Make what was kept durable and readable; raises SourceChangedError."""
        if self._session.spoiled(self._kept):
            raise SourceChangedError(
                "a tensor changed while it was being read",
                hint="yield arrays that nothing writes to until the next one is asked for",
            )
        self._session.flush()

    def read_kept(self, digest: bytes, offset: int, length: int) -> bytes:
        """Return bytes of a kept tensor, from the packs."""
        out = bytearray(length)
        self._atoms.decode_into(digest, memoryview(out), offset)
        return bytes(out)

    # -- first pass

    def _describe(self, source: SourceFile, member: MemberSource, said: Said) -> Description:
        found = self._parser.describe(source.descriptor, member.path)
        return with_external(found, member.path, source.size, said)

    def _hash(self, source: ReadSource, description: Description) -> _Hashed:
        pieces = partition(source.size, description.tensors)
        whole, sha256 = AtomHasher(), Sha256Hasher()
        checks: dict[int, bytes] = {}
        walk = PieceHasher(pieces, checks)
        behind: deque[Future[None]] = deque()
        for block in source.blocks():
            behind.append(self._sha256.submit(sha256.update, block))
            behind.append(self._blake3.submit(whole.update, block))
            walk.update(block)
            while len(behind) > 2 * _BLOCKS_BEHIND:
                behind.popleft().result()
            self._progress.advance(len(block))
        for last in behind:
            last.result()
        if len(pieces) == 1:
            checks[0] = whole.digest()
        tensors = (one for one in pieces if one.dtype is not None and one.length > INLINE_BYTES)
        return _Hashed(
            digest=whole.digest(),
            sha256=sha256.digest(),
            pieces=pieces,
            checks=checks,
            digests={one.offset: checks[one.offset] for one in tensors},
        )

    def _known(self, member: MemberSource, hashed: _Hashed) -> IngestedFile | None:
        waiting = self._session.waiting_manifest(hashed.digest)
        if waiting is not None:
            stored, name = waiting
        else:
            row = self._session.known_manifest(hashed.digest)
            if row is None:
                return None
            try:
                stored, name = load_manifest(self._atoms, row), row.digest
            except IntegrityError:
                self._session.mend_manifest(row)  # all of it is here, and is stored again
                return None
        tally = Tally()
        tally.add("file already stored", stored.size)
        return IngestedFile(
            source=member, digest=hashed.digest, sha256=hashed.sha256, size=stored.size,
            description=stored.description, manifest_digest=name, tally=tally,
        )  # fmt: skip

    @contextlib.contextmanager
    def _one_at_a_time(self, hashed: _Hashed, size: int) -> Iterator[None]:
        if size < LOCKED_BYTES:
            yield
            return
        path = self._session.parts.lock_path(f"ingest-{hashed.digest[0]:02x}")
        with locks.held(path, what="a file that is being added", timeout_s=24 * 3600):
            yield

    def _hear(self, member: MemberSource, description: Description) -> None:
        """Remember the heads and bases that a folder's files name, for the weights beside them."""
        folder, known = str(Path(member.location).parent), self._said
        heads, bases = known[1:] if known[0] == folder else ((), ())
        heads = tuple(dict.fromkeys((*heads_of(description), *heads)))[:_MOST_HEADS]
        bases = tuple(dict.fromkeys((*bases_of(description), *bases)))[:MOST_BASES]
        self._said = folder, heads, bases

    # -- second pass

    def _store(
        self, source: ReadSource, member: MemberSource, description: Description, hashed: _Hashed
    ) -> IngestedFile:
        tally = Tally()
        segments: list[Segment] = []
        tensors = _in_c_order(description)
        # Of what lies between tensors, too small to be cut, the first pass has the names already.
        between = (hashed.checks[one.offset] for one in hashed.pieces if _is_one_chunk(one, hashed))
        known = self._session.known_atoms([*hashed.digests.values(), *between])
        self._show_relatives(hashed, known)
        self._variants.look_anew()
        looks = Looks(
            self._first,
            lambda number: self._small(source, hashed, known, tensors, number),
            search=self._session.parts.variants,
        )
        for number, piece in enumerate(hashed.pieces):
            name = hashed.digests.get(piece.offset)
            if piece.length <= INLINE_BYTES:
                inline = bytes(source.read_ahead(piece.offset, piece.length))
                check_same(source, digest(inline), hashed.checks[piece.offset])
                segments.append(Segment(piece.length, None, inline))
                tally.add("inside the manifest", piece.length)
            elif name is None:
                check = hashed.checks[piece.offset]
                asked = known if _is_one_chunk(piece, hashed) else None
                for segment in self._store_opaque(source, piece, check, tally, asked):
                    segments.append(segment)
                    if len(segments) > MAX_SEGMENTS:  # before more is stored in vain
                        raise _too_many_parts(source)
            else:
                segments.append(Segment(piece.length, name, None))
                kept = self._kept.pop(name, None)
                if name in known and kept is not None:
                    tally.join(kept)
                elif name in known:
                    tally.add("tensor already stored", piece.length)
                else:
                    look = looks.of(number)
                    known[name] = 0
                    tensor = tensors.get((piece.offset, piece.length))
                    self._store_tensor(source, piece, name, tensor, tally, look=look)
        spoiled = self._session.spoiled(hashed.digests.values())
        self._tell_faults()
        if spoiled:
            raise changed_source(source)
        manifest = Manifest(
            size=source.size, digest=hashed.digest, sha256=hashed.sha256,
            segments=tuple(segments), description=description,
        )  # fmt: skip
        content = manifests.encode(manifest)
        if len(content) > MAX_MANIFEST_BYTES or count_values(content) > MAX_VALUES:
            raise _too_many_parts(source)
        self._session.put_manifest(manifest, content, member.path)
        return IngestedFile(
            source=member, digest=hashed.digest, sha256=hashed.sha256, size=source.size,
            description=description, manifest_digest=digest(content), tally=tally,
        )  # fmt: skip

    def show_adapters(self) -> None:
        """Have adapters that were published meanwhile found by what they were merged into."""
        self._variants.forget_adapters()

    def _show_relatives(self, hashed: _Hashed, known: Container[bytes]) -> None:
        """Stage what was taken in just before, where new tensors are enough to be built on it."""
        if not self._session.parts.variants or self._session.unsealed_bytes < _RELATIVES_BYTES:
            return
        new = (one for one in hashed.pieces if hashed.digests.get(one.offset, b"") not in known)
        if sum(one.length for one in new if one.offset in hashed.digests) >= _RELATIVES_BYTES:
            self._session.flush()

    def _store_tensor(
        self,
        source: ReadSource,
        piece: Piece,
        name: bytes,
        tensor: Tensor | None,
        tally: Tally,
        *,
        look: Look | None = None,
    ) -> None:
        stored = Counter("tensor", tally, piece.length)
        if look is not None and not look.near:
            self._session.put_atom(
                name, piece.length, (look.content,), dtype=piece.dtype, verify=True,
                encoding=None, on_stored=stored, sketches=look.sketches,
            )  # fmt: skip
            return
        small, held = piece.length <= FRAME_BYTES, piece.length <= _HELD_BYTES
        content = memoryview(b"")
        if held:
            content = look.content if look else self._content(source, piece, name)
        # What is looked at are whole frames, unless there is none.
        whole = piece.length if small else piece.length - piece.length % FRAME_BYTES
        looked = list(split_frames(content[:whole])) if held else WholeFrames(source, piece)
        ranges = ranges_of(content) if held else ranges_of_piece(source, piece)
        query = look.query if look else self._query(piece, name, tensor, ranges)
        chosen = query and self._variants.choose(query, name, piece.length, looked)
        sketches = look.sketches if look else sketches_of(query) if query else ()
        frames = split_frames(content) if held else checked_frames(source, piece, name)
        if chosen:
            self._session.put_atom(
                name, piece.length, frames, encoding=None, dtype=piece.dtype, verify=small,
                sketches=sketches, plan=chosen.plan, bases=chosen.bases,
                on_stored=Counter("tensor", tally, piece.length, chosen.plan),
            )  # fmt: skip
        else:
            # One frame is hashed where it is encoded: two threads' hand-overs would cost more.
            self._session.put_atom(
                name, piece.length, frames, dtype=piece.dtype, verify=small,
                encoding=None if small else choose(looked, piece.dtype),
                on_stored=stored, sketches=sketches,
            )  # fmt: skip

    def _small(
        self,
        source: ReadSource,
        hashed: _Hashed,
        known: Container[bytes],
        tensors: Mapping[tuple[int, int], Tensor],
        number: int,
    ) -> tuple[TensorQuery, memoryview] | None:
        """Return a piece and its bytes if it is a small tensor to store that can be looked at."""
        if number >= len(hashed.pieces):
            return None
        piece = hashed.pieces[number]
        name, tensor = hashed.digests.get(piece.offset), tensors.get((piece.offset, piece.length))
        if name is None or name in known or tensor is None or piece.length > FRAME_BYTES:
            return None
        if not can_be_looked_at(piece.dtype or "", tensor.shape):
            return None
        content = source.read_ahead(piece.offset, piece.length)
        query = self._query(piece, name, tensor, ranges_of(content))
        return None if query is None else (query, content)

    @staticmethod
    def _content(source: ReadSource, piece: Piece, name: bytes) -> memoryview:
        """Return the bytes of a piece that is held whole; of one frame, unchecked."""
        if piece.length <= FRAME_BYTES:
            return source.read_ahead(piece.offset, piece.length)
        content = memoryview(source.read(piece.offset, piece.length))
        check_same(source, digest(content), name)
        return content

    def _tell_faults(self) -> None:
        """Note, once each, why tensors take more than they were chosen to: bases are damaged."""
        faults = self._session.base_faults
        for fault in dict.fromkeys(faults[:]):
            self._progress.note(f"parts of a tensor are kept on their own: {fault}")
        faults.clear()

    def _query(
        self, piece: Piece, name: bytes, tensor: Tensor | None, read: ReadRanges
    ) -> TensorQuery | None:
        """Return a tensor as it is compared with stored ones; None if it is no whole tensor."""
        known = DTYPES.get(piece.dtype or "")
        if known is None or tensor is None:
            return None
        if known.byte_count(prod(tensor.shape)) != piece.length:
            return None
        return TensorQuery(
            dtype=known.name, shape=tensor.shape, read=values_of(read, known.name),
            heads=self._said[1], declared=self._declared.atoms(self._said[2], tensor.name),
            digest=name, name=tensor.name,
        )  # fmt: skip

    def _store_opaque(
        self, source: ReadSource, piece: Piece, check: bytes, tally: Tally,
        known: dict[bytes, int] | None,
    ) -> Iterator[Segment]:  # fmt: skip
        """Yield the segments of a piece without structure; ``known`` is where it was looked up."""
        hasher = AtomHasher()
        batch: list[bytes] = []
        for chunk in chunks_of(source, piece):
            hasher.update(chunk)
            batch.append(chunk)
            if len(batch) >= _CHUNKS_A_LOOKUP:
                yield from self._store_chunks(batch, tally, known)
                batch = []
        yield from self._store_chunks(batch, tally, known)
        check_same(source, hasher.digest(), check)

    def _store_chunks(
        self, chunks: Sequence[bytes], tally: Tally, known: dict[bytes, int] | None
    ) -> Iterator[Segment]:
        names = [digest(chunk) for chunk in chunks]
        if known is None:
            known = self._session.known_atoms(
                name for name, chunk in zip(names, chunks, strict=True) if len(chunk) > INLINE_BYTES
            )
        for name, chunk in zip(names, chunks, strict=True):
            size = len(chunk)
            if size <= INLINE_BYTES:
                tally.add("inside the manifest", size)
                yield Segment(size, None, chunk)
                continue
            if name in known:
                tally.add("data already stored", size)
            else:
                known[name] = 0
                self._session.put_atom(
                    name,
                    size,
                    [chunk],
                    encoding=None,
                    dtype=None,
                    on_stored=Counter("data", tally, size),
                )
            yield Segment(size, name, None)


def _is_one_chunk(piece: Piece, hashed: _Hashed) -> bool:
    """Say whether a piece is no tensor, and is stored whole as an atom by its own digest."""
    return INLINE_BYTES < piece.length < MIN_BYTES and piece.offset not in hashed.digests


def _in_c_order(description: Description) -> dict[tuple[int, int], Tensor]:
    """Return {(offset, length): tensor} of tensors in C order; of several uses the first."""
    found: dict[tuple[int, int], Tensor] = {}
    for one in description.tensors:
        if one.strides is None:
            found.setdefault((one.offset, one.length), one)
    return found


def _too_many_parts(source: ReadSource) -> UsageError:
    return UsageError(
        f"{source.location} falls into more parts than a manifest may have",
        hint="split the file, or pack what it holds otherwise; docs/limits.md says what fits",
    )
