"""What atoms are built on: no circles, no long chains, and nothing is taken away beneath them."""

import dataclasses

import numpy as np
import pytest
from variant_store import put, read, straight, tuned, weights

import hartonomous as hn
from hartonomous.catalog import atoms, bases, extents, packs
from hartonomous.core.digest import checksum, digest
from hartonomous.core.plan import encode
from hartonomous.core.record import (
    FRAME_ENTRY,
    VARIANTS_FEATURE,
    Encoding,
    RecordHeader,
    RecordKind,
)
from hartonomous.errors import IntegrityError
from hartonomous.packs.extent_copies import ExtentCopies
from hartonomous.packs.pack_file import PackWriter
from hartonomous.packs.predictions import variant_of
from hartonomous.packs.session import WriteSession
from hartonomous.packs.survey import survey
from hartonomous.ports.progress import NoProgress

pytestmark = pytest.mark.usefixtures("catalog_engine")

COUNT = 4096


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as opened:
        yield opened


@pytest.fixture
def session(store):
    with WriteSession(store.parts) as opened:
        yield opened


def chain(session, length):
    """Store atoms each of which is built on the one before; return their digests."""
    content = [weights(COUNT)]
    names = [put(session, content[0].tobytes())]
    for step in range(1, length):
        content.append(tuned(content[-1], step))
        names.append(put(session, content[-1].tobytes(), straight(COUNT), names[-1:]))
    return names


def depths(store, names):
    with store.parts.database.read() as tx:
        found = bases.find(tx, names)
    return [found[name].depth for name in names]


def test_depth_follows_from_the_bases(store, session):
    names = chain(session, 4)
    assert depths(store, names) == [0, 1, 2, 3]
    with store.parts.database.read() as tx:
        ids = {name: base.id for name, base in bases.find(tx, names).items()}
        assert bases.dependents(tx, [ids[names[1]]]) == {ids[names[2]], ids[names[3]]}
        assert bases.wrong_depths(tx, limit=9) == []


def test_other_bases_change_the_depth_of_all_above(store, session):
    names = chain(session, 3)
    other = put(session, weights(COUNT, 7).tobytes())
    with store.parts.database.write() as tx:
        found = bases.find(tx, [*names, other])
        assert bases.replace(tx, found[names[0]].id, [found[other]])
    assert depths(store, [other, *names]) == [0, 1, 2, 3]
    with store.parts.database.write() as tx:
        assert bases.replace(tx, bases.find(tx, names)[names[1]].id, [])
    assert depths(store, [other, *names]) == [0, 1, 0, 1]


def test_a_circle_is_refused(store, session):
    names = chain(session, 3)
    with store.parts.database.write() as tx:
        found = bases.find(tx, names)
        for name in names:
            assert not bases.replace(tx, found[names[0]].id, [found[name]])
        assert bases.wrong_depths(tx, limit=9) == []
    assert depths(store, names) == [0, 1, 2]


def test_a_chain_over_the_longest_is_refused(store, session):
    names = chain(session, bases.MAX_DEPTH + 1)
    other = put(session, weights(COUNT, 7).tobytes())
    before = depths(store, names)
    with store.parts.database.write() as tx:
        found = bases.find(tx, [*names, other])
        assert not bases.replace(tx, found[names[0]].id, [found[other]])
    assert depths(store, names) == before == list(range(bases.MAX_DEPTH + 1))


def test_new_extents_that_would_make_a_circle_change_nothing(store, session):
    names = chain(session, 2)
    with store.parts.database.write() as tx:
        before = extents.of_atoms(tx, names)
        circle = atoms.NewAtom(
            digest=names[0], size_bytes=4 * COUNT, encoding=3, extents=(), bases=names[1:]
        )
        assert atoms.replace_extents(tx, [circle]) == 0
        atoms.mark_damaged(tx, bases.find(tx, names)[names[0]].id)
        atoms.add(tx, [circle], now_us=1)  # mending looks too
        assert extents.of_atoms(tx, names) == before


def test_an_atom_on_bases_that_are_not_stored_is_refused(store):
    new = atoms.NewAtom(
        digest=b"n" * 32, size_bytes=9, encoding=3, extents=(), bases=(b"gone" * 8,)
    )
    with pytest.raises(IntegrityError, match="is not stored"), store.parts.database.write() as tx:
        atoms.add(tx, [new], now_us=1)


