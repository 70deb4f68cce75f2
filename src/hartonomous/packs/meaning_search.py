"""Search by vectors: what is near a text, a stored file, a file on disk, a vector of one's own."""

import contextlib
import re
import shlex
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hartonomous.catalog import spaces
from hartonomous.catalog.spaces import LIKENESS, MEANING, OWN, SpaceRow
from hartonomous.core import passage
from hartonomous.core.nearness import check_vectors
from hartonomous.core.picture import address
from hartonomous.core.place import Place
from hartonomous.core.quantity import size
from hartonomous.core.space import MODALITIES, check_comparable
from hartonomous.errors import HartonomousError, IntegrityError, NotFoundError, UsageError
from hartonomous.media.endings import PICTURES, ending
from hartonomous.packs.kept_index import KeptIndex
from hartonomous.packs.kept_uses import KeptUses
from hartonomous.packs.npy_rows import NpyRows
from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import open_pictures, pixel_process
from hartonomous.packs.search_filter import Chosen
from hartonomous.packs.space_encoders import encoder_of
from hartonomous.packs.space_writer import find_space
from hartonomous.packs.text_views import document_process
from hartonomous.packs.vector_search import Near, OpenSpaces
from hartonomous.packs.vector_truth import PartKey
from hartonomous.ports.encoder import Encoder
from hartonomous.ports.vector_index import Vectors

FIRST_NEAR = 100
_MOST_NEAR = 10_000
_SELECTIVE = 4
"""Where fewer than one in so many of the nearest count, the files that do are found first."""
_MOST_QUERIES = 16
_KEPT_ENCODERS = 2
_MOST_VECTOR_BYTES = 64 << 20
_NO_PICTURES = (
    "words do not reach pictures: no space of pictures that takes words is searched in this store; "
    "hart embed --encoder NAME makes one"
)
_VIEW = re.compile(
    r"(?P<file>.+?)( (?P<unit>page|slide|sheet|chapter|cell) (?P<page>[0-9]{1,9}))?"
    r"(, (?P<start>[0-9]{1,9}))?",
    re.DOTALL,
)
"""A file, and what of it is meant as ``hart views ls`` prints it: a page, a first character."""


class _Asked(NamedTuple):
    """What is searched by: vectors, and of which parts of which file they are, if of a stored one.

    Parts are (is a passage, page, first character or number of a picture); none for all.
    """

    vectors: Vectors
    digest: bytes = b""
    parts: frozenset[tuple[bool, int, int]] = frozenset()

    def is_of(self, place: Place) -> bool:
        """Say whether a place is what was asked by."""
        return place.digest == self.digest and (not self.parts or _part(place) in self.parts)


class _Like(NamedTuple):
    """A stored file, or those of its views that are on one page, or begin at one character."""

    digest: bytes
    page: int | None = None
    start: int | None = None

    def means(self, place: Place) -> bool:
        """Say whether what is about this place is meant; patches never are."""
        # Patches are found by what pictures show as a whole; they ask for nothing themselves.
        return (
            place.kind != "patch"
            and self.page in (None, place.page)
            and (self.start is None or (place.kind == "passage" and place.start == self.start))
        )


def _part(place: Place) -> tuple[bool, int, int]:
    return (place.kind == "passage", place.page, place.start)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which vectors are searched: by a text, or by what something is ``like``.

    ``like`` is a path of a file on disk (``.npy`` is a vector itself), else a stored version, one
    of its files (``NAME@2:path``), or a view of it: what is on a page (``NAME@2:path page 3``), or
    the passage that begins at a character (``NAME:path page 3, 120``, ``NAME:path, 120``). Without
    ``space`` the space of each modality that is searched; for what is ``like`` something that of a
    rule where there is no other.
    """

    text: str = ""
    like: str | None = None
    space: str | None = None
    modality: str | None = None


class OpenEncoders:
    """The encoders of one open store as they are used for queries: the last ones stay open."""

    def __init__(self, parts: StoreParts, files: OpenFiles) -> None:
        self._parts = parts
        self._files = files
        self._guard = threading.Lock()
        self._open: dict[str, Encoder] = {}

    def queries(self, row: SpaceRow, texts: Sequence[str], *, is_query: bool) -> Vectors:
        """Return vectors of texts that may be compared with those of a space.

        Raises UsageError where its encoder takes no texts.
        """
        return self._computed(row, "text", lambda one: one.encode_texts(texts, query=is_query))

    def pictures(self, row: SpaceRow, pictures: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Return vectors of pictures that may be compared with those of a space.

        Raises UsageError where its encoder takes no pictures.
        """
        return self._computed(row, "picture", lambda one: one.encode_pictures(pictures))

    def _computed(
        self, row: SpaceRow, modality: str, compute: Callable[[Encoder], Vectors]
    ) -> Vectors:
        with self._guard:
            encoder = self._open.pop(row.space.key, None) or encoder_of(
                self._parts, self._files, row.space
            )
            self._open[row.space.key] = encoder
            while len(self._open) > _KEPT_ENCODERS:
                self._open.pop(next(iter(self._open))).close()
            check_comparable(encoder.space(modality), row.space)
            return compute(encoder)

    def close(self) -> None:
        """Close every encoder."""
        with self._guard:
            for one in self._open.values():
                one.close()
            self._open.clear()


