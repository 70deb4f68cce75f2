"""The index of pictures: what is derived of each, and which documents contain it.

A database file of its own (SQLite), derived: it may be deleted and is built anew from the stored
files. A picture has one row however many files and documents have it: it is named by the digest of
its bytes, which is that of its file where it is one. Names are looked up in the catalog.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hartonomous.catalog import picture_index_check
from hartonomous.catalog.columns import decode_json
from hartonomous.catalog.derived_file import DerivedFile
from hartonomous.core.closing import Closing
from hartonomous.core.picture import Picture, PictureViews, Position
from hartonomous.core.picture_hash import HASH_BYTES
from hartonomous.core.picture_layout import DIMENSION
from hartonomous.core.row_sum import RowSum, row_sum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 2
"""A file of another schema is deleted and built anew."""

_AT_ONCE = 500
_READ_AT_ONCE = 8_192
_TABLES = f"""
CREATE TABLE source (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, recipe TEXT NOT NULL, kind TEXT NOT NULL,
  pages TEXT NOT NULL, notices TEXT NOT NULL, sum BLOB NOT NULL
);
CREATE TABLE picture (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, facts TEXT NOT NULL, position TEXT NOT NULL,
  sum BLOB NOT NULL
);
CREATE TABLE feature (
  picture_id INTEGER PRIMARY KEY REFERENCES picture (id), quality INTEGER NOT NULL,
  pdq BLOB NOT NULL, layout BLOB NOT NULL
);
CREATE TABLE thumbnail (
  picture_id INTEGER PRIMARY KEY REFERENCES picture (id), type TEXT NOT NULL, content BLOB NOT NULL
);
CREATE TABLE place (
  source_id INTEGER NOT NULL REFERENCES source (id), ordinal INTEGER NOT NULL,
  picture_id INTEGER NOT NULL REFERENCES picture (id), part TEXT NOT NULL, page INTEGER NOT NULL,
  x REAL NOT NULL, y REAL NOT NULL, width REAL NOT NULL, height REAL NOT NULL,
  PRIMARY KEY (source_id, ordinal)
) WITHOUT ROWID;
CREATE INDEX ix_place_picture ON place (picture_id);
PRAGMA user_version = {SCHEMA};
"""
_FILE = DerivedFile(
    what="the index of pictures",
    schema=SCHEMA,
    tables=_TABLES,
    names=frozenset(("source", "picture", "feature", "thumbnail", "place")),
)


class PictureFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a picture besides its derived forms; see ``core.picture.Picture``."""

    format: str
    mode: str
    width: int
    height: int
    frames: int
    orientation: int
    exif: dict[str, str]


class IndexedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """One picture; ``position`` is where it was taken, where the file says that."""

    id: int
    digest: bytes
    facts: PictureFacts
    position: Position | None


class IndexedPlace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a picture is: a file (its digest), and for a document the part, page and rectangle.

    ``part`` is empty where the file is the picture.
    """

    picture_id: int
    file_digest: bytes
    part: str
    pages: str
    page: int
    x: float
    y: float
    width: float
    height: float


class PlacedPicture(IndexedPlace, frozen=True, kw_only=True, gc=False):
    """A picture at its place in a document."""

    picture_digest: bytes
    facts: PictureFacts


class PictureSource(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file that was looked at."""

    digest: bytes
    recipe: str
    kind: str
    pages: str
    notices: tuple[tuple[str, str], ...]


class Features(NamedTuple):
    """Some pictures' numbers for comparing: ids, qualities, hashes [n, 32], layouts [n, 576]."""

    ids: "NDArray[np.int64]"
    qualities: "NDArray[np.int64]"
    hashes: "NDArray[np.uint8]"
    layouts: "NDArray[np.float16]"


