"""What the tests of the change feed share: stores on both engines, without a child that parses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.packs import directory


@pytest.fixture(autouse=True)
def _parse_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "ParserProcess", DirectParser)  # starting a child takes longest


@pytest.fixture
def store(tmp_path: Path, catalog_engine: str) -> Iterator[hn.Store]:
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write a file below a folder for sources and return its path."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write
