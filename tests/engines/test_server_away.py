"""A server that was restarted, or is away for a while, under a store that stays open."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from postgres_server import Server, end_connections
from sqlalchemy import text

import hartonomous as hn
from hartonomous.catalog import jobs
from hartonomous.core.job import Ending, Job, Status
from hartonomous.errors import HartonomousError, UnreachableError
from hartonomous.operations.events import Wanted
from hartonomous.worker import running, supervisor
from hartonomous.worker.slot import Slot
from hartonomous.worker.supervisor import Until, Worker


class Away:
    """Lets nobody into a database, and ends whoever is there, as a server does that stops."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self._url = server, url
        self._name = urlsplit(url).path.lstrip("/")

    def go(self) -> None:
        self._server.say(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._server.say(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{self._name}'"
        )

    def come(self) -> None:
        self._server.say(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")


@pytest.fixture
def away(postgres_server: Server, postgres_url: str) -> Iterator[Away]:
    made = Away(postgres_server, postgres_url)
    yield made
    made.come()


def test_a_server_that_was_restarted_meanwhile_is_no_error(
    served: hn.Store, source: Callable[..., Path], away: Away
) -> None:
    for number in range(3):
        served.stats()
        away.go()
        away.come()
        served.add(source(f"{number}.txt", b"some words"))
    assert served.stats().artifact_count == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.jobs.list(),
        lambda store: store.spaces.list(),
        lambda store: store.encoders.ls(),
        lambda store: store.events.cursors.list(),
        lambda store: store.views.list().kinds,
    ],
    ids=["jobs", "spaces", "encoders", "events", "views"],
)
def test_what_a_store_keeps_goes_on_after_a_restart(
    served: hn.Store, source: Callable[..., Path], away: Away, use: Callable[[hn.Store], object]
) -> None:
    served.add(source("a.txt", b"some words"), name="a")
    before = use(served)
    away.go()
    away.come()
    assert use(served) == before


def test_a_server_that_is_away_is_told_by_a_kind_of_its_own(served: hn.Store, away: Away) -> None:
    away.go()
    with pytest.raises(UnreachableError, match="cannot be reached, or went away"):
        served.stats()
    assert UnreachableError.exit_code == 75


def test_work_that_goes_on_for_long_hears_of_a_loss_that_something_else_found(
    served: hn.Store, away: Away
) -> None:
    database = served.parts.database
    steady = database.steady()
    away.go()
    away.come()
    database.refresh()
    with pytest.raises(HartonomousError, match="in the middle of the work"), steady.write():
        pass
    with database.write() as tx:
        assert tx.execute(text("SELECT 1")).scalar() == 1


def test_who_follows_the_feed_waits_for_the_server(served: hn.Store, away: Away) -> None:
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        time.sleep(0.001)
        if len(pauses) == 2:
            away.go()
        elif len(pauses) == 30:
            away.come()
        elif len(pauses) == 60:
            with hn.open(served.path) as other:
                other.jobs.add_schedule("nightly", "gc", every_s=86_400)
                other.add(Path(__file__))

    wanted = Wanted(follow=True, consumer="mirror", types=("artifact.added",), limit=1)
    ((found,),) = served.events.pages(wanted, pause)
    assert found.subject == "test_server_away.py"
    (cursor,) = served.events.cursors.list()
    assert cursor.position == found.id
    away.go()
    with pytest.raises(UnreachableError):  # who does not follow is told at once
        list(served.events())


def test_the_end_of_a_job_is_written_when_the_server_is_back(served: hn.Store, away: Away) -> None:
    job_id = served.jobs.submit("gc").id
    with served.parts.database.write() as tx:
        (claimed,) = jobs.claim(tx, worker="w", now_us=served.parts.clock(), limit=1)
    away.go()
    late = threading.Timer(1.5, away.come)
    late.start()
    ending = Ending(id=claimed.id, epoch=claimed.epoch, status=Status.DONE)
    assert running._finish(served.parts, ending)
    late.join()
    assert served.jobs.get(job_id).status == Status.DONE


def test_the_end_of_a_job_is_given_up_with_its_lease(
    served: hn.Store, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LEASE_S", 0)
    away.go()
    with pytest.raises(UnreachableError):
        running._finish(served.parts, Ending(id=1, epoch=1, status=Status.DONE))


def leaving(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server go away when the next job is given to a child, which has not begun it yet."""
    give = Slot.give

    def give_and_go(slot: Slot, job: Job) -> None:
        give(slot, job)
        monkeypatch.setattr(Slot, "give", give)
        away.go()

    monkeypatch.setattr(Slot, "give", give_and_go)


def new_worker(served: hn.Store, tell: Callable[[str], None]) -> Worker:
    return Worker(
        served.path, settings={}, processes=1, drain_s=1, tell=tell,
        clock=lambda: time.time_ns() // 1000,
    )  # fmt: skip


def test_a_worker_writes_the_end_of_what_could_not_begin_when_the_server_is_back(
    served: hn.Store, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = served.jobs.submit("gc").id
    leaving(away, monkeypatch)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if line.startswith("cannot use the catalog"):
            threading.Timer(3, away.come).start()

    worked = new_worker(served, tell).run(Until.EMPTY)
    assert (worked.done, worked.failed, worked.lost) == (1, 1, 0), lines
    assert served.jobs.get(job_id).status == Status.DONE


def test_a_worker_gives_up_an_end_with_its_lease(
    served: hn.Store, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.jobs.submit("gc")
    leaving(away, monkeypatch)
    monkeypatch.setattr(supervisor, "LEASE_S", 0)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if line.endswith(": lost"):
            away.come()

    worked = new_worker(served, tell).run(Until.EMPTY)
    assert (worked.done, worked.failed, worked.lost) == (0, 0, 1), lines
    assert any("could not be written" in one for one in lines)


def test_connections_that_others_have_are_left_to_them(served: hn.Store, postgres_url: str) -> None:
    database: Any = served.parts.database
    with database.read() as tx:
        database.refresh()
        assert tx.execute(text("SELECT 1")).scalar() == 1
    end_connections(postgres_url)
    with hn.open(served.path) as other:
        assert other.stats().artifact_count == 0
