"""Several copies of one atom, packs under each other's names: what repair makes of them."""

import itertools
import os

import pytest
from disk import first_record, key_of, noise, pack_paths, pack_with, rewrite, write_pack

import hartonomous as hn
from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.packs.pack_file import PackWriter

SIZE = 15_000  # less than the smallest chunk, so one atom


@pytest.fixture
def place(tmp_path):
    (tmp_path / "a.bin").write_bytes(noise(SIZE))
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(tmp_path / "a.bin")
    return tmp_path / "store"


def spoil(pack, *, forge):
    """Damage the payload of a pack's first extent; ``forge`` mends the frame's checksum too."""
    at, header = first_record(pack, RecordKind.EXTENT)
    content = bytearray(pack.read_bytes())
    content[header.offset + 7] ^= 0xFF
    if forge:
        assert header.encoding == Encoding.RAW or len(header.frames) == 1
        frame = bytes(content[header.offset : header.offset + header.stored])
        frames = header.frames.copy()
        frames["check"][0] = checksum(frame)
        changed = type(header)(
            **{name: getattr(header, name) for name in header.__slots__ if name != "frames"},
            frames=frames,
        ).encode()
        content[at : at + len(changed)] = changed
        footer_at = content.rindex(b"HARTTOC1")
        toc = int.from_bytes(content[footer_at + 8 : footer_at + 16], "little")
        content[toc : toc + len(changed)] = changed
        content[footer_at + 32 : footer_at + 40] = checksum(content[toc:footer_at]).to_bytes(
            8, "little"
        )
        content[footer_at + 56 : footer_at + 64] = checksum(
            content[footer_at : footer_at + 56]
        ).to_bytes(8, "little")
    rewrite(pack, bytes(content))


def write_parts(store, content, cuts, *, name=None):
    """Write an atom as extents of a pack, cut at ``cuts``; returns nothing but durable bytes."""
    out = PackWriter(store.parts.objects, writer=os.urandom(16), now_us=store.parts.clock())
    for start, stop in itertools.pairwise([0, *cuts, len(content)]):
        out.begin(Encoding.RAW)
        part = content[start:stop]
        out.frame(part, checksum(part))
        out.end(
            kind=RecordKind.EXTENT, encoding=Encoding.RAW, recipe=0,
            digest=name or digest(content), total=len(content), position=start, length=len(part),
        )  # fmt: skip
    out.seal()


def check_back(place, out):
    with hn.open(place) as store:
        store.get("a.bin", out)
        assert store.verify(files=True).sound
    assert out.read_bytes() == noise(SIZE)


@pytest.mark.parametrize("forge", [False, True])
@pytest.mark.parametrize("turn", range(4))  # the order of packs is that of their random names
def test_of_two_copies_the_intact_one_serves(place, tmp_path, forge, turn):
    spoil(pack_with(place, RecordKind.EXTENT), forge=forge)
    with hn.open(place) as store:
        write_pack(store.parts, [(RecordKind.EXTENT, digest(noise(SIZE)), noise(SIZE))])
    report = hn.repair(place)
    assert (report.lost, report.damaged) == ((), ())
    check_back(place, tmp_path / "out")


@pytest.mark.parametrize("turn", range(3))
def test_parts_of_several_copies_serve_if_the_whole_is_right(place, tmp_path, turn):
    whole, name = noise(SIZE), digest(noise(SIZE))
    spoil(pack_with(place, RecordKind.EXTENT), forge=True)
    with hn.open(place) as store:
        for at in (12_000, 5):  # in the second part, in the first
            wrong = bytearray(whole)
            wrong[at] ^= 1
            write_parts(store, bytes(wrong), [10_000], name=name)
    assert (report := hn.repair(place)).lost == report.damaged == ()
    check_back(place, tmp_path / "out")


def test_copies_none_of_which_is_intact_are_told(place):
    spoil(pack_with(place, RecordKind.EXTENT), forge=True)
    wrong = bytearray(noise(SIZE))
    wrong[0] ^= 1
    with hn.open(place) as store:
        write_pack(store.parts, [(RecordKind.EXTENT, digest(noise(SIZE)), bytes(wrong))])
    report = hn.repair(place)
    assert [one for one in report.damaged if "none of its copies" in one]
    with hn.open(place) as store:
        assert not store.verify().sound
        (place.parent / "a.bin").write_bytes(noise(SIZE))
        assert store.add(place.parent / "a.bin").stored_bytes > 0  # known as damaged: stored anew
        assert store.verify(files=True).sound


def test_no_number_of_copies_makes_repair_walk_for_ever(place, tmp_path):
    whole, name = noise(SIZE), digest(noise(SIZE))
    cuts = list(range(1000, SIZE, 1000))
    with hn.open(place) as store:
        for number in range(4):  # 4**40 combinations, none of which is right
            wrong = bytearray(whole)
            for at in range(number, SIZE, 1000):
                wrong[at] ^= 1
            write_parts(store, bytes(wrong), cuts, name=name)
    assert hn.repair(place).lost == ()
    check_back(place, tmp_path / "out")


@pytest.fixture
def three(tmp_path):
    with hn.open(tmp_path / "store", create=True) as store:
        for seed in range(3):
            (tmp_path / f"{seed}.bin").write_bytes(noise(SIZE, seed))
            store.add(tmp_path / f"{seed}.bin")
    return tmp_path / "store"


@pytest.mark.parametrize("turns", [1, 2])  # two change places, or three
def test_packs_under_each_others_names_get_their_own_back(three, tmp_path, turns):
    packs = pack_paths(three)[: turns + 1]
    for pack in packs:
        pack.rename(pack.with_suffix(".moved"))
    for pack, target in zip(packs, packs[1:] + packs[:1], strict=True):
        pack.with_suffix(".moved").rename(target)
    with hn.open(three) as store:
        faults = store.verify().faults
        assert any(
            "another pack than its name says" in one.what and "hart repair" in one.what
            for one in faults
        )
    report = hn.repair(three)
    assert (report.lost, report.damaged) == ((), ())
    assert 1 <= len(report.renamed) <= turns + 1
    assert hn.repair(three).renamed == ()
    with hn.open(three) as store:
        assert store.verify(files=True).sound
        for seed in range(3):
            store.get(f"{seed}.bin", tmp_path / f"out{seed}")
            assert (tmp_path / f"out{seed}").read_bytes() == noise(SIZE, seed)


def test_a_pack_that_was_renamed_and_a_copy_of_one(three):
    first, second, *_ = pack_paths(three)
    other = three / "packs" / "00" / f"{'00' * 16}.pack"
    other.parent.mkdir(exist_ok=True)
    first.rename(other)
    copy = three / "packs" / "01" / f"{'01' * 16}.pack"
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(second.read_bytes())
    report = hn.repair(three)
    assert report.renamed == (f"{key_of(other)} -> {key_of(first)}",)
    [said] = report.damaged
    assert key_of(copy) in said and key_of(second) in said and "remove it" in said
    with hn.open(three) as store:
        assert store.verify(files=True).sound
