"""What atoms are built on: no circles, no long chains, and nothing is taken away beneath them."""

import numpy as np
import pytest
from variant_store import put, read, straight, tuned, weights

import hartonomous as hn
from hartonomous.catalog import atoms, bases
from hartonomous.core.digest import digest
from hartonomous.errors import IntegrityError
from hartonomous.packs.session import WriteSession

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
        before = atoms.extents(tx, names)
        circle = atoms.NewAtom(
            digest=names[0], size_bytes=4 * COUNT, encoding=3, extents=(), bases=names[1:]
        )
        assert atoms.replace_extents(tx, [circle]) == 0
        atoms.mark_damaged(tx, bases.find(tx, names)[names[0]].id)
        atoms.add(tx, [circle], now_us=1)  # mending looks too
        assert atoms.extents(tx, names) == before


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


def test_frames_of_one_prediction_are_encoded_as_they_are_decoded(store, session):
    """A plan may cut a frame anywhere: targets of odd sizes, in all types."""
    for dtype, kind in (("F32", np.float32), ("F16", np.float16)):
        count = 200_003
        base = weights(count).astype(kind)
        other = tuned(weights(count)).astype(kind)
        below = put(session, base.tobytes(), dtype=dtype)
        above = put(session, other.tobytes(), straight(count, dtype), [below], dtype=dtype)
        assert read(store.parts, above, other.nbytes) == other.tobytes()
