from collections.abc import Iterator
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store, which is also the one that is found."""
    monkeypatch.setenv("HARTONOMOUS_STORE", str(tmp_path / "store"))
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened
