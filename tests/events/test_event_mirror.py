"""Who follows the feed knows what is in the store: names, versions, labels, relations."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import Mirror, shown_by
from told import told

import hartonomous as hn
from hartonomous.errors import HartonomousError

NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.sampled_from(["prod", "best"])
STEPS = st.one_of(
    st.tuples(st.just("add"), NAMES, st.lists(LABELS, max_size=2, unique=True)),
    st.tuples(st.just("label"), NAMES, st.integers(1, 3), LABELS),
    st.tuples(st.just("unlabel"), NAMES, LABELS),
    st.tuples(st.just("mv"), NAMES, NAMES),
    st.tuples(st.just("rm"), NAMES, st.none() | st.integers(1, 3)),
    st.tuples(st.just("undo"), st.integers(0, 5)),
    st.tuples(st.just("relate"), NAMES, NAMES),
    st.tuples(st.just("unrelate"), NAMES, NAMES),
    st.tuples(st.just("gc"), st.sampled_from([0, 30])),
)


def do(store: hn.Store, folder, step: tuple, count: int) -> None:
    match step:
        case ("add", name, labels):
            path = folder / name
            path.write_bytes(b"%d" % count)
            store.add(path, name=name, labels=labels)
        case ("label", name, number, label):
            store.label(f"{name}@{number}", label)
        case ("unlabel", name, label):
            store.unlabel(name, label)
        case ("mv", name, other):
            store.mv(name, other)
        case ("rm", name, number):
            store.rm(name if number is None else f"{name}@{number}")
        case ("undo", back):
            log = store.log(only_undoable=True)
            store.undo(log[min(back, len(log) - 1)].sequence if log else None)
        case ("relate", name, other):
            store.relate(name, "fine-tune-of", other)
        case ("unrelate", name, other):
            store.unrelate(name, "fine-tune-of", other)
        case ("gc", days):
            store.gc(trash_days=days, grace_s=0)


@settings(max_examples=12)
@given(st.lists(STEPS, min_size=4, max_size=24))
def test_the_events_say_what_is_in_the_store(tmp_path_factory, monkeypatch, steps):
    monkeypatch.delenv("HARTONOMOUS_CATALOG_URL", raising=False)
    base = tmp_path_factory.mktemp("mirror")
    mirror, since = Mirror(), "beginning"
    with hn.open(base / "store", create=True, settings={"workers": 1}) as store:
        for count, step in enumerate([("add", "a", []), ("add", "b", ["prod"]), *steps]):
            with contextlib.suppress(HartonomousError):  # refused: then nothing may be told
                do(store, base, step, count)
            for event in told(store, since):
                mirror.hear(event)
                since = event.id
            assert mirror.shown() == shown_by(store), step
