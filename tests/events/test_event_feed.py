"""The feed itself: its order, late commits, cursors, and what leaves it."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select, text, update
from sqlalchemy.event import listen, remove
from told import told

import hartonomous as hn
from hartonomous.catalog import event_cursors, events
from hartonomous.catalog.schema import event
from hartonomous.core.event import BEGINNING, Position, parse_position, parse_since, source_of
from hartonomous.errors import IntegrityError, NotFoundError, UsageError
from hartonomous.operations.events import Wanted

KIND = "store.collected"


def put(store: hn.Store, *numbers: int, now_us: int = 10**15) -> None:
    with store.parts.database.write() as tx:
        for number in numbers:
            events.append(tx, KIND, f"s{number % 3}", {"number": number}, now_us=now_us)


def numbers(found) -> list[int]:
    """Return the numbers of the events that the tests put there."""
    return [one.data["number"] for one in found if "number" in one.data]


def positions(found) -> list[Position]:
    made = [parse_position(one.id) for one in found]
    assert None not in made
    return made  # type: ignore[return-value]


# -- late commits


@pytest.mark.parametrize("catalog_engine", ["postgresql"], indirect=True)
def test_a_late_commit_is_lost_by_ids_and_not_by_the_feed(store):
    """On PostgreSQL transactions end in another order than that of their ids; SQLite has one."""
    put(store, 0)
    database = store.parts.database
    with contextlib.ExitStack() as late:
        slow = late.enter_context(database.write(alone=False))
        events.append(slow, KIND, "s", {"number": 1}, now_us=1)  # has the smaller id
        with database.write(alone=False) as quick:
            events.append(quick, KIND, "s", {"number": 2}, now_us=1)
        with database.read() as tx:
            seen_by_id = list(tx.execute(select(event.c.id, event.c.data).order_by(event.c.id)))
            last_id = seen_by_id[-1].id
            assert len(seen_by_id) == 2
            first = events.after(tx, BEGINNING, limit=9)
            assert [one.data["number"] for one in first] == [0]
            assert events.last(tx) == first[-1].position
            assert events.behind(tx, BEGINNING) == 1
    with database.read() as tx:
        beyond = select(event.c.id).where(event.c.id > last_id)
        assert tx.execute(beyond).all() == []  # number 1 is there now and would never be read
        rest = events.after(tx, first[-1].position, limit=9)
        assert [one.data["number"] for one in rest] == [1, 2]


@pytest.mark.parametrize("catalog_engine", ["postgresql"], indirect=True)
def test_what_is_taken_back_is_no_hole_that_anybody_waits_at(store):
    database = store.parts.database
    with contextlib.suppress(InterruptedError), database.write(alone=False) as tx:
        events.append(tx, KIND, "s", {"number": 1}, now_us=1)
        raise InterruptedError
    put(store, 2)
    assert numbers(store.events()) == [2]


def test_order_and_pages(store):
    put(store, *range(450))
    put(store, *range(450, 470))
    found = list(store.events())
    assert numbers(found) == list(range(470))
    assert all(a < b for a, b in pairwise(positions(found)))
    assert numbers(store.events(since=found[-3].id)) == [468, 469]
    assert numbers(store.events(subjects=["s1"], limit=200)) == list(range(1, 600, 3))[:157]
    assert numbers(store.events(types=["artifact.*", "store.c*"], limit=3)) == [0, 1, 2]
    assert list(store.events(types=["artifact.*"])) == []


# -- where reading begins


def test_where_reading_begins(store):
    second = 1_000_000
    now = store.parts.clock()
    put(store, 1, now_us=now - 7200 * second)
    put(store, 2, now_us=now - 60 * second)
    assert numbers(store.events()) == numbers(store.events(since="beginning")) == [1, 2]
    assert numbers(store.events(since="now")) == []
    assert numbers(store.events(since="1h")) == [2]
    assert numbers(store.events(since="2001-09-09T01:46:40Z")) == [1, 2]
    assert numbers(store.events(since="2900-01-01")) == []
    one, two = store.events()
    assert numbers(store.events(since=one.id)) == [2]
    assert parse_since("2001-09-09T03:46:40+02:00", 0).time_us == 10**9 * second
    assert parse_since("2001-09-09T01:46:40", 0).time_us == 10**9 * second
    for wrong in ("", "yesterday", "1.2", "g.0.1", "-1h", "x" * 10_000, "f" * 17 + ".0.1"):
        with pytest.raises(UsageError, match="no place in the feed"):
            store.events(since=wrong)
    place = positions([two])[0]
    for elsewhere in (place._replace(number=place.number + 1), place._replace(era=place.era + 1)):
        with pytest.raises(NotFoundError, match="no event"):
            store.events(since=str(elsewhere))
    with pytest.raises(UsageError):
        store.events(limit=0)
    for wrong in ("", " ", "a b", "x" * 65, "é"):
        with pytest.raises(UsageError):
            store.events(consumer=wrong)


def test_a_source_is_a_uri_whatever_the_store_says_of_itself():
    assert source_of("0" * 32) == "urn:uuid:00000000-0000-0000-0000-000000000000"
    assert source_of("../a b\n") == "hartonomous/..%2Fa%20b%0A"


def test_following_gets_what_comes_and_ends_at_its_limit(store):
    put(store, 1)
    reading = store.events(follow=True, limit=3)  # from now on
    put(store, 2, 3)
    assert numbers([next(reading), next(reading)]) == [2, 3]
    put(store, 4)
    assert numbers(reading) == [4]


# -- cursors


def test_a_mark_changes_with_what_others_commit_and_with_nothing_else(store):
    database = store.parts.database
    put(store, 1)
    mark = database.mark()
    assert numbers(store.events()) == [1]
    assert database.mark() == mark
    with contextlib.suppress(InterruptedError), database.write() as tx:
        events.append(tx, KIND, "s", {"number": 2}, now_us=1)
        raise InterruptedError
    with database.read() as held:  # keeps the connection that was marked, as other threads do
        assert [one.data["number"] for one in events.after(held, BEGINNING, limit=9)] == [1]
        mark = database.mark()
        put(store, 3)
        assert database.mark() != mark
    assert numbers(store.events()) == [1, 3]


def test_who_waits_looks_again_only_when_something_was_committed(store, monkeypatch):
    looks, pauses = [], []
    after = events.after
    monkeypatch.setattr(
        events, "after", lambda *all, **more: looks.append(1) or after(*all, **more)
    )

    def pause() -> None:
        pauses.append(len(looks))
        if len(pauses) in (3, 6):
            with hn.open(store.path) as other:
                put(other, len(pauses))

    found = store.events.pages(Wanted(follow=True, limit=2), pause)
    assert [numbers(page) for page in found] == [[3], [6]]
    assert pauses == [1, 1, 1, 2, 2, 2]


def test_a_consumer_goes_on_where_it_got_to(store):
    put(store, *range(5))
    reading = store.events(consumer="mine")
    assert numbers([next(reading), next(reading)]) == [0, 1]
    reading.close()  # 1 may not have been dealt with
    assert numbers(store.events(consumer="mine")) == [1, 2, 3, 4]
    assert numbers(store.events(consumer="mine")) == []
    assert numbers(store.events(consumer="other", since="now")) == []
    put(store, 5)
    assert numbers(store.events(consumer="mine", limit=9)) == [5]
    assert numbers(store.events(consumer="other")) == [5]
    assert numbers(store.events(consumer="late", since="now")) == []
    assert [(one.consumer, one.behind_count) for one in store.events.cursors.list()] == [
        ("late", 0), ("mine", 0), ("other", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["transaction_number + 100000", "-5"])
def test_a_damaged_cursor_is_named_and_forgotten(store, change):
    put(store, *range(3))
    for name in ("c1", "c2"):
        assert numbers(store.events(consumer=name)) == [0, 1, 2]
    with store.parts.database.write() as tx:
        statement = f"UPDATE event_cursor SET transaction_number = {change} WHERE consumer = 'c1'"
        tx.execute(text(statement))
    put(store, 3)
    with pytest.raises(IntegrityError, match="c1 is damaged") as error:
        list(store.events(consumer="c1"))
    assert "hart events cursors set c1" in str(error.value.hint)
    first, second = store.events.cursors.list()
    assert (first.consumer, second.behind_count, second.damaged) == ("c1", 1, None)
    assert first.damaged
    assert store.events.cursors.set("c1", "beginning").damaged is None
    assert numbers(store.events(consumer="c1")) == [0, 1, 2, 3]
    with store.parts.database.write() as tx:
        tx.execute(text(statement))
    assert store.events.cursors.remove("c1").damaged
    assert numbers(store.events(consumer="c1")) == [0, 1, 2, 3]


def test_an_error_of_who_reads_leaves_the_event_to_be_read_again(store):
    put(store, 1, 2, 3)
    with pytest.raises(InterruptedError):
        for one in store.events(consumer="mine"):
            if one.data["number"] == 2:
                raise InterruptedError
    assert numbers(store.events(consumer="mine"))[-2:] == [2, 3]


def test_what_does_not_fit_is_passed_all_the_same(store):
    put(store, 1, 2, 3)
    assert numbers(store.events(consumer="mine", subjects=["s1"])) == [1]
    assert store.events.cursors.list()[0].behind_count == 0


def test_setting_and_removing(store):
    put(store, 1, 2, 3)
    found = list(store.events())
    assert store.events.cursors.set("mine", found[0].id).behind_count == 2
    assert numbers(store.events(consumer="mine")) == [2, 3]
    assert store.events.cursors.set("mine", "beginning").behind_count == 3
    assert store.events.cursors.set("mine", "now").behind_count == 0
    assert store.events.cursors.remove("mine").consumer == "mine"
    for wrong in (lambda: store.events.cursors.remove("mine"),
                  lambda: store.events.cursors.set("mine", "fffffffffffffff.0.1")):  # fmt: skip
        with pytest.raises(NotFoundError):
            wrong()
    with pytest.raises(UsageError):
        store.events.cursors.set("my name", "now")


def test_a_reader_follows_a_cursor_that_is_moved_under_it(store):
    put(store, 1, 2)
    reading = store.events(consumer="mine", follow=True, limit=6)
    assert numbers([next(reading), next(reading)]) == [1, 2]
    store.events.cursors.set("mine", "beginning")
    assert numbers([next(reading), next(reading)]) == [1, 2]
    store.events.cursors.remove("mine")
    with pytest.raises(NotFoundError, match="mine"):
        next(reading)


# -- what leaves the feed


def test_old_events_go_when_every_consumer_has_passed_them(store):
    now, day = store.parts.clock(), 86_400_000_000
    put(store, *range(1200), now_us=now - 100 * day)
    put(store, 1200, now_us=now - 80 * day)
    put(store, 1201, now_us=now - 100 * day)  # behind one that stays
    first = next(iter(store.events()))
    assert numbers(store.events(consumer="slow", limit=1100))[-1] == 1099
    list(store.events(consumer="quick"))
    assert store.gc(dry_run=True).event_count == store.gc().event_count == 1100
    assert store.gc(dry_run=True).event_count == store.gc().event_count == 0
    assert numbers(store.events(consumer="slow"))[:102] == list(range(1100, 1202))
    with pytest.raises(NotFoundError, match="gone from the feed"):
        store.events(since=first.id)
    assert store.gc(dry_run=True).event_count == store.gc().event_count == 100
    left = list(store.events())
    assert numbers(left) == [1200, 1201]
    store.events.cursors.remove("slow")
    store.events.cursors.remove("quick")


def test_the_setting_says_how_long_events_stay(tmp_path, catalog_engine):
    with hn.open(tmp_path / "s", create=True, settings={"event_days": 0}) as store:
        put(store, 1, now_us=store.parts.clock() - 1)
        assert store.gc().event_count == 1
        assert [one.type for one in told(store)] == ["store.collected"]
        store.gc()
        assert list(store.events(since="now")) == []


def test_a_new_era_is_behind_all_former_ones(store):
    put(store, 1)
    (one,) = store.events()
    with store.parts.database.write() as tx:
        events.begin_era(tx, now_us=5)  # a clock that was set back
    put(store, 2)
    first, second = positions(store.events())
    assert second.era > first.era
    assert numbers(store.events(since=one.id)) == [2]


@pytest.mark.parametrize("foreign", [1, 2**60])
def test_rows_that_came_from_another_database_are_in_front_of_new_ones(store, foreign):
    """As after a dump that was restored elsewhere, or a copy from one engine to the other."""
    put(store, 1, 2)
    with store.parts.database.write() as tx:
        tx.execute(update(event).values(transaction_number=foreign))
    assert numbers(store.events()) == [1, 2]
    last = list(store.events())[-1]
    put(store, 3)
    put(store, 4)
    assert numbers(store.events()) == [1, 2, 3, 4]
    assert numbers(store.events(since=last.id)) == [3, 4]
    eras = [one.era for one in positions(store.events())]
    assert len(set(eras[2:])) == 1, "one era begins, not one with each event"


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
def test_reading_on_searches_the_index(store):
    """Of SQLite; PostgreSQL reads a table of few rows as a whole."""
    found = []

    def explain(connection, cursor, statement, parameters, context, many) -> None:
        if "FROM event" in statement:
            other = cursor.connection.cursor()
            rows = other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            found.append([row[-1] for row in rows])

    engine = store.parts.database.engine
    listen(engine, "before_cursor_execute", explain)
    with store.parts.database.read() as tx:
        events.after(tx, Position(5, 0, 7), limit=9)
    remove(engine, "before_cursor_execute", explain)
    ranges = ("era=? AND transaction_number=? AND id>?", "era=? AND transaction_number>?", "era>?")
    assert found == [[f"SEARCH event USING INDEX ix_event_place ({one})"] for one in ranges]


def test_data_that_no_writer_puts_there_is_damage(store):
    put(store, 1)
    for data in ("[]", "{", '{"a": ' + "[" * 5000, "{" + " " * 70_000 + "}"):
        with store.parts.database.write() as tx:
            tx.execute(update(event).values(data=data))
        with pytest.raises(IntegrityError, match="the catalog is damaged"):
            list(store.events())


# -- any order of everything


class Cursors(RuleBasedStateMachine):
    """Consumers that stop anywhere miss nothing, whatever is written, shed or set meanwhile."""

    place: Iterator[hn.Store]

    @initialize(writers=st.integers(1, 3))
    def begin(self, writers):
        self.store = self.make_store()
        self.written: list[int] = []
        self.got: dict[str, list[int]] = {}
        self.begun: dict[str, int] = {}

    @rule(count=st.integers(1, 7))
    def write(self, count):
        new = list(range(len(self.written), len(self.written) + count))
        put(self.store, *new)
        self.written += new

    def _start(self, name):
        if name not in self.got:
            self.got[name] = []
            left = numbers(self.store.events())
            self.begun[name] = left[0] if left else len(self.written)

    @rule(name=st.sampled_from("ab"), limit=st.integers(1, 9))
    def read(self, name, limit):
        self._start(name)
        self.got[name] += numbers(self.store.events(consumer=name, limit=limit))

    @rule(name=st.sampled_from("ab"), count=st.integers(0, 5), fails=st.booleans())
    def stop_in_the_middle(self, name, count, fails):
        """Read some events and go away: of the last one nobody knows whether it was dealt with."""
        self._start(name)
        reading = self.store.events(consumer=name)
        heard = numbers(one for one, _ in zip(reading, range(count), strict=False))
        if fails:
            with contextlib.suppress(InterruptedError, StopIteration):
                reading.throw(InterruptedError)
        else:
            reading.close()
        self.got[name] += heard

    @rule(name=st.sampled_from("ab"))
    def begin_again(self, name):
        if name in self.got:
            self.store.events.cursors.set(name, "beginning")

    @rule()
    def shed(self):
        parts = self.store.parts
        with parts.database.write() as tx:
            up_to = event_cursors.least(tx)
            far = 2 * 10**15
            found = events.sheddable(tx, before_us=far, up_to=up_to, limit=5)
            foreseen = events.count_sheddable(tx, before_us=far, up_to=up_to)
            assert len(found) == min(foreseen, 5)
            if up_to is not None:  # else all would go
                events.shed(tx, found)

    @invariant()
    def nothing_is_missed(self):
        for name, heard in getattr(self, "got", {}).items():
            with self.store.parts.database.read() as tx:
                row = event_cursors.find(tx, name)
                assert row is not None
                waiting = events.behind(tx, row.position)
            first = list(dict.fromkeys(heard))
            # The first time each comes in order, and what was passed was heard.
            assert first == list(range(self.begun[name], self.begun[name] + len(first)))
            assert self.begun[name] + len(first) >= len(self.written) - waiting

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


def test_consumers_miss_nothing_whatever_happens(tmp_path_factory, catalog_engine):
    class Here(Cursors):
        def make_store(self):
            place = tmp_path_factory.mktemp("cursors") / "store"
            return hn.open(place, create=True, settings={"workers": 1})

    Here.TestCase.settings = settings(max_examples=10, stateful_step_count=25)
    Here.TestCase().runTest()
