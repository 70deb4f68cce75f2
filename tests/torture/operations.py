"""What is done to a store under faults, and the files it is done with.

A step is one call of the public interface; its end is its acknowledgement. Another branch adds a
step here, and it is tried like the others.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.place import Place
from hartonomous.errors import HartonomousError
from hartonomous.opening import sync_stores
from hartonomous.packs import vector_search
from hartonomous.packs.open_files import find_version
from hartonomous.packs.space_writer import find_space, writing
from hartonomous.vectors.graph import GraphIndex
from hartonomous.vectors.scan import ScanIndex

SOUGHT = "tried came base"
"""Words that documents, models and tensors of the store have."""
SETTINGS = {"pack_bytes": 1 << 20, "workers": 1}
SPACES = {"scanned": "scan", "walked": "graph"}
"""Spaces of the store whose bits are flipped, and the index of each."""
_FEW, _WIDE = 32, 16
Work = Callable[[Path, Path], None]


def _noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def _weights(seed: int, *, moved: float = 0.0) -> bytes:
    """Return a file of two tensors; those of one seed resemble each other."""
    wide = np.random.default_rng(seed).standard_normal((48, 64), np.float32)
    step = np.random.default_rng(seed + 100).standard_normal(wide.shape, np.float32)
    return bytes(save({"wide": wide + np.float32(moved) * step, "bias": wide[0, :16]}))


def write_files(folder: Path) -> None:
    """Write the files that steps add; the same ones every time."""
    contents = {
        "base.safetensors": _weights(1),
        "tuned.safetensors": _weights(1, moved=1e-3),
        "later.safetensors": _weights(1, moved=2e-3),
        "other.safetensors": _weights(5),
        "notes.txt": b"what was tried, and what came of it\n" * 300,
        "junk.bin": _noise(2, 9_000),
        "gone.bin": _noise(3, 7_000),
        "fresh.bin": _noise(4, 20_000),
        "empty.dat": b"",
    }
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def make(store: Path, files: Path) -> None:
    """Make the store that every step begins with: variants, labels, a trash, dead records."""
    with hn.open(store, create=True, settings=SETTINGS) as held:
        held.add([files / "base.safetensors", files / "junk.bin"])
        held.add(files / "tuned.safetensors", labels=["prod"])
        held.add(files / "notes.txt", tags=["text"], metadata={"who": "me"})
        held.add(files / "gone.bin")
        held.rm("gone.bin")
        held.rm("junk.bin")
        held.gc(trash_days=0, grace_s=0)
        held.add(files / "junk.bin")
        held.rm("junk.bin")


def enrich(store: Path, files: Path) -> None:
    """Add what else a catalog can hold: statements, several versions, copies, plain files."""
    with hn.open(store, settings=SETTINGS) as held:
        held.add(files / "later.safetensors", labels=["stable", "prod"], tags=["cached", "t"])
        held.add(files / "fresh.bin", metadata={"from": "nowhere", "why": "no reason"})
        held.add(files / "other.safetensors", name="tuned.safetensors", labels=["next"])
        held.relate("tuned.safetensors@1", "fine-tune-of", "base.safetensors", note="said")
        held.mv("notes.txt", "notes/old.txt")
        held.rm("fresh.bin")
        held.undo()
        held.label("tuned.safetensors@1", "kept")
        held.repack()
        held.plain("later.safetensors")
        held.search(SOUGHT)
        for name, engine in SPACES.items():
            _bring_vectors(held, files, name, engine)


def few_make_an_index() -> None:
    """Give spaces of some dozens of vectors the indexes that only large ones have."""
    vector_search.EXACT_ROWS = _FEW
    for kind in (ScanIndex, GraphIndex):
        kind.__init__.__kwdefaults__["first_rows"] = _FEW


def _bring_vectors(store: hn.Store, files: Path, name: str, engine: str) -> None:
    """Make a space with a block, some of whose vectors were removed, a tail and an index."""
    chance = np.random.default_rng(len(name))
    np.save(files / "vectors.npy", chance.standard_normal((3 * _FEW, _WIDE), np.float32))
    (files / "vectors.txt").write_text("notes/old.txt\n" * 3 * _FEW)
    store.spaces.add_vectors(
        name, files / "vectors.npy", files / "vectors.txt", encoder=name, metric="dot"
    )
    store.spaces.switch(name, engine=engine)
    about = find_version(store.parts, "base.safetensors").single(None).row.file_digest
    row = find_space(store.parts, store.files, name)
    with writing(store.parts, store.files, row) as writer:
        writer.bury(writer.truth.ids()[2:5])
        newer = chance.standard_normal((5, _WIDE), np.float32)
        writer.append([Place(digest=about, kind="passage")] * 5, newer, source="torture")
    update_vectors(store)


def update_vectors(store: hn.Store) -> None:
    """Bring the indexes of vectors up to the vectors, as ``hart embed`` does."""
    for one in store.spaces.list():
        store.spaces.open.update(find_space(store.parts, store.files, one.name))


def near_vectors(store: hn.Store) -> dict[str, list[str]]:
    """Return {space: what is nearest to some queries, hit by hit, or why nothing is}."""
    found = {}
    for one in store.spaces.list():
        queries = np.random.default_rng(3).standard_normal((3, one.dimension), np.float32)
        try:
            hits = store.spaces.nearest(one.name, queries, 5)
        except HartonomousError as error:
            found[one.name] = [f"{type(error).__name__}: {error.message}"]
            continue
        found[one.name] = [
            f"{hit.place.digest.hex()} {hit.score:.4f}" for some in hits for hit in some
        ]
    return found


def _add(store: hn.Store, files: Path) -> None:
    store.add([files / "later.safetensors", files / "fresh.bin", files / "empty.dat"])


def _update(store: hn.Store, files: Path) -> None:
    store.add(files / "other.safetensors", name="tuned.safetensors", labels=["next"])


def _move(store: hn.Store, files: Path) -> None:
    store.mv("notes.txt", "notes/old.txt")


def _remove(store: hn.Store, files: Path) -> None:
    store.rm("tuned.safetensors")


def _undo(store: hn.Store, files: Path) -> None:
    store.undo()


def _label(store: hn.Store, files: Path) -> None:
    store.label("base.safetensors", "stable")


def _relate(store: hn.Store, files: Path) -> None:
    store.relate("tuned.safetensors", "fine-tune-of", "base.safetensors", note="said by hand")


def _collect(store: hn.Store, files: Path) -> None:
    store.gc(trash_days=0, grace_s=0)


def _repack(store: hn.Store, files: Path) -> None:
    store.repack()


def _verify(store: hn.Store, files: Path) -> None:
    report = store.verify(files=True, repair=True)
    assert report.sound, report.faults


def _plain(store: hn.Store, files: Path) -> None:
    plain = Path(store.plain("base.safetensors"))
    assert plain.read_bytes() == (files / "base.safetensors").read_bytes()


def beside(store: Path) -> Path:
    """Return where steps that have to do with another place have it: another store, or backups."""
    return store.parent / "beside"


def make_other(store: Path, files: Path) -> None:
    """Make the store that others are brought together with; it has something that both have."""
    with hn.open(store, create=True, settings=SETTINGS) as held:
        held.add(files / "later.safetensors", name="far.safetensors", labels=["far"])
        held.add(files / "base.safetensors", name="far/base.safetensors", metadata={"who": "they"})
        held.add(files / "fresh.bin", name="far/fresh.bin", tags=["far"])
        held.rm("far/fresh.bin")
        held.undo()


def _pull(store: hn.Store, files: Path) -> None:
    with hn.open(beside(store.path), settings=SETTINGS) as other:
        store.pull(other)


def _push(store: hn.Store, files: Path) -> None:
    with hn.open(beside(store.path), settings=SETTINGS) as other:
        store.push(other)


def _sync(store: hn.Store, files: Path) -> None:
    with hn.open(beside(store.path), settings=SETTINGS) as other:
        sync_stores(store, other)


def _backup(store: hn.Store, files: Path) -> None:
    assert not store.backup(beside(store.path)).faults


def _repair(store: Path, files: Path) -> None:
    hn.repair(store, settings=SETTINGS)


def _init(store: Path, files: Path) -> None:
    with hn.open(store, create=True, settings=SETTINGS):
        pass


INSIDE: dict[str, Callable[[hn.Store, Path], None]] = {
    "add": _add,
    "update": _update,
    "rm": _remove,
    "undo": _undo,
    "label": _label,
    "mv": _move,
    "relate": _relate,
    "gc": _collect,
    "repack": _repack,
    "path": _plain,
    "verify": _verify,
    "pull": _pull,
    "sync": _sync,
    "push": _push,
    "backup": _backup,
}
"""Steps on an open store."""
ALONE: dict[str, Callable[[Path, Path], None]] = {"repair": _repair, "init": _init}
"""Steps that want the store for themselves."""
WITH_OTHER = {"pull", "sync", "push"}
"""Steps that have another store beside this one."""
ELSEWHERE = {"push", "backup"}
"""Steps that write beside the store: calls there are counted and fail, and no others."""
AGAIN = (
    "pull",
    "sync",
    "push",
    "backup",
    "add",
    "update",
    "label",
    "gc",
    "repack",
    "path",
    "verify",
    "repair",
    "init",
)
"""Steps that can be tried again after they failed, whatever they had done by then."""
FROM_NOTHING = {"init"}
"""Steps that begin with no store."""

SCRIPTS = {
    "day": ("add", "label", "update", "rm", "undo", "relate", "gc", "repack", "mv", "path"),
    "rebuilt": ("update", "repair", "rm", "gc", "add"),
}
"""Steps one after the other, for power cuts between and in them."""


def run(
    store: Path, files: Path, steps: tuple[str, ...], acknowledge: Callable[[str], None]
) -> None:
    """Do steps; each is acknowledged when it has returned. The store stays open between them."""
    left = list(steps)
    while left:
        if left[0] in ALONE:
            ALONE[left[0]](store, files)
            acknowledge(left.pop(0))
            continue
        with hn.open(store, settings=SETTINGS) as held:
            while left and left[0] in INSIDE:
                INSIDE[left[0]](held, files)
                acknowledge(left.pop(0))


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this package and the program."""
    root = Path(__file__).parents[2]
    source = Path(hn.__file__).parents[1]
    further = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(root), *further])}
