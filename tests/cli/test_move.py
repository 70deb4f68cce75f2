"""``hart add --move``: what became of the version and of the source is said plainly."""

import os
from pathlib import Path

import pytest
from cli_schema import validate

import hartonomous as hn

CONTENT = os.urandom(12_000)  # less than is ever cut


@pytest.fixture
def plain(home) -> Path:
    path = home / "plain.bin"
    path.write_bytes(CONTENT)
    return path


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
