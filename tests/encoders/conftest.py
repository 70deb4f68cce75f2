"""A store, and the tiny encoders of ``tests/fixtures/encoders`` with what they have to give."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hartonomous as hn

FIXTURES = Path(__file__).parents[1] / "fixtures" / "encoders"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hn.Store]:
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as opened:
        yield opened


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    return json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES
