"""What the tests of the whole store share: quick stores, and a way to change bytes on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs import directory


class _KeptParser(ParserProcess):
    """The parser's child process, kept from one add to the next: starting it takes longest."""

    def close(self) -> None:
        """Stay; the fixture ends it."""

    def end(self) -> None:
        super().close()


@pytest.fixture(autouse=True, scope="package")
def _one_parser() -> Iterator[None]:
    parser = _KeptParser()
    patch = pytest.MonkeyPatch()
    patch.setattr(directory, "ParserProcess", lambda: parser)
    yield
    patch.undo()
    parser.end()


@pytest.fixture(autouse=True)
def _each_engine(catalog_engine: str) -> None:
    """Run every test of this folder with its catalogs in SQLite, and in PostgreSQL."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hn.Store]:
    with hn.open(tmp_path / "store", create=True, settings={"workers": 2}) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """Write a file below a folder for sources and return its path."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write
