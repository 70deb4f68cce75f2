"""A first look at many small tensors says what a look at each of them says."""

import ml_dtypes
import numpy as np
import pytest
from sketched_tensors import BASES, add, base, normal, query

import hartonomous as hn
from hartonomous.core.array import dtype_name
from hartonomous.packs.base_search import BaseSearch, sketches_of
from hartonomous.packs.first_look import MOST_TENSORS, FirstLook, can_be_looked_at
from hartonomous.packs.looks import MOST_BYTES, Looks
from hartonomous.packs.sign_table import SignTable

SMALL = ("square", "wide", "norm", "convolution")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    with hn.open(folder / "store", create=True, settings={"workers": 1}) as opened:
        add(opened, folder, {name: base(name) for name in BASES})
        yield opened


def relatives() -> list[np.ndarray]:
    """Return what resembles stored tensors, and what does not, in turns."""
    found: list[np.ndarray] = []
    for name in SMALL:
        one = base(name)
        found += [one + np.float32(1e-6), normal(BASES[name], 77), one.astype(ml_dtypes.bfloat16)]
        if one.ndim == 2:
            found += [np.ascontiguousarray(one.T), normal(one.T.shape, 78).astype(np.float16)]
    odd = base("square").copy()
    odd[3, :50] = np.nan
    odd[4] = np.inf
    found += [odd, np.zeros((64, 64), np.float32), normal((70, 50), 5).astype(np.float64) * 1e300]
    return found


def held(array: np.ndarray) -> tuple:
    return query(array), memoryview(np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize("limit", [0, 64 << 20])
def test_sketches_and_nearness_are_those_of_each_alone(filled, limit) -> None:
    arrays = relatives() * 3
    batch = [held(array) for array in arrays]
    looks = FirstLook(filled.parts.database, SignTable(limit)).take(batch, search=True)
    alone = BaseSearch(filled.parts.database)
    near = related = 0
    for array, look, (asked, content) in zip(arrays, looks, batch, strict=True):
        assert look.query is asked and look.content is content
        assert look.sketches == sketches_of(query(array))
        with np.errstate(all="ignore"):
            found = alone.candidates(query(array))
        assert look.near or not found
        # What has candidates by the signs is near; in doubt all are.
        near += look.near
        related += bool(found)
        assert not limit or look.near == bool(found)
    assert 0 < related < len(arrays)
    assert near == related if limit else near > related


def test_heads_are_among_the_orders(filled) -> None:
    rows = base("square").reshape(4, 2, 12, 96)
    moved = np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(96, 96)
    content = memoryview(moved.tobytes())
    first = FirstLook(filled.parts.database, SignTable())
    batch = [(query(moved, heads=(4,)), content), (query(moved), content)]
    assert [look.near for look in first.take(batch, search=True)] == [True, False]
    assert not any(look.near for look in first.take(batch, search=False))


def test_what_is_stored_meanwhile_is_found_at_the_next_doubt(tmp_path) -> None:
    with hn.init(tmp_path / "store") as store:
        signs = SignTable()
        first = FirstLook(store.parts.database, signs)
        one = [held(base("norm"))]
        assert not first.take(one, search=True)[0].near
        add(store, tmp_path / "m", {"w": base("norm") + np.float32(1e-6)})
        assert not any(first.take(one, search=True)[0].near for _ in range(63))
        assert first.take(one, search=True)[0].near
        add(store, tmp_path / "n", {"w": base("wide") + np.float32(1e-6)})
        signs.doubt()
        assert first.take([held(base("wide"))], search=True)[0].near


def test_which_can_be_looked_at() -> None:
    assert can_be_looked_at("BF16", (64, 64))
    assert not can_be_looked_at("BF16", (2047,))
    assert not can_be_looked_at("Q8_0", (64, 64))
    assert not can_be_looked_at("U8", (64, 64))
    assert not can_be_looked_at("", (64, 64))
    assert not can_be_looked_at("F32", (192, 64))  # three in one
    assert not can_be_looked_at("F32", (3000, 24))  # a vocabulary


@pytest.mark.parametrize("shape", [(64, 64), (256, 256)])
def test_looks_are_taken_of_many_and_given_out_in_turn(filled, shape) -> None:
    arrays = [normal(shape, seed) for seed in range(300)]
    pieces = dict(enumerate(map(held, arrays), 1))
    del pieces[40]
    asked: list[int] = []

    def small(number: int):
        asked.append(number)
        return pieces.get(number)

    first = FirstLook(filled.parts.database, SignTable())
    looks = Looks(first, small, search=True)
    most, ahead = 0, 0
    for number in range(310):
        if number % 7 == 3:
            continue  # what was stored meanwhile is not asked for
        look = looks.of(number)
        ahead = max([ahead, *asked])
        most = max(most, ahead - number)
        assert (look is None) == (number not in pieces)
        assert look is None or look.query is pieces[number][0]
        assert not look or dtype_name(arrays[number - 1].dtype) == look.query.dtype
    assert 10 < most <= min(MOST_TENSORS, MOST_BYTES // arrays[0].nbytes)