def test_a_collection_beside_leaves_what_is_held(store):
    base, other = weights(COUNT), tuned(weights(COUNT))
    with WriteSession(store.parts) as first:
        below = put(first, base.tobytes())
        with WriteSession(store.parts) as second:
            assert second.hold([below]) == {below}
            first.close()  # nothing of it was published: only the second one keeps it
            store.gc(trash_days=0, grace_s=0)
            above = put(second, other.tobytes(), straight(COUNT), [below])
            store.gc(trash_days=0, grace_s=0)
            assert read(store.parts, above, other.nbytes) == other.tobytes()
    store.gc(trash_days=0, grace_s=0)  # now nobody needs either
    with store.parts.database.read() as tx:
        assert atoms.find(tx, [below, above]) == {}


def test_what_a_collection_took_is_not_held(store):
    with WriteSession(store.parts) as first:
        below = put(first, weights(COUNT).tobytes())
    store.gc(trash_days=0, grace_s=0)
    with WriteSession(store.parts) as second:
        assert second.hold([below, digest(b"never there")]) == set()


def test_a_damaged_atom_is_not_held(store, session):
    name = put(session, weights(COUNT).tobytes())
    with store.parts.database.write() as tx:
        atoms.mark_damaged(tx, bases.find(tx, [name])[name].id)
    assert session.hold([name]) == set()


def test_forged_records_in_a_circle_end_in_an_error(store):
    """Digests are claimed by headers: a foreign store may have two atoms that need each other."""
    names, length = (b"a" * 32, b"b" * 32), 4 * COUNT
    parts = store.parts
    out = PackWriter(parts.objects, writer=b"w" * 16, now_us=1, required=VARIANTS_FEATURE)
    places = []
    for name, base in zip(names, reversed(names), strict=True):
        out.begin(Encoding.DELTA)
        out.frame(b"", checksum(b""))
        places.append(
            out.end(
                kind=RecordKind.EXTENT, encoding=Encoding.DELTA, recipe=1, digest=name,
                total=length, position=0, length=length, bases=(base,),
                params=encode(straight(COUNT)),
            )
        )  # fmt: skip
    sealed = out.seal()
    with parts.database.write() as tx:
        pack_id = packs.add(
            tx, key=sealed.key, writer_key=sealed.writer, size_bytes=sealed.size_bytes,
            record_count=2, created_us=1,
        )  # fmt: skip
        for name, at in zip(names, places, strict=True):
            place = atoms.NewExtent(
                pack_id=pack_id, position=0, length=length, header_offset=at, stored_bytes=0
            )
            new = atoms.NewAtom(digest=name, size_bytes=length, encoding=3, extents=(place,))
            atoms.add(tx, [new], now_us=1)
    with pytest.raises(IntegrityError, match="needs itself as a base") as caught:
        read(parts, names[0], length)
    assert all(name.hex() in str(caught.value) for name in names)
    found = survey(parts, NoProgress(), lambda pack: None)
    assert ExtentCopies(parts, found).choose(names[0], length) is None


def test_a_plan_that_is_none_is_damage(store, session):
    below = put(session, weights(COUNT).tobytes())
    wrong = straight(COUNT // 2)  # for another target than the record
    header = RecordHeader(
        kind=RecordKind.EXTENT, encoding=Encoding.DELTA, digest=b"d" * 32, total=4 * COUNT,
        position=0, length=4 * COUNT, frames=np.zeros(1, FRAME_ENTRY), recipe=1, bases=(below,),
        params=encode(wrong),
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="another target"):
        variant_of(header)
    for bases_of, params in [((), encode(straight(COUNT))), ((below,), b"{}"), ((below,), b"[")]:
        with pytest.raises(IntegrityError):
            variant_of(dataclasses.replace(header, bases=bases_of, params=params))


def test_frames_of_one_prediction_are_encoded_as_they_are_decoded(store, session):
    """A plan may cut a frame anywhere: targets of odd sizes, in all types."""
    for dtype, kind in (("F32", np.float32), ("F16", np.float16)):
        count = 200_003
        base = weights(count).astype(kind)
        other = tuned(weights(count)).astype(kind)
        below = put(session, base.tobytes(), dtype=dtype)
        above = put(session, other.tobytes(), straight(count, dtype), [below], dtype=dtype)
        assert read(store.parts, above, other.nbytes) == other.tobytes()
