"""Files that are written out: names as long as a disk takes, and one writer at a time."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from hartonomous.errors import ConflictError, HartonomousError, LockedError, UsageError
from hartonomous.packs.written_file import write_file
from hartonomous.ports.progress import NoProgress

LONG = [
    "é".encode() * 127,
    "日".encode() * 85,
    b"\xff" * 255,
    b"a" * 251 + b".bin",
]


class Meanwhile(NoProgress):
    """Does something once, when the first bytes are written."""

    def __init__(self, act):
        self._act = act

    def advance(self, done_bytes: int) -> None:
        act, self._act = self._act, lambda: None
        act()


@pytest.mark.parametrize("name", LONG, ids=["two bytes", "three bytes", "no text", "ascii"])
def test_the_longest_names_come_back(store, tmp_path, name):
    (tmp_path / "source").mkdir()
    path = tmp_path / "source" / os.fsdecode(name)
    path.write_bytes(name * 3)
    (added,) = store.add(path).artifacts
    (tmp_path / "out").mkdir()
    (got,) = store.get(added.name, tmp_path / "out").files
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / path.name]
    assert Path(got.path).read_bytes() == name * 3
    for versions in (False, True):
        (report,) = store.export_all(tmp_path / f"all-{versions}", versions=versions)
        assert Path(report.files[0].path).read_bytes() == name * 3


def test_a_converted_file_takes_a_name_that_fits(store, tmp_path):
    path = tmp_path / ("y" * 251 + ".npy")
    np.save(path, np.arange(6))
    store.add(path)
    (tmp_path / "out").mkdir()
    (done,) = store.convert(path.name, tmp_path / "out").files
    assert Path(done.path).parent == tmp_path / "out"
    assert len(Path(done.path).name) == 255


def test_export_writes_the_names_that_files_had(store, tmp_path):
    odd = [b"a\\b.txt", b"new\nline.txt", b"raw\xff\xfe.txt", "e\u0301.txt".encode(), b"plain.txt"]
    folder = tmp_path / "tree" / "odd"
    folder.mkdir(parents=True)
    for name in odd:
        (folder / os.fsdecode(name)).write_bytes(name)
    store.add(tmp_path / "tree")
    store.add(folder / "plain.txt", name="odd/other\\x0aname")  # a name that somebody gave
    reports = store.export_all(tmp_path / "out")
    places = {os.fsencode(one.output): one.name for one in reports}
    written = {os.fsencode(path.name): path for path in (tmp_path / "out").rglob("*.txt")}
    assert sorted(written) == sorted(odd)
    for name, path in written.items():
        assert path.read_bytes() == name
        assert os.fsencode(path) in places
    assert (tmp_path / "out" / "odd" / "other\\x0aname").read_bytes() == b"plain.txt"


@pytest.mark.parametrize("way", ["get", "convert"])
def test_two_do_not_write_one_file(store, tmp_path, way):
    for number in (1, 2):
        np.save(tmp_path / "x.npy", np.random.default_rng(number).random((1024, 600)))
        store.add(tmp_path / "x.npy", name="x")
    write = getattr(store, way)
    target = tmp_path / "out"
    other = "x@1" if way == "get" else "x@2"  # a get of other bytes has a file of its own
    refused = []

    def too() -> None:
        with pytest.raises(LockedError, match="another get is writing"):
            write(other, target)
        refused.append(other)

    write("x@1", target, progress=Meanwhile(too))
    assert refused == [other]
    write("x@1", tmp_path / "alone")
    assert target.read_bytes() == (tmp_path / "alone").read_bytes()
    assert [one.name for one in tmp_path.glob(".*")] == []
    write("x@2", target, force=True)
    write("x@2", tmp_path / "alone", force=True)
    assert target.read_bytes() == (tmp_path / "alone").read_bytes()


@pytest.mark.parametrize("output", ["x\0y", "n" * 300, "d/" * 3000])
def test_what_no_path_can_be_is_refused(store, tmp_path, output):
    np.save(tmp_path / "x.npy", np.arange(6))
    store.add(tmp_path / "x.npy")
    for write in (store.get, store.convert):
        with pytest.raises(UsageError, match="path"):
            write("x.npy", tmp_path / output)
    with pytest.raises(UsageError, match="path"):
        store.export_all(tmp_path / output)


@pytest.mark.parametrize("rows", [5, (), (0,), (0, 1, 2), (0.5, 2), ("0", "2"), slice(0, 1.5)])
def test_what_says_no_range_is_refused(store, tmp_path, rows):
    np.save(tmp_path / "x.npy", np.arange(6))
    store.add(tmp_path / "x.npy")
    (name,) = store.tensors("x.npy")
    with pytest.raises(UsageError, match="says no rows"):
        store.tensor("x.npy", name, rows=rows)
    with pytest.raises(UsageError, match="says no bytes"):
        store.tensor_bytes("x.npy", name, bytes_range=rows)


@pytest.fixture
def array(store, tmp_path):
    """An array in the store, and the ways to write it out."""
    np.save(tmp_path / "x.npy", np.arange(6))
    store.add(tmp_path / "x.npy")
    return {"get": store.get, "convert": store.convert}


@pytest.mark.parametrize("way", ["get", "convert"])
@pytest.mark.parametrize("place", ["loop", "long"])
def test_a_place_that_cannot_be_looked_at_is_named(array, tmp_path, monkeypatch, way, place):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    # A path may have 4,095 bytes: the folder has 4,090, and the file's own name is put behind it.
    folder = "loop/x" if place == "loop" else "d" * 90 + ("/" + "d" * 199) * 20
    with pytest.raises(HartonomousError, match=r"cannot look at (loop|ddd)") as caught:
        array[way]("x.npy", folder + "/" * (place == "long"))
    assert "-o" in caught.value.hint


@pytest.mark.parametrize("members", [(), ("x.npy",)])
def test_a_name_that_is_too_long_is_refused_for_one_member_too(array, tmp_path, members):
    with pytest.raises(UsageError, match="longer than a path may be"):
        array["get"]("x.npy", tmp_path / ("n" * 300), members=members)


@pytest.mark.parametrize("way", ["get", "convert"])
def test_what_is_in_the_way_and_cannot_be_read_is_named_and_written_over_by_force(
    array, tmp_path, monkeypatch, way
):
    place = tmp_path / "there.bin"
    array[way]("x.npy", tmp_path / "right")
    right = (tmp_path / "right").read_bytes()
    place.write_bytes(bytes(len(right)))
    real = Path.open

    def unreadable(path, *how, **more):
        if path == place:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", unreadable)
        with pytest.raises(ConflictError, match="cannot be read: Permission denied"):
            array[way]("x.npy", place)
        array[way]("x.npy", place, force=True)
    assert place.read_bytes() == right


@pytest.mark.parametrize("way", ["get", "convert"])
@pytest.mark.parametrize("to", ["other", "same", "nothing", "circle"])
def test_a_link_in_the_way_is_told_and_never_written_through(array, tmp_path, way, to):
    array[way]("x.npy", tmp_path / "same")
    right = (tmp_path / "same").read_bytes()
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    link = tmp_path / "out" / "circle"
    link.symlink_to("circle" if to == "circle" else f"../{to}")
    with pytest.raises(ConflictError, match=f"is a link to .*{to}"):
        array[way]("x.npy", link)
    assert link.is_symlink()
    array[way]("x.npy", link, force=True)
    assert (link.is_symlink(), link.read_bytes()) == (False, right)
    assert (tmp_path / "other").read_bytes() == b"precious"
    assert (tmp_path / "same").read_bytes() == right
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("way", ["get", "convert"])
def test_a_link_to_a_folder_is_a_folder(array, tmp_path, way):
    name = "x.npy" if way == "get" else "x.safetensors"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("../elsewhere")
    for force in (False, True):
        with pytest.raises(ConflictError, match=r"is a link to \.\./elsewhere, which is a folder"):
            array[way]("x.npy", tmp_path / "out", force=force)
    assert (tmp_path / "out" / name).is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    array[way]("x.npy", tmp_path / "out" / name)  # named: written into the folder, as cp does
    assert [one.name for one in (tmp_path / "elsewhere").iterdir()] == [name]


class _Broken(io.BytesIO):
    """Gives a piece, then fails as a disk does."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(4 if size else size)


