"""Writing past the page cache: the same bytes as the ordinary way, whatever the places."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.packs import direct_file
from hartonomous.packs.direct_file import BLOCK_BYTES, DirectFile, aligned_memory

_SIZE = 1_300_000
_CONTENT = np.random.default_rng(5).bytes(_SIZE)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """Return a new file's descriptor."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield descriptor
    os.close(descriptor)


def _buffer(at: int, length: int) -> memoryview:
    memory = aligned_memory(length + BLOCK_BYTES)[at % BLOCK_BYTES :][:length]
    memory[:] = _CONTENT[at : at + length]
    return memory


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, _SIZE + 1, 0)


def _is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def _knows_direct(descriptor: int) -> bool:
    try:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


@given(
    cuts=st.lists(st.integers(1, _SIZE - 1), max_size=6, unique=True).map(sorted),
    order=st.randoms(use_true_random=False),
    cached=st.booleans(),
)
def test_pieces_at_any_places_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], order: object, cached: bool
) -> None:
    """What is written in pieces, wherever they end, is the whole file."""
    pieces = list(zip([0, *cuts], [*cuts, _SIZE], strict=True))
    order.shuffle(pieces)  # type: ignore[attr-defined]
    with (
        (tmp_path_factory.mktemp("direct") / "file").open("w+b") as file,
        DirectFile(file.fileno(), cached=cached) as target,
    ):
        for begin, end in pieces:
            target.write(_buffer(begin, end - begin), begin)
        assert _whole(file.fileno()) == _CONTENT


def test_threads_at_once(opened: int) -> None:
    """Pieces that share blocks at their edges do not write over each other."""
    step = 290_001
    with DirectFile(opened) as target, ThreadPoolExecutor(4) as pool:
        starts = range(0, _SIZE, step)
        list(pool.map(lambda at: target.write(_buffer(at, min(step, _SIZE - at)), at), starts))
    assert _whole(opened) == _CONTENT


def _recorded(
    monkeypatch: pytest.MonkeyPatch, refuse: Callable[[int], int | None] = lambda _: None
) -> list[tuple[bool, int, int]]:
    """Note each write as (direct, length, offset); ``refuse`` gives the error of one, or None."""
    calls: list[tuple[bool, int, int]] = []
    pwrite = os.pwrite

    def noted(descriptor: int, content: memoryview, at: int) -> int:
        direct = _is_direct(descriptor)
        calls.append((direct, len(content), at))
        if direct and (number := refuse(len(calls))) is not None:
            raise OSError(number, os.strerror(number))
        return pwrite(descriptor, content, at)

    monkeypatch.setattr(os, "pwrite", noted)
    return calls


def test_whole_blocks_go_past_the_cache(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whole blocks do, and all but the edges; with ``cached`` nothing does."""
    calls = _recorded(monkeypatch)
    with DirectFile(opened) as target:
        target.write(_buffer(100, _SIZE - 100), 100)
    past = [(length, at) for direct, length, at in calls if direct]
    assert all(length % BLOCK_BYTES == at % BLOCK_BYTES == 0 for length, at in past)
    if _knows_direct(opened):
        assert sum(length for length, _ in past) > _SIZE - 3 * BLOCK_BYTES
    calls.clear()
    with DirectFile(opened, cached=True) as target:
        target.write(_buffer(0, _SIZE), 0)
    assert [direct for direct, _, _ in calls] == [False]
    assert _whole(opened) == _CONTENT


def test_a_file_system_that_refuses_gets_ordinary_writes(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EINVAL says that memory or offset do not suit it."""
    calls = _recorded(monkeypatch, lambda _: errno.EINVAL)
    with DirectFile(opened) as target:
        target.write(_buffer(0, _SIZE), 0)
    assert not calls[-1][0]
    assert _whole(opened) == _CONTENT


def test_a_system_without_such_a_way(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot be opened so, everything goes through the cache."""
    monkeypatch.delattr(os, "O_DIRECT")
    with DirectFile(opened) as target:
        target.write(_buffer(0, _SIZE), 0)
    assert _whole(opened) == _CONTENT


def test_memory_that_lies_otherwise(opened: int) -> None:
    """What is not where it should be in memory is written all the same."""
    memory = memoryview(bytearray(_SIZE + 1))[1:]
    memory[:] = _CONTENT
    with DirectFile(opened) as target:
        target.write(memory, 0)
    assert _whole(opened) == _CONTENT


def test_a_full_disk_is_told(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other errors than a refusal are raised."""
    monkeypatch.setattr(direct_file, "_past_the_cache", os.dup)
    monkeypatch.setattr(os, "pwrite", _full)
    with DirectFile(opened) as target, pytest.raises(OSError) as raised:
        target.write(_buffer(0, _SIZE), 0)
    assert raised.value.errno == errno.ENOSPC


def _full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