class PictureIndex(Closing):
    """One index, open; close it, or use it as a context manager. Not for several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _FILE.open(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # -- in

    def put(self, digest: bytes, recipe: str, views: PictureViews) -> None:
        """Take in what was derived of one file, in the place of what was there."""
        with _FILE.writing(self._connection) as tx:
            _forget(tx, [digest])
            notices = json.dumps([(one.kind, one.text) for one in views.notices])
            ids = [_put_picture(tx, one) for one in views.pictures]
            places: list[tuple[int, int, str, int, float, float, float, float]]
            if views.kind == "picture":
                places = [(0, ids[0], "", 0, 0.0, 0.0, 0.0, 0.0)]
            else:
                places = [
                    (at, ids[one.picture], one.part, one.page, float(one.x), float(one.y),
                     float(one.width), float(one.height))
                    for at, one in enumerate(views.places)
                ]  # fmt: skip
            fields = (digest, recipe, views.kind, views.pages, notices)
            kept = RowSum()
            for row in (fields, *places):
                kept.add(*row)
            source_id = tx.execute(
                "INSERT INTO source (digest, recipe, kind, pages, notices, sum)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*fields, kept.digest()),
            ).lastrowid
            tx.executemany(
                "INSERT INTO place VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(source_id, *row) for row in places],
            )

    def forget(self, digests: Iterable[bytes]) -> int:
        """Leave files out from now on; return how many there were."""
        wanted = list(digests)
        count = 0
        for at in range(0, len(wanted), _AT_ONCE):
            with _FILE.writing(self._connection) as tx:
                count += _forget(tx, wanted[at : at + _AT_ONCE])
        return count

    # -- out

    def recipes(self) -> dict[bytes, str]:
        """Return {file digest: recipe} of every file that was looked at."""
        return dict(self._rows("SELECT digest, recipe FROM source"))

    def source(self, digest: bytes) -> PictureSource | None:
        """Return what is known of a file."""
        rows = self._rows(
            "SELECT digest, recipe, kind, pages, notices FROM source WHERE digest = ?", (digest,)
        )
        if not rows:
            return None
        notices: tuple[tuple[str, str], ...] = decode_json(rows[0][4], tuple[tuple[str, str], ...])
        return PictureSource(
            digest=rows[0][0], recipe=rows[0][1], kind=rows[0][2], pages=rows[0][3],
            notices=notices,
        )  # fmt: skip

    def places_in(self, digest: bytes) -> list[IndexedPlace]:
        """Return the pictures of a file, in their order."""
        return self._places("source.digest = ? ORDER BY ordinal", (digest,))

    def places_of(self, picture_id: int) -> list[IndexedPlace]:
        """Return where a picture is: files that are it first, then documents, in no order."""
        return self._places("picture_id = ? ORDER BY part <> '', source.id, ordinal", (picture_id,))

    def _places(self, condition: str, values: tuple[object, ...]) -> list[IndexedPlace]:
        rows = self._rows(
            "SELECT picture_id, source.digest, part, pages, page, x, y, width, height"  # noqa: S608
            f" FROM place JOIN source ON source.id = place.source_id WHERE {condition}",
            values,
        )
        names = IndexedPlace.__struct_fields__
        return [IndexedPlace(**dict(zip(names, row, strict=True))) for row in rows]

    def contained_in(self, digests: Iterable[bytes], *, limit: int) -> list[PlacedPicture]:
        """Return the pictures that files contain, by file and place, up to a limit."""
        return self._placed("source.digest", digests, limit)

    def containing(self, digests: Iterable[bytes], *, limit: int) -> list[PlacedPicture]:
        """Return the places in documents of pictures of these digests, up to a limit."""
        return self._placed("picture.digest", digests, limit)

    def _placed(self, column: str, digests: Iterable[bytes], limit: int) -> list[PlacedPicture]:
        wanted = sorted(set(digests))
        found: list[PlacedPicture] = []
        names = PlacedPicture.__struct_fields__[:-1]
        for at in range(0, len(wanted), _AT_ONCE):
            piece = wanted[at : at + _AT_ONCE]
            rows = self._rows(
                "SELECT picture.id, source.digest, part, pages, page, x, y, width, height,"  # noqa: S608
                " picture.digest, facts FROM place JOIN source ON source.id = place.source_id"
                " JOIN picture ON picture.id = place.picture_id"
                f" WHERE part <> '' AND {column} IN ({', '.join('?' * len(piece))})"
                " ORDER BY source.id, ordinal LIMIT ?",
                (*piece, limit - len(found)),
            )
            found += [
                PlacedPicture(
                    **dict(zip(names, row, strict=False)), facts=decode_json(row[-1], PictureFacts)
                )
                for row in rows
            ]
            if len(found) >= limit:
                break
        return found

    def picture(self, picture_id: int) -> IndexedPicture | None:
        """Return one picture."""
        rows = self._rows(
            "SELECT id, digest, facts, position FROM picture WHERE id = ?", (picture_id,)
        )
        if not rows:
            return None
        return IndexedPicture(
            id=rows[0][0], digest=rows[0][1], facts=decode_json(rows[0][2], PictureFacts),
            position=decode_json(rows[0][3], Position | None),
        )  # fmt: skip

    def picture_id(self, digest: bytes) -> int | None:
        """Return the number of the picture with exactly these bytes, None for none."""
        rows = self._rows("SELECT id FROM picture WHERE digest = ?", (digest,))
        return int(rows[0][0]) if rows else None

    def thumbnail(self, picture_id: int) -> tuple[str, bytes]:
        """Return the type and the bytes of a picture's thumbnail, both empty for none."""
        query = "SELECT type, content FROM thumbnail WHERE picture_id = ?"
        rows = self._rows(query, (picture_id,))
        return (rows[0][0], rows[0][1]) if rows else ("", b"")

    def features(self) -> Iterator[Features]:
        """Yield the features of all pictures, in blocks."""
        import numpy as np

        last = -1
        while True:
            rows = self._rows(
                "SELECT picture_id, quality, pdq, layout FROM feature WHERE picture_id > ?"
                " AND length(pdq) = ? AND length(layout) = ? ORDER BY picture_id LIMIT ?",
                (last, HASH_BYTES, 2 * DIMENSION, _READ_AT_ONCE),
            )
            if not rows:
                return
            last = rows[-1][0]
            hashes = np.frombuffer(b"".join(row[2] for row in rows), np.uint8)
            layouts = np.frombuffer(b"".join(row[3] for row in rows), "<f2")
            yield Features(
                ids=np.array([row[0] for row in rows], np.int64),
                qualities=np.array([row[1] for row in rows], np.int64),
                hashes=hashes.reshape(-1, HASH_BYTES),
                layouts=layouts.reshape(-1, DIMENSION),
            )

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (files, places of pictures)}."""
        query = (
            "SELECT kind, count(DISTINCT id), count(source_id) FROM source"
            " LEFT JOIN place ON place.source_id = source.id GROUP BY kind ORDER BY kind"
        )
        return {kind: (files, count) for kind, files, count in self._rows(query)}

    def stored_bytes(self) -> int:
        """Return what its files take."""
        return _FILE.stored_bytes(self.path)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return rows as SQLite gives them."""
        with _FILE.translated():
            return self._connection.execute(query, tuple(values)).fetchall()


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the index at ``path``; see ``DerivedFile.damage``."""
    return _FILE.damage(path, picture_index_check.damage_of)


def delete_index(path: Path) -> None:
    """Delete an index; who has it open goes on with what it was."""
    _FILE.delete(path)


def _put_picture(tx: sqlite3.Connection, one: Picture) -> int:
    """Take in one picture; one that is there is replaced: a newer recipe made it."""
    import numpy as np

    facts = PictureFacts(
        format=one.format, mode=one.mode, width=one.width, height=one.height, frames=one.frames,
        orientation=one.orientation, exif=one.exif,
    )  # fmt: skip
    values = (msgspec.json.encode(facts).decode(), msgspec.json.encode(one.position).decode())
    found = tx.execute("SELECT id FROM picture WHERE digest = ?", (one.digest,)).fetchone()
    if found is None:
        row = tx.execute(
            "INSERT INTO picture (digest, facts, position, sum) VALUES (?, ?, ?, ?)",
            (one.digest, *values, b""),
        ).lastrowid
        assert row is not None
        picture_id = row
    else:
        picture_id = int(found[0])
        tx.execute("UPDATE picture SET facts = ?, position = ? WHERE id = ?", (*values, picture_id))
    layout = np.frombuffer(one.layout, "<f4").astype("<f2").tobytes()
    feature = (one.quality, one.hashes[:HASH_BYTES] or bytes(HASH_BYTES), layout)
    tx.execute("INSERT OR REPLACE INTO feature VALUES (?, ?, ?, ?)", (picture_id, *feature))
    thumbnail = (one.thumbnail_type, one.thumbnail)
    tx.execute("INSERT OR REPLACE INTO thumbnail VALUES (?, ?, ?)", (picture_id, *thumbnail))
    kept = row_sum(picture_id, one.digest, *values, *feature, *thumbnail)
    tx.execute("UPDATE picture SET sum = ? WHERE id = ?", (kept, picture_id))
    return picture_id


def _forget(tx: sqlite3.Connection, digests: Sequence[bytes]) -> int:
    """Delete files with their places, and the pictures that no other file has."""
    count = 0
    for digest in digests:
        found = tx.execute("SELECT id FROM source WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            continue
        count += 1
        query = "SELECT DISTINCT picture_id FROM place WHERE source_id = ?"
        pictures = tx.execute(query, found).fetchall()
        tx.execute("DELETE FROM place WHERE source_id = ?", found)
        tx.execute("DELETE FROM source WHERE id = ?", found)
        for one in pictures:
            if tx.execute("SELECT 1 FROM place WHERE picture_id = ? LIMIT 1", one).fetchone():
                continue
            for table, column in (
                ("feature", "picture_id"), ("thumbnail", "picture_id"), ("picture", "id"),
            ):  # fmt: skip
                tx.execute(f"DELETE FROM {table} WHERE {column} = ?", one)  # noqa: S608
    return count
