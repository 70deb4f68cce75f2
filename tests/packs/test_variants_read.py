"""Atoms that are kept as what differs from others: written, read in any range, in any depth."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_store import cast, frames, put, read, row_of, straight, transposition, tuned, weights

import hartonomous as hn
from hartonomous.catalog import bases as base_rows
from hartonomous.core.digest import digest
from hartonomous.core.ggml import quantise_q8_0
from hartonomous.core.plan import Append, Linear, LowRank, Operand, Plan
from hartonomous.core.record import FRAME_BYTES, VARIANTS_FEATURE, Encoding
from hartonomous.errors import IntegrityError
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.chain import Chain
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import pack_object_key
from hartonomous.packs.predictions import BaseCircleError, Variant, predict_spans
from hartonomous.packs.session import WriteSession
from hartonomous.packs.store_card import VARIANTS, read_card

COUNT = 300_000  # F32: five frames, the last one short


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "store", create=True, settings={"workers": 2}) as opened:
        yield opened


def test_a_fine_tune_takes_less_and_comes_back_in_any_range(store):
    base, other = weights(COUNT), tuned(weights(COUNT))
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        above = put(session, other.tobytes(), straight(COUNT), [below])
        assert read(store.parts, above, other.nbytes) == other.tobytes()
        for start, size in [
            (0, 1),
            (5, 3),
            (FRAME_BYTES - 2, 7),
            (other.nbytes - 1, 1),
            (77, 900_000),
        ]:
            assert read(store.parts, above, size, start) == other.tobytes()[start : start + size]
        kept = row_of(store.parts, above)
        assert kept.encoding == Encoding.DELTA
        assert kept.stored_bytes < row_of(store.parts, below).stored_bytes
    with store.parts.database.read() as tx:
        assert base_rows.find(tx, [above, below])[above].depth == 1


def test_an_exact_cast_stores_no_byte(store):
    base = weights(COUNT)
    half = base.astype(np.float16)
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        above = put(session, half.tobytes(), cast(COUNT, "F16"), [below], dtype="F16")
        assert row_of(store.parts, above).stored_bytes == 0
        assert read(store.parts, above, half.nbytes) == half.tobytes()
        assert read(store.parts, above, 10, 131_071) == half.tobytes()[131_071:131_081]


def test_a_transposition_reads_its_base_once(store, monkeypatch):
    base = weights(600 * 700).reshape(600, 700)
    turned = np.ascontiguousarray(base.T)
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        above = put(session, turned.tobytes(), transposition(700, 600), [below])
    reader = AtomReader(store.parts, frames=FrameCache(0))
    asked = []
    gather = reader.gather
    monkeypatch.setattr(reader, "gather", lambda *given: (asked.append(given[1]), gather(*given)))
    store.parts.operands.get((below, 0, base.nbytes), lambda out: reader.decode_into(below, out))
    asked.clear()
    for start in range(0, turned.nbytes, 100_000):
        size = min(100_000, turned.nbytes - start)
        out = bytearray(size)
        reader.decode_into(above, memoryview(out), start)
        assert out == turned.tobytes()[start : start + size]
    assert set(asked) == {above}
    reader.close()


def test_sums_and_grown_vocabularies(store):
    one, two = weights(COUNT, 1), weights(COUNT, 2)
    mean = ((one.astype(np.float64) + two.astype(np.float64)) / 2).astype(np.float32)
    grown = np.concatenate([one.reshape(300, 1000), weights(7_000, 3).reshape(7, 1000)])
    with WriteSession(store.parts) as session:
        names = [put(session, one.tobytes()), put(session, two.tobytes())]
        merge = Plan("F32", (COUNT,), (Operand("F32", (COUNT,)),) * 2, (Linear((0.5, 0.5), "F32"),))
        above = put(session, mean.tobytes(), merge, names)
        longer = Plan("F32", (307, 1000), (Operand("F32", (300, 1000)),), (Append(7),))
        more = put(session, grown.tobytes(), longer, names[:1])
        assert read(store.parts, above, mean.nbytes) == mean.tobytes()
        assert read(store.parts, more, grown.nbytes) == grown.tobytes()
        assert row_of(store.parts, more).stored_bytes < 40_000


def test_a_prediction_that_is_no_use_costs_nothing_more(store):
    with WriteSession(store.parts) as session:
        below = put(session, weights(COUNT).tobytes())
        noise = np.random.default_rng(9).integers(0, 2**32, COUNT, np.uint32)
        above = put(session, noise.tobytes(), straight(COUNT), [below])
        assert row_of(store.parts, above).stored_bytes <= noise.nbytes
        assert read(store.parts, above, noise.nbytes) == noise.tobytes()


def test_packs_and_the_card_say_what_is_needed(store):
    assert read_card(store.path).required_features == ()
    with WriteSession(store.parts) as session:
        below = put(session, weights(COUNT).tobytes())
        above = put(session, tuned(weights(COUNT)).tobytes(), straight(COUNT), [below])
    assert read_card(store.path).required_features == (VARIANTS,)
    with store.parts.database.read() as tx:
        from hartonomous.catalog import extents

        places = extents.of_atoms(tx, [below, above])
    needed = {}
    for name, (place,) in places.items():
        pack = PackReader(store.parts.objects.open(pack_object_key(place.pack_key)), "")
        needed[name] = pack.header().required
        pack.close()
    assert needed == {below: 0, above: VARIANTS_FEATURE}


@settings(max_examples=25)
@given(data=st.data())
def test_chains_of_any_relations_come_back(data):
    with _memory_store() as parts:
        chain_of_relations(parts, data)


def chain_of_relations(parts, data):
    count = data.draw(st.sampled_from([2048, 65_536, 65_537, 150_000]))
    content = [weights(count, data.draw(st.integers(0, 3)))]
    with WriteSession(parts) as session:
        names = [put(session, content[0].tobytes())]
        for depth in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, min(depth, len(content) - 1)))
            with np.errstate(all="ignore"):  # NaNs of earlier steps
                one = relation(content[at], data)
            if digest(one.tobytes()) not in names:
                names.append(put(session, one.tobytes(), straight(count), [names[at]]))
                content.append(one)
        for name, one in zip(names, content, strict=True):
            start = data.draw(st.integers(0, one.nbytes - 1))
            size = data.draw(st.integers(1, one.nbytes - start))
            assert read(parts, name, size, start) == one.tobytes()[start : start + size]
            assert read(parts, name, one.nbytes) == one.tobytes()


def relation(base, data):
    what = data.draw(st.sampled_from(["scaled", "tuned", "ulp", "nan", "other", "rolled"]))
    if what == "scaled":
        return (base * np.float32(data.draw(st.floats(0.5, 2, width=32)))).astype(np.float32)
    if what == "tuned":
        return tuned(base, data.draw(st.integers(0, 5)))
    if what == "ulp":
        return np.nextafter(base, np.float32(np.inf))
    if what == "rolled":
        return np.roll(base, 1)
    if what == "other":
        return weights(base.size, data.draw(st.integers(10, 20)))
    odd = base.copy()
    at = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, base.size, 50)
    bits = odd.view(np.uint32)
    bits[at] = np.uint32(0x7F800001) + at.astype(np.uint32) % 1000
    bits[at[:10]] = 0xFF800000
    return odd


def _memory_store():
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def opened():
        with (
            tempfile.TemporaryDirectory() as folder,
            hn.open(f"{folder}/store", create=True, settings={"workers": 2}) as store,
        ):
            yield store.parts

    return opened()


def test_many_threads_read_one_chain(store):
    content = [weights(COUNT)]
    content += [tuned(content[0], 1)]
    content += [tuned(content[1], 2)]
    with WriteSession(store.parts) as session:
        names = [put(session, content[0].tobytes())]
        names += [put(session, content[1].tobytes(), straight(COUNT), names[:1])]
        names += [put(session, content[2].tobytes(), straight(COUNT), names[1:])]
    reader = AtomReader(store.parts)
    wrong = []

    def work(seed):
        chance = np.random.default_rng(seed)
        for _ in range(10):
            which, start = int(chance.integers(3)), int(chance.integers(content[0].nbytes - 1))
            out = bytearray(min(400_000, content[0].nbytes - start))
            reader.decode_into(names[which], memoryview(out), start)
            if out != content[which].tobytes()[start : start + len(out)]:
                wrong.append((which, start))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert wrong == []


def test_a_base_that_is_damaged_meanwhile_leaves_frames_raw(store):
    base, other = weights(COUNT), tuned(weights(COUNT))
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        reading = session.bases.read_base

        def broken(name, out, start, chain):
            if start >= FRAME_BYTES:
                raise IntegrityError("a frame fails its checksum")
            reading(name, out, start, chain)

        session.bases.read_base = broken
        above = put(session, other.tobytes(), straight(COUNT), [below])
        assert any("fails its checksum" in fault for fault in session.base_faults)
    assert read(store.parts, above, other.nbytes) == other.tobytes()


def test_a_base_is_looked_for_again_when_its_dependent_is_kept_otherwise(store):
    base, other = weights(COUNT), tuned(weights(COUNT))
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        above = put(session, other.tobytes(), straight(COUNT), [below])
    reader = AtomReader(store.parts)
    reader.locate([above])  # from now on it knows the old place
    out = bytearray(10)
    reader.decode_into(above, memoryview(out), 0)
    from hartonomous.catalog import atoms

    with WriteSession(store.parts) as session:
        # As a repack would; the store is small, so the former extents are made to look larger.
        with store.parts.database.write() as tx:
            tx.exec_driver_sql("UPDATE atom SET stored_bytes = size_bytes * 2")
        assert session.hold([above]) == {above}  # as the file would that it belongs to
        session.put_atom(
            above, other.nbytes, frames(other.tobytes()), encoding=Encoding.RAW, dtype="F32",
            on_stored=lambda *_: None, replaces=True,
        )  # fmt: skip
        session.flush()
    with store.parts.database.write() as tx:
        assert atoms.remove(tx, [base_rows.find(tx, [below])[below].id]) == 0
    store.parts.frames.clear()
    fresh = AtomReader(store.parts, frames=FrameCache(0))
    fresh._places.update(reader._places)
    whole = bytearray(other.nbytes)
    fresh.decode_into(above, memoryview(whole), 0)
    assert whole == other.tobytes()
    reader.close()
    fresh.close()


def test_a_circle_of_bases_ends_in_an_error_that_names_it(store):
    content = [weights(COUNT), tuned(weights(COUNT))]
    with WriteSession(store.parts) as session:
        below = put(session, content[0].tobytes())
        above = put(session, content[1].tobytes(), straight(COUNT), [below])
    reader = AtomReader(store.parts, frames=FrameCache(0))
    reader.locate([above])
    # A catalog that says of the base what it should say of the dependent makes no such circle: the
    # record names its atom. So the chain is what is tried here.
    with pytest.raises(BaseCircleError, match="needs itself as a base"):
        reader.read_base(above, memoryview(bytearray(10)), 0, Chain((above, below)))
    with pytest.raises(IntegrityError, match="bases below it"):
        reader.read_base(
            above, memoryview(bytearray(10)), 0, Chain(tuple(bytes([i]) * 32 for i in range(9)))
        )
    reader.close()


@pytest.mark.parametrize("rank", [2**17, 2**25])
def test_a_plan_that_needs_too_much_of_a_base_is_refused_before_memory_is_taken(store, rank):
    left, right = Operand("F32", (COUNT, rank)), Operand("F32", (rank, 1))
    plan = Plan(
        "F32", (COUNT, 1), (Operand("F32", (COUNT, 1)), left, right), (LowRank(1.0, "F32"),)
    )
    with WriteSession(store.parts) as session:
        base = put(session, weights(COUNT).tobytes())
    reader = AtomReader(store.parts)
    with pytest.raises(IntegrityError, match=f"needs {COUNT * rank * 4} bytes"):
        predict_spans(reader, Variant(plan, (base,) * 3), [(0, COUNT * 4)], Chain((bytes(32),)))
    reader.close()


def test_parts_of_frames_are_read_without_the_rest(store, monkeypatch):
    """A small part of a copy takes that part of its base; larger ones are decoded whole."""
    base = weights(2 * COUNT)
    half = base.astype(np.float16).tobytes()
    kept = 2 * COUNT // 32 * 32
    blocks = quantise_q8_0(base[:kept]).tobytes()
    plan = Plan("Q8_0", (kept,), (Operand("F32", (kept,)),))
    with WriteSession(store.parts) as session:
        below = put(session, base.tobytes())
        names = {
            put(session, half, cast(2 * COUNT, "F16"), [below], dtype="F16"): half,
            put(session, blocks, plan, [below], dtype="Q8_0"): blocks,
        }
    reader = AtomReader(store.parts, frames=FrameCache(0))
    asked = []
    gather = reader.gather
    monkeypatch.setattr(
        reader, "gather", lambda *one: (asked.append((one[1], len(one[2]))), gather(*one))
    )
    for name, content in names.items():
        for start, size in [
            (0, 1), (33, 1000), (FRAME_BYTES - 7, 14), (FRAME_BYTES - 20_000, 90_000),
            (len(content) - 1, 1), (5, FRAME_BYTES // 2), (5, FRAME_BYTES - 9),
        ]:  # fmt: skip
            asked.clear()
            out = bytearray(size)
            reader.decode_into(name, memoryview(out), start)
            assert out == content[start : start + size]
            needed = sum(length for digest, length in asked if digest == below)
            if size < 1100:
                assert needed <= 4 * 2 * (size + 2 * 34)
    reader.close()
