"""Stores with their catalog on a server, and a quick parser for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.packs import directory


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARTONOMOUS_CATALOG_URL", raising=False)
    monkeypatch.setattr(directory, "ParserProcess", DirectParser)


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Write a file below a folder for sources and return its path."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def served(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[hn.Store]:
    """Yield a store whose catalog is on a server; the environment says how to reach it."""
    monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", postgres_url)
    with hn.init(tmp_path / "store") as store:
        yield store
