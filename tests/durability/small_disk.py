"""A store on a disk that runs full: a script for where it may mount (see test_full_disk.py)."""

import errno
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.errors import HartonomousError, StorageFullError
from hartonomous.opening import check_backups, migrate_store
from hartonomous.packs import directory
from hartonomous.packs.picture_views import open_pictures
from hartonomous.ports.progress import NoProgress

MIB = 1 << 20
SETTINGS = {"pack_bytes": 4 * MIB, "workers": 2}


def fill(disk: Path, leave: int) -> Path:
    """Leave at most so many bytes free on the disk."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as out:
        while (free := shutil.disk_usage(disk).free) > leave:
            try:
                out.write(bytes(min(free - leave, MIB)))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
    return path


def make(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(random.Random(name).randbytes(size))
    return path


def expect_full(use: Callable[[], object]) -> StorageFullError:
    try:
        use()
    except StorageFullError as error:
        return error
    raise AssertionError("there was room")


def check_whole(store: hn.Store, folder: Path, names: list[str]) -> None:
    assert store.verify(files=True).faults == ()
    for name in names:
        out = folder / "check.out"
        store.get(name, out)
        assert out.read_bytes() == (folder / name).read_bytes()
        out.unlink()
    assert {row.name for row in store.ls()} == set(names)


def check_no_litter(store: hn.Store) -> None:
    store.gc(trash_days=0, grace_s=0)
    with store.parts.database.read() as tx:
        assert not tx.exec_driver_sql("SELECT * FROM writer").all()
    assert not list((store.path / "tmp").iterdir())
    assert not list((store.path / "locks").glob("writer-*"))
    packed = len(list((store.path / "packs").rglob("*.pack")))
    assert packed == store.stats().pack_count


def adding_runs_full(disk: Path, folder: Path) -> None:
    """An add that does not fit says so, leaves nothing, and works once there is room."""
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        store.add(make(folder, "first", 3 * MIB))
        large = make(folder, "large", 30 * MIB)
        error = expect_full(lambda: store.add(large))
        assert "bytes were wanted" in error.message and "bytes are free" in error.message, error
        assert "are missing" in error.message, error
        assert error.hint
        check_no_litter(store)
        check_whole(store, folder, ["first"])
    with hn.open(disk / "store", settings=SETTINGS) as store:
        filler = fill(disk, 300_000)
        expect_full(lambda: store.add(make(folder, "second", 2 * MIB)))
        filler.unlink()
        assert store.add(folder / "second").artifacts[0].outcome == "added"
        check_no_litter(store)
        check_whole(store, folder, ["first", "second"])


def catalog_runs_full(disk: Path, folder: Path) -> None:
    """No room for rows: labels, adds and removals fail; the store opens and all is there."""
    (folder / "many").mkdir()
    for i in range(300):
        make(folder / "many", f"{i}", 200)
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        store.add(make(folder, "first", MIB))
        filler = fill(disk, 0)
        errors = [
            expect_full(lambda: store.add(folder / "many")),
            expect_full(lambda: store.label("first", "prod")),
            expect_full(lambda: store.rm("first")),
        ]
        assert all(error.hint for error in errors)
        assert all("are missing" in error.message for error in errors), errors
        assert store.ls()[0].name == "first"
        check_whole(store, folder, ["first"])
    try:
        with hn.open(disk / "store", settings=SETTINGS) as store:
            check_whole(store, folder, ["first"])
    except HartonomousError as error:
        assert "full" in f"{error.message} {error.hint}", error  # no room for the log's index
    filler.unlink()
    with hn.open(disk / "store", settings=SETTINGS) as store:
        check_whole(store, folder, ["first"])
        store.label("first", "prod")
        check_no_litter(store)
        assert store.add(folder / "many").failed_count == 0
        assert store.verify(files=True).sound


def collecting_runs_full(disk: Path, folder: Path) -> None:
    """No room to compact: what is dead already goes all the same, nothing living is lost."""
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        names = [f"f{i}" for i in range(9)]
        for name in names:
            store.add(make(folder, name, 900_000))  # packs below a quarter of a full one merge
        store.rm("f3")
        fill(disk, 400_000)
        error = expect_full(lambda: store.gc(trash_days=0, grace_s=0))
        assert error.message
        names.remove("f3")
        check_whole(store, folder, names)
        assert shutil.disk_usage(disk).free > MIB // 2, "the dead pack was not removed first"
        (disk / "filler").unlink()
        check_no_litter(store)
        check_whole(store, folder, names)


class Filling(NoProgress):
    """Fills the disk when the writing begins: room was looked for by then."""

    def __init__(self, disk: Path, leave: int) -> None:
        self.disk, self.leave = disk, leave

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        fill(self.disk, self.leave)


def getting_runs_full(disk: Path, folder: Path) -> None:
    """No room for what is taken out: it says so, and the next get goes on where it stopped."""
    # One thread: of several, a later one may take the room that the first piece needs.
    with hn.open(disk / "store", create=True, settings={**SETTINGS, "workers": 1}) as store:
        store.add(make(folder, "first", 8 * MIB))
        error = expect_full(
            lambda: store.get("first", disk / "out", progress=Filling(disk, 5 * MIB))
        )
        assert f"{8 * MIB:,} bytes were wanted" in error.message
        assert not (disk / "out").exists()
        (disk / "filler").unlink()
        [got] = store.get("first", disk / "out").files
        assert got.resumed_bytes > 0
        assert (disk / "out").read_bytes() == (folder / "first").read_bytes()


def getting_would_run_full(disk: Path, folder: Path) -> None:
    """What surely does not fit is refused before a byte is written, with or without force."""
    pair = folder / "pair"
    pair.mkdir()
    for name in ("one.bin", "two.bin"):
        make(pair, name, 3 * MIB)
    (pair / "config.json").write_text("{}")
    with hn.open(folder / "store", create=True, settings=SETTINGS) as store:
        store.add(pair, name="pair")
        fill(disk, 5 * MIB)
        for force in (False, True):
            error = expect_full(lambda: store.get("pair", disk / "out", force=force))  # noqa: B023
            assert "are missing" in error.message and f"{6 * MIB + 2:,} bytes were" in error.message
            assert not (disk / "out").exists()
        store.get("pair", f"{disk}/out/", members=["one.bin"])
        (disk / "filler").unlink()
        fill(disk, 3 * MIB + 100_000)
        store.get("pair", disk / "out")  # one of the files is there
        assert (disk / "out" / "two.bin").read_bytes() == (pair / "two.bin").read_bytes()
        (disk / "out" / "two.bin").write_bytes(bytes(3 * MIB))
        fill(disk, MIB)
        expect_full(lambda: store.get("pair", disk / "out", force=True))  # beside the old one
        assert (disk / "out" / "two.bin").read_bytes() == bytes(3 * MIB)


def repairing_runs_full(disk: Path, folder: Path) -> None:
    """No room for a new catalog: the old one stays, and nothing half made."""
    (folder / "many").mkdir()
    for i in range(200):
        make(folder / "many", f"{i}", 2000)
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        store.add(folder / "many")
        names = {row.name for row in store.ls()}
    filler = fill(disk, 100_000)
    expect_full(lambda: hn.repair(disk / "store"))
    assert not list((disk / "store").glob("*.repair*"))
    filler.unlink()
    with hn.open(disk / "store") as store:
        assert store.verify(files=True).sound
        assert {row.name for row in store.ls()} == names
    hn.repair(disk / "store")
    with hn.open(disk / "store") as store:
        assert store.verify(files=True).sound
        assert {row.name for row in store.ls()} == names


def searching_runs_full(disk: Path, folder: Path) -> None:
    """No room to read documents: it says so, and what was read stays."""
    words = b"leaking valve " * 40_000
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        (folder / "first.md").write_bytes(b"# One\n\nleaking valve of the first pump\n")
        store.add(folder / "first.md")
        assert store.search("valve").hits
        (folder / "second.md").write_bytes(words)
        store.add(folder / "second.md")
        filler = fill(disk, 200_000)
        error = expect_full(lambda: store.search("valve"))
        assert error.hint
        assert {one.name for one in store.search("pump", update=False).hits} == {"first.md"}
        filler.unlink()
        assert {one.name for one in store.search("leaking", per_file=1).hits} == {
            "first.md", "second.md"
        }  # fmt: skip
        store.views.drop()
        store.search("valve", update=False)  # lets go of the file that was dropped
        filler = fill(disk, 0)
        expect_full(lambda: store.search("valve"))
        filler.unlink()
        assert store.search("valve").hits
        check_whole(store, folder, ["first.md", "second.md"])


def migrating_runs_full(disk: Path, folder: Path) -> None:
    """No room for the copy of the old catalog, or for the new schema: all stays as it was."""
    kept = Path(__file__).parents[1] / "compat" / "v1.tar.gz"
    with tarfile.open(kept) as archive:
        archive.extractall(disk / "store", filter="data")
    for leave in (0, 60_000, 250_000, 350_000):
        filler = fill(disk, leave)
        expect_full(lambda: migrate_store(disk / "store"))
        filler.unlink()
        assert not list((disk / "store").glob("*.part*"))
    assert migrate_store(disk / "store").changed
    with hn.open(disk / "store") as store:
        assert store.verify(files=True).sound


def making_runs_full(disk: Path, folder: Path) -> None:
    """No room for a store: no store."""
    filler = fill(disk, 0)
    expect_full(lambda: hn.init(disk / "store"))
    assert not (disk / "store" / "store.json").exists()
    filler.unlink()


def read_only(disk: Path, folder: Path) -> None:
    """A store on a disk that cannot be written says so."""
    with hn.open(disk / "store", create=True) as store:
        store.add(make(folder, "first", 1000))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for use in (lambda: hn.open(disk / "store"), lambda: hn.init(disk / "other"),
                lambda: hn.repair(disk / "store")):  # fmt: skip
        try:
            use()
        except HartonomousError as error:
            assert "Read-only" in error.message and error.hint, error
        else:
            raise AssertionError("the disk cannot be written")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    with hn.open(disk / "store") as store:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        check_whole(store, folder, ["first"])


def copying_runs_full(disk: Path, folder: Path) -> None:
    """No room for a backup, a restore or what is pushed: it says so, and goes on with room."""
    with hn.open(folder / "store", create=True, settings=SETTINGS) as store:
        for name in ("first", "second", "third"):
            store.add(make(folder, name, 3 * MIB))
        names = [one.name for one in store.ls()]
        for use in (
            lambda: store.backup(disk / "backup"),
            lambda: hn.restore(folder / "backup", disk / "again"),
            lambda: push(store, disk / "other"),
        ):
            store.backup(folder / "backup")
            filler = fill(disk, 5 * MIB)
            expect_full(use)
            assert not list(disk.glob("again/store.json"))
            filler.unlink()
            use()
            if (disk / "backup").exists():
                assert check_backups(disk / "backup").faults == ()
                hn.restore(disk / "backup", folder / "from-backup")
                shutil.rmtree(disk / "backup")
            for place in (disk / "again", disk / "other", folder / "from-backup"):
                if place.exists():
                    with hn.open(place, settings=SETTINGS) as other:
                        check_whole(other, folder, names)
                        check_no_litter(other)
                    shutil.rmtree(place)


def push(store: hn.Store, place: Path) -> None:
    with hn.open(place, create=True, settings=SETTINGS) as other:
        store.push(other)


def copying_the_catalog_runs_full(disk: Path, folder: Path) -> None:
    """No room for a backup's catalog: told of the backup's disk, with what it lacks."""
    (folder / "many").mkdir()
    for i in range(300):
        make(folder / "many", f"{i}", 200)
    with hn.open(folder / "store", create=True, settings=SETTINGS) as store:
        store.add(folder / "many")
        for leave in (0, 40_000, 250_000):
            filler = fill(disk, leave)
            error = expect_full(lambda: store.backup(disk / "backup"))
            assert str(disk / "backup") in error.message, error
            if leave:  # else not even the folder could be made
                assert "are missing" in error.message, error
                assert str(disk / "backup") in (error.hint or ""), error
            filler.unlink()
        store.backup(disk / "backup")
        assert check_backups(disk / "backup").faults == ()


def looking_at_pictures_runs_full(disk: Path, folder: Path) -> None:
    """No room for the index of pictures: it says so, and how much is missing."""
    with hn.open(disk / "store", create=True, settings=SETTINGS) as store:
        for leave in (0, 20_000):
            filler = fill(disk, leave)
            error = expect_full(lambda: open_pictures(store.parts).close())
            assert "index of pictures" in error.message, error
            assert "bytes are free" in error.message and "are missing" in error.message, error
            assert str(disk) in (error.hint or "")
            filler.unlink()
        open_pictures(store.parts).close()


SCENARIOS = {
    one.__name__: one
    for one in (adding_runs_full, catalog_runs_full, collecting_runs_full, getting_runs_full,
                getting_would_run_full, copying_runs_full, copying_the_catalog_runs_full,
                looking_at_pictures_runs_full,
                repairing_runs_full, migrating_runs_full, searching_runs_full, making_runs_full,
                read_only)
}  # fmt: skip


if __name__ == "__main__":
    directory.ParserProcess = DirectParser  # type: ignore[misc, assignment]
    base = Path(sys.argv[2])
    small = base / "disk"
    small.mkdir()
    work = base / "files"
    work.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", small], check=True)
    os.chdir(work)
    SCENARIOS[sys.argv[1]](small, work)