@pytest.mark.parametrize("force", [True, False])
def test_a_file_that_was_asked_for_is_whole_or_as_it_was(tmp_path, force):
    place = tmp_path / "page.html"
    if force:
        place.write_bytes(b"the former page")
    with pytest.raises(HartonomousError, match="cannot be written"):
        write_file(place, _Broken(b"another page"), force=force, hint="give another path")
    assert [one.name for one in tmp_path.iterdir()] == (["page.html"] if force else [])
    assert not force or place.read_bytes() == b"the former page"


def test_a_file_is_written_over_with_its_mode_and_through_its_link(tmp_path):
    place, link = tmp_path / "page.html", tmp_path / "link.html"
    place.write_bytes(b"the former page")
    place.chmod(0o640)
    link.symlink_to(place)
    write_file(link, io.BytesIO(b"new"), force=True, hint="")
    assert link.is_symlink() and place.read_bytes() == b"new"
    assert place.stat().st_mode & 0o777 == 0o640
    write_file(link, io.BytesIO(b"newer"), force=True, hint="", through_links=False)
    assert (link.read_bytes(), place.read_bytes()) == (b"newer", b"new")
    assert not link.is_symlink()
    write_file(Path("/dev/null"), io.BytesIO(b"nothing"), force=True, hint="")
    assert not Path("/dev/null").is_file()
