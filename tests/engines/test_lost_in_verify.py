"""A connection that is lost while a verification asks is no damage of the store."""

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