class MeaningSearch:
    """Searches the spaces of one open store."""

    def __init__(self, parts: StoreParts, files: OpenFiles, open_spaces: OpenSpaces) -> None:
        self._parts = parts
        self._files = files
        self._spaces = open_spaces
        self._encoders = OpenEncoders(parts, files)
        self.words = KeptIndex(parts)
        self.uses = KeptUses()

    def close(self) -> None:
        """Close what is kept open between searches; who opened the spaces closes them."""
        self.words.close()
        self._encoders.close()

    def orders(
        self, wanted: Wanted, chosen: Chosen, *, needed: int
    ) -> tuple[dict[str, list[Near]], tuple[str, ...]]:
        """Return what counts and is near, the nearest first, by the name of each space's order.

        Nothing where there is no space to search and none was asked for. A space that nobody asked
        for and that cannot be searched is left out, and a note says why: words are still found.
        """
        found: dict[str, list[Near]] = {}
        notes: list[str] = []
        rows = self._rows(wanted)
        for row in rows:
            try:
                asked = self._asked(row, wanted)
                if asked is None:
                    continue
                near = self._near(row, asked, chosen, needed)
            except HartonomousError as error:
                if wanted.space is not None or wanted.like is not None:
                    raise
                remedy = f"; {error.hint}" if isinstance(error, IntegrityError) else ""
                notes.append(f"the space {row.name} is not searched: {error.message}{remedy}")
                continue
            found["meaning" if row.space.modality == "text" else "pictures"] = near
            notes += self._half_built(row, chosen)
        takes_words = any(row.space.modality == "picture" and row.space.family for row in rows)
        if wanted.like is None and set(chosen.wanted.kinds) == {"picture"} and not takes_words:
            notes.append(_NO_PICTURES)
        if wanted.like is not None and not found:
            names = ", ".join(row.name for row in rows)
            path = Path(wanted.like)
            if _is_file(path) and ending(path.name) in PICTURES:
                raise UsageError(
                    f"{names} is of texts, and {path} is a picture",
                    hint="hart similar compares pictures without a model; an encoder of texts and "
                    "pictures (CLIP) makes a space of both",
                )
            self._check_view(wanted.like)
            raise NotFoundError(
                f"there is no vector of {wanted.like} in {names}",
                hint="hart embed makes those of stored files; or name another --space",
            )
        return found, tuple(notes)

    def _half_built(self, row: SpaceRow, chosen: Chosen) -> list[str]:
        """Say that a space lacks vectors, if it is searched and was never complete so far."""
        first = row.state == spaces.CURRENT and not row.switched_us
        if row.space.modality != "text" or not first or spaces.use_of(row.space) == OWN:
            return []
        had, read = len(self._spaces.index(row)[0].ids()), chosen.passage_count()
        if had >= read:
            return []
        return [
            f"the space {row.name} is not complete: it has {had:,} vectors, and {read:,} passages "
            "were read; 'hart embed' goes on"
        ]

    def vectors_of(
        self, wanted: Wanted, parts: Sequence[PartKey]
    ) -> dict[PartKey, tuple[str, Vectors]]:
        """Return the spaces and stored vectors of parts of files, as far as there are any.

        Of the spaces that are searched; keys are (kind, (file digest, page, first character)).
        """
        found: dict[PartKey, tuple[str, Vectors]] = {}
        asked = set(parts)
        for row in self._rows(wanted):
            truth, _ = self._spaces.index(row)
            ids = truth.ids_at(asked)
            with contextlib.suppress(NotFoundError):  # some were removed just now
                rows = truth.vectors(np.asarray(list(ids.values()), np.int64))
                found |= {key: (row.space.key, one) for key, one in zip(ids, rows, strict=True)}
        return found

    def _rows(self, wanted: Wanted) -> list[SpaceRow]:
        if wanted.space is not None:
            row = find_space(self._parts, self._files, wanted.space)
            if wanted.modality not in (None, row.space.modality):
                raise UsageError(f"the space {row.name} has no vectors of {wanted.modality}s")
            return [row]
        if wanted.modality not in (None, *MODALITIES):
            raise UsageError(
                f"{wanted.modality!r} is no modality", hint=f"there are {', '.join(MODALITIES)}"
            )
        asked = MODALITIES if wanted.modality is None else (wanted.modality,)
        with self._parts.database.read() as tx:
            current = spaces.current_ones(tx, MEANING)
            if wanted.like is not None:  # by a rule where no model computes
                current = {**spaces.current_ones(tx, LIKENESS), **current}
        there = [current[one] for one in asked if one in current]
        if not there and (wanted.like is not None or wanted.modality == "picture"):
            takes = "" if wanted.like is not None else " that takes words"
            raise NotFoundError(
                f"no space of {wanted.modality or 'text'}s{takes} is searched in this store",
                hint="hart embed --encoder NAME makes one; or name --space",
            )
        return there

    def _asked(self, row: SpaceRow, wanted: Wanted) -> _Asked | None:
        """Return what a space is searched by, None where it cannot be searched by that."""
        if wanted.like is None:
            if wanted.space is None and row.space.modality != "text" and not row.space.family:
                return None  # its encoder takes no words
            return _Asked(self._encoders.queries(row, [wanted.text], is_query=True))
        path = Path(wanted.like)
        if path.suffix == ".npy":
            return _Asked(_own_vector(path, row))
        if _is_file(path):
            kind = "picture" if ending(path.name) in PICTURES else "text"
            if wanted.space is None and kind != row.space.modality and not row.space.family:
                return None  # its encoder takes no such file
            if kind == "picture":
                return _Asked(self._encoders.pictures(row, [_pixels_of(path)]))
            return _Asked(self._encoders.queries(row, _texts_of(path), is_query=False))
        return self._stored(row, self._find(wanted.like))

    def _find(self, spec: str) -> _Like:
        """Look up a stored file or a view of it; raises NotFoundError."""
        try:
            return _Like(self._digest(spec))
        except HartonomousError:
            found = _VIEW.fullmatch(spec)
            if found is None or found["page"] is found["start"] is None:
                raise
        page, start = (None if one is None else int(one) for one in found.group("page", "start"))
        return _Like(self._digest(found["file"]), 0 if page is None else page, start)

    def _check_view(self, spec: str) -> None:
        """Raise NotFoundError where a stored file was read, and has no view at such a place."""
        path, found = Path(spec), _VIEW.fullmatch(spec)
        if path.suffix == ".npy" or _is_file(path) or found is None:
            return
        like = self._find(spec)
        if like.page is None:
            return
        with self.words.lent() as index:
            passages = index.passages_of(like.digest)
        with open_pictures(self._parts) as pictures:
            pages = {one.page for one in pictures.places_in(like.digest)}
        there = [one for one in passages if one.page == like.page]
        at_page, at_start = f"{found['unit']} {like.page}", like.start is not None
        if at_start and any(one.start == like.start for one in there):
            return
        if (passages or pages) and (at_start or not (there or like.page in pages)):
            what = f"no passage that begins at {like.start}" if at_start else f"no {at_page}"
            where = f" on {at_page}" if at_start and like.page else ""
            name = shlex.quote(found["file"].partition(":")[0])
            raise NotFoundError(
                f"there is {what}{where} in {found['file']}, as far as it was read",
                hint=f"hart views ls {name} lists its passages and pictures",
            )

    def _digest(self, spec: str) -> bytes:
        name, colon, member = spec.partition(":")
        try:
            one = find_version(self._parts, spec).single(None)
        except HartonomousError:
            if not colon:
                raise
            one = find_version(self._parts, name).single(member)
        return one.row.file_digest

    def _stored(self, row: SpaceRow, like: _Like) -> _Asked | None:
        """Return the stored vectors of what is like, None where there are none.

        Those of the space; where it has none, of one that its vectors may be compared with.
        """
        with self._parts.database.read() as tx:
            every = spaces.listed(tx)
        others = [
            one for one in every
            if row.space.family and one.id != row.id and one.space.family == row.space.family
        ]  # fmt: skip
        for one in (row, *others):
            check_comparable(one.space, row.space)
            truth, _ = self._spaces.index(one)
            ids = truth.ids_in(frozenset([like.digest]))
            meant = [like.means(place) for place in truth.places(ids)]
            ids = ids[np.asarray(meant, np.bool_)]
            if len(ids):
                whole = like.page is None
                parts = () if whole else map(_part, truth.places(ids))
                step = -(-len(ids) // _MOST_QUERIES)
                return _Asked(truth.vectors(ids[::step]), like.digest, frozenset(parts))
        return None

    def _near(self, row: SpaceRow, asked: _Asked, chosen: Chosen, needed: int) -> list[Near]:
        """Return what counts, each place once by its nearest query, without what was asked by."""
        k = max(FIRST_NEAR, 2 * needed)
        files: frozenset[bytes] | None = None
        while True:
            lists = self._spaces.nearest(row, asked.vectors, k, files=files)
            best: dict[Place, Near] = {}
            for one in (near for found in lists for near in found):
                if not asked.is_of(one.place) and (
                    one.place not in best or best[one.place].score < one.score
                ):
                    best[one.place] = one
            chosen.learn(place.digest for place in best)
            counting = [one for one in best.values() if chosen.uses(one.place.digest)]
            # A picture's patches are one hit.
            hits = {(one.place.digest, one.place.page, one.place.start) for one in counting}
            ended = all(len(found) < k for found in lists)
            if not ended and len(hits) < needed:
                if files is None and len(counting) * _SELECTIVE < len(best):
                    # The nearest of all hold hardly any that count: only those that do, then.
                    own: set[bytes] = set() if asked.parts else {asked.digest}
                    files = self._counting_files(row, chosen) - own
                    continue
                if k < _MOST_NEAR:
                    k *= 4
                    continue
            return sorted(counting, key=lambda one: -one.score)

    def _counting_files(self, row: SpaceRow, chosen: Chosen) -> frozenset[bytes]:
        """Return the digests of those files in a space that count."""
        known = self._spaces.index(row)[0].files()
        chosen.learn(known)
        return frozenset(one for one in known if chosen.uses(one))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for any file
        return False


def _own_vector(path: Path, row: SpaceRow) -> Vectors:
    try:
        if path.stat().st_size > _MOST_VECTOR_BYTES:
            raise ValueError(f"it is larger than {size(_MOST_VECTOR_BYTES)}")
        with NpyRows(path) as found:
            fits = len(found.shape) in (1, 2) and found.shape[-1] == row.space.dimension
            if not fits or found.dtype.kind not in "fiu":
                raise UsageError(
                    f"{path} has the shape {found.shape} of {found.dtype}, and vectors of"
                    f" {row.name} have {row.space.dimension} numbers",
                    hint="name the space that it belongs to: --space",
                )
            flat = found.rows(0, _MOST_QUERIES)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{path} is no vector: {error}", hint="write it with numpy.save"
        ) from error
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        vectors = np.atleast_2d(np.ascontiguousarray(flat, np.float32))
    if not len(vectors):
        raise UsageError(f"{path} holds no vector", hint="give one vector or more")
    check_vectors(vectors, row.space.dimension, lambda at: f"of {path}, row {at},")
    return vectors


def _pixels_of(path: Path) -> NDArray[np.uint8]:
    """Return a picture on disk, [height, width, 3]; raises UsageError where it is none."""
    with path.open("rb") as file, pixel_process() as process:
        found = process.look(file.fileno(), address(path.name))[0]
    if not found.width or not found.height:
        why = "; ".join(one.text for one in found.notices) or "it is empty"
        raise UsageError(f"{path} is no picture that can be read: {why}")
    return np.frombuffer(found.rgb, np.uint8).reshape(found.height, found.width, 3)


def _texts_of(path: Path) -> list[str]:
    """Return passages of a document on disk; raises UsageError where it has none."""
    with path.open("rb") as file, document_process() as process:
        document = process.look(file.fileno(), path.name)[0]
    texts = [
        f"{one.heading}\n{one.text}" if one.heading else one.text
        for one in passage.passages(document.blocks)
    ]
    if not texts:
        raise UsageError(f"{path} has no text that is read", hint="give a document, or a .npy file")
    step = -(-len(texts) // _MOST_QUERIES)
    return texts[::step]
