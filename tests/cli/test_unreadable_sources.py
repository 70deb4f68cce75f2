"""``hart add`` where something that was wanted cannot be read: never taken for a whole copy."""

import os
from pathlib import Path

import numpy as np
import pytest
from cli_schema import validate
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.errors import PartlyDoneError
from hartonomous.sources import listing
from hartonomous.worker.kinds import Work, checked
from hartonomous.worker.running import JobProgress


@pytest.fixture
def model(home: Path) -> Path:
    folder = home / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(save({"w": np.arange(50.0)}))
    (folder / "vocab.txt").write_text("a\nb\n")
    return folder


@pytest.fixture
def locked(monkeypatch):
    """Make files of a name unreadable, as permissions do for who is not root."""
    real = os.access

    def lock(name):
        monkeypatch.setattr(
            listing.os, "access", lambda path, mode: Path(path).name != name and real(path, mode)
        )

    return lock


def test_a_model_that_cannot_be_read_whole_is_kept_and_told(hart, store, model, locked):
    locked("vocab.txt")
    for outcome in ("added", "unchanged"):
        code, out, err = hart("add", str(model))
        assert code == 3
        assert outcome in out
        assert f"left out {model}/vocab.txt: cannot be read: permission denied" in err
        assert "1 file or folder could not be read and stayed out" in err
    locked("none")
    code, out, _ = hart("add", "--update", str(model))
    assert (code, "updated" in out) == (0, True)
    locked("vocab.txt")
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    code, out, _ = hart("add", "--update", str(model))
    assert (code, "updated" in out) == (3, True)


def test_json_and_a_dry_run_count_it(hart, store, model, locked):
    locked("vocab.txt")
    for words in (["-n"], []):
        code, out, _ = hart("add", *words, "--json", str(model))
        assert code == 3
        (report,) = validate("add", out)
        assert report["unread_count"] == report["artifacts"][0]["unread_count"] == 1
        assert report["failed_count"] == 0


def test_a_loose_file_and_a_folder_count_too(hart, store, home, locked, monkeypatch):
    folder = home / "loose"
    (folder / "shut").mkdir(parents=True)
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(name.encode())
    real = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", refusing)
    locked("b.bin")
    code, out, err = hart("add", str(folder))
    assert code == 3
    assert "a.bin" in out
    assert "2 files or folders could not be read" in err


def test_parts_of_a_set_count_too(hart, store, home, locked):
    folder = home / "split"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"x-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    locked("x-00002-of-00002.gguf")
    code, _, err = hart("add", str(folder))
    assert code == 3
    assert "1 file or folder could not be read" in err


def test_a_name_that_is_too_long_counts(hart, store, model, monkeypatch):
    real = Path.stat

    def stat(path, **given):
        if path.name == "vocab.txt":
            raise OSError(36, "File name too long", str(path))
        return real(path, **given)

    monkeypatch.setattr(Path, "stat", stat)
    code, _, err = hart("add", str(model))
    assert code == 3
    assert "cannot be read: File name too long" in err


def test_what_is_left_out_on_purpose_is_no_fault(hart, store, model, home):
    (model / ".hidden").write_text("x")
    (model / "w.part").write_text("x")
    (home / "outside.txt").write_text("x")
    (model / "link").symlink_to(home / "outside.txt")
    os.mkfifo(model / "pipe")
    code, _, err = hart("add", "--exclude", "vocab.txt", str(model))
    assert code == 0
    assert "a link that leaves" in err


def test_a_pattern_that_leaves_it_out_makes_it_whole(hart, store, model, locked):
    locked("vocab.txt")
    assert hart("add", "--exclude", "vocab.txt", str(model))[0] == 0


def test_a_move_keeps_the_source(hart, store, model, locked):
    locked("vocab.txt")
    code, out, err = hart("add", "--move", str(model))
    assert code == 3
    assert "source kept: not all of it could be read" in out
    assert sorted(one.name for one in model.iterdir()) == [
        "config.json", "model.safetensors", "vocab.txt",
    ]  # fmt: skip
    assert "1 file or folder could not be read" in err


def test_a_job_says_so(store, model, locked):
    locked("vocab.txt")
    with hn.open(store) as opened:
        found, given = checked("add", {"paths": [str(model)]})
        outcome = found.run(Work(opened.parts, opened.settings, JobProgress()), given)
        assert opened.names() == ["model"]
    assert isinstance(outcome.error, PartlyDoneError)
    assert "1 file or folder could not be read" in outcome.error.message
