"""Stores with their catalog on a PostgreSQL server, whose connection is cut at a chosen message."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests.torture import operations
from tests.torture.bench import Answer, Bench, Tally, difference
from tests.torture.proxy import Proxy

MODES = ("before", "after")
_BESIDE = operations.WITH_OTHER | operations.ELSEWHERE
STEPS = [*(one for one in operations.INSIDE if one not in _BESIDE), "repair"]


class CutBench:
    """One store on a server, copied for every try; ``server`` is of tests/engines."""

    def __init__(self, bench: Bench, server: Any) -> None:
        self._bench, self._server = bench, server
        self._socket = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        self._made = bench.base / "on-a-server"
        self._names = 0
        self._states: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._template = self._new_database("template0")
        answer = self._ask("make", self._made, self._template)
        assert answer.keys() == {"acknowledged", "status", "seconds"}, answer

    def close(self) -> None:
        """Drop the databases."""
        for number in range(1, self._names + 1):
            self._drop(self._name(number))

    def _name(self, number: int) -> str:
        return f"torture_{self._bench.base.name[-8:].lower()}_{number}"

    def _new_database(self, template: str) -> str:
        self._names += 1
        name = self._name(self._names)
        self._server.say(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return name

    def _drop(self, name: str) -> None:
        self._server.say(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _ask(self, what: str, store: Path, database: str, folder: Path | None = None, **words: Any
             ) -> Answer:  # fmt: skip
        where = quote(str(folder or self._socket), safe="")
        return self._bench.plain.ask(
            what, store=str(store), files=str(self._bench.files), out=str(self._bench.base / "out"),
            catalog=f"postgresql://tests@/{database}?host={where}", **words,
        )  # fmt: skip

    def _look(self, store: Path, database: str, *, repair: bool = False) -> Answer:
        return self._ask(
            "observe", store, database, collect=True, may_need_repair=False, repair=repair
        )

    def _run(self, step: str, store: Path, database: str, proxy: Path) -> Answer:
        return self._ask("run", store, database, proxy, steps=[step], again=step in _AGAIN)

    def count(self, step: str) -> int:
        """Return how many messages a step sends that have the server do something."""
        if step not in self._counts:
            store, database = self._fresh()
            folder = self._bench.base / "proxy"
            with Proxy(folder, self._socket) as proxy:
                done = self._run(step, store, database, folder)
            assert done["acknowledged"] == 1, done
            self._counts[step] = proxy.count
            found = self._look(store, database)
            assert found.get("wrong") == [], found
            self._states[step] = found["state"]
            self._drop(database)
        return self._counts[step]

    def _before(self) -> Any:
        if "" not in self._states:
            store, database = self._fresh()
            self._states[""] = self._look(store, database)["state"]
            self._drop(database)
        return self._states[""]

    def _fresh(self) -> tuple[Path, str]:
        store = self._bench.base / "store"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self._made, store)
        return store, self._new_database(self._template)

    def try_cut(self, step: str, mode: str, nth: int) -> Tally:
        """Do a step whose connection is cut at the n-th message; look at what is left."""
        self.count(step)
        states = [self._before(), self._states[step]]
        tally = Tally(tried=1)
        store, database = self._fresh()
        folder = self._bench.base / "proxy"
        with Proxy(folder, self._socket, nth=nth, mode=mode) as proxy:
            done = self._run(step, store, database, folder)
        tally.hit = int(proxy.was_cut)
        wrong = [f"{name}: {done[name]}" for name in ("crashed", "refused") if name in done]
        if done["status"]:
            wrong.append(f"ended with {done['status']}")
        told = min(int(done["acknowledged"]), 1)
        tally.acknowledged = told
        found = self._look(store, database)
        if found.get("left"):
            tally.left = 1
            wrong += found["wrong"]
            found = self._look(store, database, repair=True)
        wrong += found.get("wrong", [f"cannot be looked at: {found}"])
        if found.get("state") not in states[told:]:
            tally.lost = told
            wrong.append(f"shows what it must not: {difference(found.get('state'), states[told:])}")
        self._drop(database)
        tally.wrong = [f"{step}, cut {mode} message {nth}: {one}" for one in wrong]
        return tally


_AGAIN = {"add", "label", "gc", "repack", "verify", "repair"}
"""Steps that succeed when they are tried again, even where the cut came behind the last message."""
