"""Stores that many use at once have their catalog in SQLite, and in PostgreSQL."""

import pytest


@pytest.fixture(autouse=True)
def _each_engine(catalog_engine: str) -> None:
    """Run every test of this folder on both engines."""
