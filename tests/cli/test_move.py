"""``hart add --move``: what became of the version and of the source is said plainly."""

import os
from pathlib import Path

import numpy as np
import pytest
from cli_schema import validate
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.packs import source_removal
from hartonomous.packs.files import FileReader

CONTENT = os.urandom(12_000)  # less than is ever cut


@pytest.fixture
def plain(home) -> Path:
    path = home / "plain.bin"
    path.write_bytes(CONTENT)
    return path


def model_folder(home: Path) -> Path:
    """Make a model of two files; what is moved is one artifact."""
    folder = home / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(save({"w": np.arange(50.0)}))
    return folder


def damage(store: Path) -> None:
    """Flip a byte in the middle of the largest pack, which is one of CONTENT's."""
    pack = max(store.glob("packs/*/*.pack"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(CONTENT) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)


def test_a_known_file_is_unchanged_and_its_source_goes(hart, store, plain):
    assert hart("add", str(plain))[0] == 0
    code, out, _ = hart("add", "--move", str(plain))
    assert code == 0
    assert "unchanged" in out
    assert "the same bytes as before; source removed" in out
    assert not plain.exists()


def test_damage_that_nobody_knew_of_keeps_the_source(hart, store, plain):
    assert hart("add", str(plain))[0] == 0
    damage(store)
    code, out, err = hart("add", "--move", str(plain))
    assert code == 3
    assert "unchanged" in out
    assert "source kept: the stored copy of plain.bin is damaged" in out
    assert "1 source was not removed: plain.bin: the stored copy of plain.bin is damaged" in err
    assert plain.read_bytes() == CONTENT
    (report,) = validate("add", hart("add", "--move", "--json", str(plain))[1])
    assert report["artifacts"][0]["moved"] is False
    assert "hart verify" in report["artifacts"][0]["source_kept"]


def test_damage_that_is_marked_is_mended_and_the_source_goes(hart, store, plain, home):
    assert hart("add", str(plain))[0] == 0
    damage(store)
    assert hart("verify")[0] == 4
    code, out, _ = hart("add", "--move", str(plain))
    assert code == 0
    assert "the same bytes as before; damaged data stored anew (raw); source removed" in out
    assert not plain.exists()
    assert hart("get", "plain.bin", "-o", str(home / "back"))[0] == 0
    assert (home / "back").read_bytes() == CONTENT
    with hn.open(store) as opened:
        assert [one.number for one in opened.ls(versions=True)] == [1]


def test_a_source_that_cannot_be_removed_is_kept(hart, store, plain, monkeypatch):
    real = Path.unlink

    def unlink(self, missing_ok=False):
        if self == plain:
            raise PermissionError(13, "Permission denied", str(self))
        real(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    code, out, _ = hart("add", "--move", str(plain))
    assert code == 3
    assert "source kept: plain.bin cannot be removed: Permission denied" in out
    assert hart("ls", "-q")[1] == "plain.bin\n"


@pytest.mark.parametrize("how", ["written", "grown", "replaced"])
def test_a_source_that_changes_once_it_was_compared_is_kept(hart, store, home, monkeypatch, how):
    folder, newer = model_folder(home), home / "newer"
    (folder / "z.txt").write_text("compared last")
    compare = source_removal._compare

    def compare_then_change(parts, reader, file):
        found = compare(parts, reader, file)
        if file.source.path == "z.txt" and how == "grown":
            with (folder / "config.json").open("a") as out:
                out.write("\n")
        elif file.source.path == "z.txt":
            target = newer if how == "replaced" else folder / "config.json"
            target.write_text('{"model_type": "gpt2"}')
            target.replace(folder / "config.json")
        return found

    monkeypatch.setattr(source_removal, "_compare", compare_then_change)
    code, out, _ = hart("add", "--move", str(folder))
    assert code == 3
    assert "source kept: config.json changed after it was compared" in out
    assert (folder / "config.json").read_text() in (
        '{"model_type": "gpt2"}',
        '{"model_type": "bert"}\n',
    )
    assert (folder / "z.txt").exists()


def test_a_source_that_grows_while_it_is_compared_is_kept(hart, store, plain, monkeypatch):
    real = FileReader.read

    def read_while_it_grows(self, offset, length):
        with plain.open("ab") as out:
            out.write(b"more")
        return real(self, offset, length)

    monkeypatch.setattr(FileReader, "read", read_while_it_grows)
    code, out, _ = hart("add", "--move", str(plain))
    assert code == 3
    assert "source kept" in out
    assert plain.read_bytes().startswith(CONTENT + b"more")


def test_the_copy_is_read_from_the_disk(hart, store, plain, monkeypatch):
    steps: list[str] = []
    advise, read = os.posix_fadvise, FileReader.read

    def told(descriptor, offset, length, advice):
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        steps.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        advise(descriptor, offset, length, advice)

    def compared(self, offset, length):
        steps.append("compared")
        return read(self, offset, length)

    monkeypatch.setattr(os, "posix_fadvise", told)
    monkeypatch.setattr(FileReader, "read", compared)
    assert hart("add", "--move", str(plain))[0] == 0
    (pack,) = store.glob("packs/*/*.pack")
    assert steps == [str(pack), "compared"]


def test_two_names_of_one_file_both_go(hart, store, home):
    folder = model_folder(home)
    (folder / "copy.json").hardlink_to(folder / "config.json")
    assert hart("add", "--move", str(folder))[0] == 0
    assert not [*folder.iterdir()]
