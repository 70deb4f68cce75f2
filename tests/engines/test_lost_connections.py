"""A connection that is lost: no damage for a verification, and told once, in our own words."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from postgres_server import end_connections

import hartonomous as hn
from hartonomous.errors import HartonomousError
from hartonomous.packs import index_checks, journal_check


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (journal_check._Check, "run"),
        (index_checks, "index_damage"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_lost_connection_is_no_damage(
    served: hn.Store, source: Callable[..., Path], postgres_url: str,
    monkeypatch: pytest.MonkeyPatch, where: Any, what: str,
) -> None:  # fmt: skip
    served.add(source("note.txt", b"a note of some words " * 40))
    assert served.search("note").hits  # so that there is an index
    real = getattr(where, what)

    def lost(*given: Any) -> Any:
        end_connections(postgres_url)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(where, what, lost)
        with pytest.raises(HartonomousError, match="went away"):
            served.verify()
    assert served.verify().sound


_LOSE_ONE = """
import sys
sys.path.insert(0, sys.argv[2])
from postgres_server import end_connections
import hartonomous as hn

try:
    with hn.open(sys.argv[1]) as store, store.parts.database.write() as tx:
        end_connections(sys.argv[3])
        tx.exec_driver_sql("UPDATE artifact SET id = id WHERE id = %s", [(1,), (2,)])
except hn.HartonomousError as error:
    print(error)
"""


def test_the_driver_says_nothing_of_its_own(served: hn.Store, postgres_url: str) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", _LOSE_ONE, str(served.path), here, postgres_url],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "went away" in done.stdout
    assert not done.stderr
