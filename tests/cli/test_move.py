"""``hart add --move``: what became of the version and of the source is said plainly."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from cli_schema import validate

import hartonomous as hn
from hartonomous.operations import add as adding
from hartonomous.packs.source_removal import SourceRemoval

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


def model(folder: Path, marked: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "marked": marked}))
    return folder


def left(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if not one.is_dir())


@pytest.fixture
def one_at_a_time(monkeypatch) -> None:
    """Have each artifact published before the next is found, as large ones are."""
    monkeypatch.setattr(adding, "_BATCH_BYTES", 1)


def test_a_file_written_to_after_it_was_compared_is_kept_with_all_of_its_model(
    hart, store, home, monkeypatch
):
    folder = model(home / "bert", "old")
    (folder / "model.bin").write_bytes(CONTENT)
    real = SourceRemoval._differs

    def differs(self, source):
        found = real(self, source)
        if source.path == "config.json":  # somebody saves it while the weights are compared
            (folder / "config.json").write_text('{"model_type": "bert", "marked": "new"}')
        return found

    monkeypatch.setattr(SourceRemoval, "_differs", differs)
    code, out, _ = hart("add", "--move", str(folder))
    assert code == 3
    assert "source kept: config.json changed after it was read" in out
    assert left(folder) == ["config.json", "model.bin"]
    assert json.loads((folder / "config.json").read_text())["marked"] == "new"


def test_links_between_models_of_a_tree_keep_their_files_until_all_are_stored(
    hart, store, home, one_at_a_time
):
    top = home / "models"
    (model(top / "a", "a") / "weights.bin").write_bytes(CONTENT)
    (model(top / "b", "b") / "weights.bin").symlink_to("../c/weights.bin")
    (model(top / "c", "c") / "weights.bin").symlink_to("../a/weights.bin")
    code, out, _ = hart("add", "--move", str(top))
    assert code == 0, out
    assert left(top) == []
    with hn.open(store) as opened:
        for name in "abc":
            opened.get(f"models/{name}", home / "back" / name)
            assert (home / "back" / name / "weights.bin").read_bytes() == CONTENT


def test_a_file_that_a_link_of_something_left_out_leads_to_is_kept(hart, store, home):
    top = home / "models"
    (model(top / "a", "a") / "weights.bin").write_bytes(CONTENT)
    (model(top / "b", "b") / "weights.bin").symlink_to("../a/weights.bin")
    model(top / "c", "c")
    code, out, _ = hart("add", "--move", "--exclude", "b/*", str(top))
    assert code == 3
    assert "source kept: weights.bin is read for something else too that was not moved" in out
    assert left(top) == ["a/config.json", "a/weights.bin", "b/config.json", "b/weights.bin"]
    assert (top / "b" / "weights.bin").read_bytes() == CONTENT


def test_models_of_ollama_that_share_a_blob_are_all_moved(hart, store, home, one_at_a_time):
    top = home / "ollama" / "models"
    tags = top / "manifests" / "registry.ollama.ai" / "library" / "tiny"
    tags.mkdir(parents=True)
    (top / "blobs").mkdir()

    def blob(kind: str, content: bytes) -> dict[str, object]:
        name = hashlib.sha256(content).hexdigest()
        (top / "blobs" / f"sha256-{name}").write_bytes(content)
        media = f"application/vnd.ollama.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{name}", "size": len(content)}

    for tag in ("base", "chat"):
        layers = [blob("model", CONTENT), blob("system", tag.encode())]
        (tags / tag).write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    assert hart("add", "--move", str(top))[0] == 0
    assert left(top) == []
    with hn.open(store) as opened:
        for tag in ("base", "chat"):
            opened.get(f"tiny:{tag}", home / tag)
            assert (home / tag / "model.gguf").read_bytes() == CONTENT
            assert (home / tag / "system.txt").read_text() == tag


def test_a_file_that_is_named_twice_goes_once(hart, store, plain):
    (plain.parent / "other.bin").symlink_to(plain.name)
    code, out, _ = hart("add", "--move", str(plain), str(plain.parent / "other.bin"), str(plain))
    assert code == 0, out
    assert left(plain.parent) == [one for one in left(plain.parent) if not one.endswith(".bin")]
