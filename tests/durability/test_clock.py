"""A clock that stands still, runs backwards or is years ahead: what was acknowledged stays so.

A publication that died has records with the number that the next one takes; the times tell the two
apart, so they must grow whatever the clock says.
"""

from pathlib import Path

import pytest
from tests.durability.test_unacknowledged import die, names

import hartonomous as hn
from hartonomous.catalog import properties

YEAR_US = 365 * 86_400_000_000
_DIE_AT = """
import dataclasses
import hartonomous.opening as door
door.now_us = lambda: {time_us}
Publication.finish = seal_and_die
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with hn.open(tmp_path / "store", create=True) as store:
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(name.encode() * 1000)
            store.add(tmp_path / name)
    return tmp_path / "store"


def last_us(place: Path) -> int:
    with hn.open(place) as store, store.parts.database.read() as tx:
        return properties.last_publication(tx)[1]


def cut_power(place: Path, before: bytes) -> None:
    """Put the catalog back as a power cut does that took what was not synced."""
    for ending in ("-wal", "-shm"):
        (place / f"catalog.sqlite3{ending}").unlink(missing_ok=True)
    (place / "catalog.sqlite3").write_bytes(before)
    with hn.open(place) as store, store.parts.database.write() as tx:
        properties.put(tx, "boot", "another run of the machine")


@pytest.mark.parametrize("cut", ["killed", "power"])
@pytest.mark.parametrize(
    ("died", "later"),
    [
        (0, 0),  # the clock stands still
        (50, 10),  # it was set back between the two
        (-YEAR_US, -YEAR_US),  # it has been behind the store's last time all along
        (-YEAR_US, -2 * YEAR_US),
        (YEAR_US, 1),  # it was far ahead for a while
        (200 * YEAR_US, -YEAR_US),
        (1, 200 * YEAR_US),
    ],
)
def test_what_died_stays_dead_and_what_was_acknowledged_counts(
    place: Path, monkeypatch: pytest.MonkeyPatch, died: int, later: int, cut: str
) -> None:
    known = last_us(place)
    catalog = (place / "catalog.sqlite3").read_bytes()
    die(place, "store.rm('one')", at=_DIE_AT.format(time_us=known + died))
    if cut == "power":
        cut_power(place, catalog)
    monkeypatch.setattr("hartonomous.opening.now_us", lambda: known + later)
    with hn.open(place) as store:
        store.label("two", "prod")  # takes the number of the removal that died
        store.label("one", "kept")
    expected = {"one": ("kept",), "two": ("prod",)}
    assert names(place) == expected
    report = hn.repair(place)
    assert (report.recovered, report.lost) == ((), ())
    assert names(place) == expected
    with hn.open(place) as store:
        store.label("one", "after")
    assert hn.repair(place).recovered == ()
    assert names(place) == {"one": ("after", "kept"), "two": ("prod",)}


def test_times_of_publications_grow_whatever_the_clock_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = last_us(place)
    for clock in (known, known - YEAR_US, known, known + YEAR_US, 0, known + 5):
        monkeypatch.setattr("hartonomous.opening.now_us", lambda clock=clock: clock)
        with hn.open(place) as store:
            store.label("one", "a")
            store.unlabel("one", "a")
        before, known = known, last_us(place)
        assert known > before
