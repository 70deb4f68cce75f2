"""What one part of an atom may need of others is bounded, for those who read and who write."""

import itertools

import numpy as np
import pytest
from variant_store import put, weights

import hartonomous as hn
from hartonomous.core.plan import Linear, Operand, Plan
from hartonomous.errors import IntegrityError
from hartonomous.packs import chain as chains
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.chain import Budget, Chain
from hartonomous.packs.predictions import Variant, predict_spans
from hartonomous.packs.reading_cost import ReadingCost
from hartonomous.packs.session import WriteSession

COUNT = 20_000
WIDE = 8


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as opened:
        yield opened


def mean(width, first=0, count=COUNT):
    """Give the plan of a mean of so many bases, each from another element on."""
    operands = tuple(Operand("F32", (count,), first * at) for at in range(width))
    return Plan("F32", (count,), operands, (Linear((1.0,) * width, "F32", float(width)),))


def lattice(session, levels, *, count=COUNT):
    """Store levels of eight atoms, each the mean of all eight below; return the last level.

    Each path down begins at another element, so no two need the same bytes.
    """
    step = 3
    length = count + levels * WIDE * step
    level = [weights(length, seed) for seed in range(WIDE)]
    names = [put(session, one.tobytes()) for one in level]
    for depth in range(levels):
        length -= WIDE * step
        plan = mean(WIDE, step, length)
        total = level[0][:length].copy()
        for at in range(1, WIDE):
            total = total + level[at][step * at : step * at + length]
        made = total / np.float32(WIDE)
        level = [made + np.float32(2.0**-30 * at) for at in range(WIDE)]
        names = [put(session, one.tobytes(), plan, names) for one in level]
        assert len(set(names)) == WIDE, depth
    return names, level


def test_a_lattice_of_bases_is_refused_by_the_name_of_the_atom(store, monkeypatch):
    with WriteSession(store.parts) as session:
        two, values = lattice(session, 2)
        three, _ = lattice(session, 4)
        monkeypatch.setattr(chains, "MOST_READS", 100)
        reader = AtomReader(store.parts, frames=FrameCache(0))
        out = bytearray(values[0].nbytes)
        reader.decode_into(two[0], memoryview(out))
        assert out == values[0].tobytes()
        with pytest.raises(IntegrityError, match=f"blake3:{three[0].hex()}.*needs more of other"):
            reader.decode_into(three[0], memoryview(bytearray(64)))
        reader.close()


def test_a_run_counts_what_it_reads_on_all_levels_together():
    chain = Chain((bytes(32),), Budget(most_reads=3, most_bytes=2**40))
    below = chain.below(b"1" * 32)
    assert below.budget is chain.budget
    for _ in range(3):
        below.spend(10)
    with pytest.raises(IntegrityError, match="needs more of other atoms"):
        chain.spend(10)
    chain = Chain((bytes(32),), Budget(most_reads=100, most_bytes=10 * 2**20))
    with pytest.raises(IntegrityError, match="MiB"):
        for _ in itertools.count():
            chain.spend(2**20)
    assert chain.budget.reads < 11


def test_a_reader_without_a_cache_decodes_shared_bases_once(store, monkeypatch):
    plan = mean(WIDE)
    with WriteSession(store.parts) as session:
        names = [put(session, weights(COUNT, seed).tobytes()) for seed in range(WIDE)]
        middle = [
            put(session, (weights(COUNT, 50) + np.float32(seed)).tobytes(), plan, names)
            for seed in range(WIDE)
        ]
        reader = AtomReader(store.parts, frames=FrameCache(0))
        asked = []
        gather = reader.gather
        monkeypatch.setattr(reader, "gather", lambda *one: (asked.append(one[1]), gather(*one)))
        predict_spans(reader, Variant(plan, tuple(middle)), [(0, 4000)], Chain().below(bytes(32)))
        reader.close()
    assert asked.count(names[0]) <= WIDE


def test_a_writer_keeps_away_from_what_a_reader_refuses(store):
    with WriteSession(store.parts) as session:
        cost = ReadingCost(session.bases)
        names, _ = lattice(session, 1)
        assert cost.is_bounded(Variant(mean(WIDE), tuple(names)))
        names, _ = lattice(session, 3)
        assert not cost.is_bounded(Variant(mean(WIDE), tuple(names)))
