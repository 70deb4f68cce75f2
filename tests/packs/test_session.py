"""The writing session: small frames go to threads together, and what fails leaves no trace."""

import os

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.core.digest import digest
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import SourceChangedError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.session import WriteSession

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


def put(session, content, *, encoding=None, verify=False, name=None, log):
    name = digest(content) if name is None else name
    frames = [content[at : at + FRAME_BYTES] for at in range(0, len(content), FRAME_BYTES)]

    def stored(stored_bytes, final):
        log.append((name, stored_bytes, final))

    session.put_atom(
        name, len(content), frames, encoding=encoding, dtype=None,
        on_stored=stored, verify=verify,
    )  # fmt: skip
    return name


def read(store, name, size):
    reader = AtomReader(store.parts)
    out = bytearray(size)
    try:
        reader.decode_into(name, memoryview(out))
    finally:
        reader.close()
    return bytes(out)


def broken_frames(count):
    for _ in range(count):
        yield b"a" * FRAME_BYTES
    raise SourceChangedError("the source changed", hint="add it again")


def test_atoms_of_all_sizes_come_back(store):
    random = np.random.Generator(np.random.SFC64(1))
    sizes = [65, 66, 1000, 40_000, FRAME_BYTES, FRAME_BYTES - 1, 3 * FRAME_BYTES + 7] * 40
    contents = [random.bytes(size) for size in sizes] + [b"z" * 5000, b"y" * (2 * FRAME_BYTES)]
    log = []
    with WriteSession(store.parts) as session:
        for content in contents:
            encoding = Encoding.ZSTD if len(content) > FRAME_BYTES else None
            put(session, content, encoding=encoding, log=log)
        session.flush()
    assert [name for name, _, _ in log] == [digest(content) for content in contents]
    assert log[0][1:] == (65, Encoding.RAW)
    assert log[-2][1] < 100 and log[-2][2] is Encoding.ZSTD
    for content in contents:
        assert read(store, digest(content), len(content)) == content


@pytest.mark.parametrize("encoding", [Encoding.RAW, Encoding.ZSTD])
@pytest.mark.parametrize("frames", [0, 1, 140])
def test_an_atom_given_up_spoils_no_other(store, encoding, frames):
    before, after = os.urandom(50_000), os.urandom(FRAME_BYTES + 5)
    lost = digest(b"lost")
    log = []
    with WriteSession(store.parts) as session:
        put(session, before, log=log)
        with pytest.raises(SourceChangedError):
            session.put_atom(
                lost, 300 * FRAME_BYTES, broken_frames(frames), encoding=encoding,
                dtype=None, on_stored=lambda *_: log.append("lost"),
            )  # fmt: skip
        assert lost not in session.known_atoms([lost])
        put(session, after, log=log)
        session.flush()
    assert "lost" not in log
    for content in (before, after):
        assert read(store, digest(content), len(content)) == content
    report = store.verify()
    assert report.sound
    with store.parts.database.read() as tx:
        from hartonomous.catalog import atoms

        assert atoms.find(tx, [lost]) == {}


def test_other_bytes_than_the_digest_says_are_not_stored(store):
    good = [os.urandom(1000) for _ in range(20)]
    claimed = digest(b"claimed")
    log = []
    with WriteSession(store.parts) as session:
        for content in good[:10]:
            put(session, content, verify=True, log=log)
        put(session, b"other bytes" * 20, name=claimed, verify=True, log=log)
        for content in good[10:]:
            put(session, content, verify=True, log=log)
        assert session.spoiled([claimed, digest(good[0])]) == {claimed}
        assert session.known_atoms([claimed]) == {}
        session.flush()
    assert claimed not in {name for name, _, _ in log}
    for content in good:
        assert read(store, digest(content), len(content)) == content
    assert store.verify().sound


def test_an_atom_may_be_put_again_after_it_was_spoiled(store):
    content = os.urandom(500)
    name = digest(content)
    with WriteSession(store.parts) as session:
        put(session, b"x" * 500, name=name, verify=True, log=[])
        assert session.spoiled([name]) == {name}
        put(session, content, verify=True, log=[])
        assert session.spoiled([name]) == set()
        session.flush()
    assert read(store, name, 500) == content


def test_atoms_of_a_session_that_somebody_else_stored_first_are_held(store):
    content = os.urandom(70_000)
    with WriteSession(store.parts) as first, WriteSession(store.parts) as second:
        put(first, content, log=[])
        put(second, content, log=[])
        first.flush()
        second.flush()
        with store.parts.database.read() as tx:
            from sqlalchemy import select

            from hartonomous.catalog.schema import atom_pin

            pinned = {row.writer_id for row in tx.execute(select(atom_pin.c.writer_id))}
        assert pinned == {second.id}
    assert read(store, digest(content), len(content)) == content
