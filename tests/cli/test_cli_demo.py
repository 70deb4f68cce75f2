"""`hart demo` on a tiny base: what it reports, prints and leaves; and its errors."""

import hashlib
import io
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
from cli_schema import validator
from tiny_base import write_base

from hartonomous.cli import demo
from hartonomous.cli.as_json import as_json
from hartonomous.cli.demo_run import run_demo
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.output import Output
from hartonomous.opening import open_store
from hartonomous.operations import demo_meaning
from hartonomous.operations.demo_base import BaseModel
from hartonomous.operations.demo_meaning import NOTES
from hartonomous.ports.progress import NoProgress

MEMBERS = ["base", "bf16", "f16", "renamed", "sharded", "minilm-q8_0.gguf", "tuned"]


def model_of(folder):
    content = (folder / "model.safetensors").read_bytes()
    return BaseModel(
        requirement="tiny==1.0",
        wheel_name="tiny-1.0-py3-none-any.whl",
        wheel_sha256="0" * 64,
        folder="tiny/model",
        model_sha256=hashlib.sha256(content).hexdigest(),
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The report of one run, and the folder it was kept in."""
    root = tmp_path_factory.mktemp("demo")
    base = write_base(root / "tiny")
    (base / ".gitattributes").write_text("* -text\n")
    report = run_demo(
        from_path=base,
        keep=root / "kept",
        settings={},
        progress=NoProgress(),
        model=model_of(base),
    )
    return report, root / "kept"


def test_the_report_tells_of_every_member(ran):
    report, _ = ran
    assert [one.name for one in report.members] == MEMBERS
    assert report.sound
    assert report.returned.different == ()
    assert report.returned.hidden_count == 6
    assert report.logical_bytes == sum(one.logical_bytes for one in report.members)
    by_name = {one.name: one for one in report.members}
    # Equal tensors under other names and in other files cost their headers only.
    assert by_name["renamed"].stored_bytes < by_name["base"].stored_bytes / 10
    assert by_name["tuned"].stored_bytes < by_name["base"].stored_bytes / 2


def test_the_json_is_what_its_schema_says(ran):
    report, _ = ran
    validator("demo").validate(json.loads(json.dumps(as_json(report))))


def test_people_are_told_all_of_it(ran):
    report, kept = ran
    stream = io.StringIO()
    output = Output(format=OutputFormat.HUMAN, stream=stream)
    output.emit(report, human=demo._page, ids=None)
    text = stream.getvalue()
    for name in (*MEMBERS, "verify: no fault", "every byte the same", f"{report.ratio:.2f}x"):
        assert name in text
    assert f"hart --store {kept}/store ls" in text


def test_what_was_kept_is_a_store_that_can_be_used(ran):
    _, kept = ran
    with open_store(kept / "store") as store:
        names = sorted(one.name for one in store.ls())
    assert names == sorted([*MEMBERS, *(f"notes/{name}" for name in NOTES)])
    assert sorted(path.name for path in kept.iterdir()) == ["family", "notes", "out", "store"]


def test_a_question_is_asked_of_the_notes(ran):
    report, _ = ran
    assert report.meaning.missing == ()
    assert report.meaning.vector_count >= len(NOTES)
    assert report.meaning.hits
    assert all(-1 <= one.score <= 1.0001 for one in report.meaning.hits)
    assert f"question: {report.meaning.question}" in told(report)
    for one in report.meaning.hits:
        assert f"found: {one.name}, cosine {one.score:.2f}" in told(report)


def test_a_missing_extra_is_named_and_no_failure(tmp_path, monkeypatch):
    def absent(name):
        return None if name in ("onnxruntime", "tokenizers") else find_spec(name)

    monkeypatch.setattr(demo_meaning, "find_spec", absent)
    base = write_base(tmp_path / "tiny")
    report = run_demo(
        from_path=base, keep=None, settings={}, progress=NoProgress(), model=model_of(base)
    )
    assert (report.meaning.missing, report.meaning.hits) == (("encode",), ())
    assert report.sound
    assert "pip install 'hartonomous[encode]'" in told(report)
    validator("demo").validate(json.loads(json.dumps(as_json(report))))


def told(report):
    stream = io.StringIO()
    output = Output(format=OutputFormat.HUMAN, stream=stream)
    output.emit(report, human=demo._page, ids=None)
    return stream.getvalue()


def test_a_damaged_return_is_told(ran):
    report, _ = ran
    damaged = replace(report, returned=replace(report.returned, different=("base/config.json",)))
    assert not damaged.sound
    stream = io.StringIO()
    Output(format=OutputFormat.HUMAN, stream=stream).emit(damaged, human=demo._page, ids=None)
    assert "1 file differs" in stream.getvalue()
    assert "base/config.json" in stream.getvalue()


def test_nothing_is_left_without_keep(tmp_path, monkeypatch):
    base = write_base(tmp_path / "tiny")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    report = run_demo(
        from_path=base, keep=None, settings={}, progress=NoProgress(), model=model_of(base)
    )
    assert report.folder is None
    assert report.sound
    assert list(scratch.iterdir()) == []


def test_a_source_that_is_not_there(hart):
    code, out, err = hart("demo", "--from", "nowhere.whl")
    assert (code, out) == (1, "")
    assert "there is nothing at nowhere.whl" in err
    assert "hint: --from takes the wheel" in err


def test_a_source_that_is_another_file(hart, tmp_path):
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"something else")
    code, _, err = hart("demo", "--from", str(wheel), "--json")
    assert code == 4
    assert json.loads(err)["error"]["kind"] == "integrity"


def test_a_folder_that_holds_something_is_not_written_to(hart, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    code, _, err = hart("demo", "--keep", str(tmp_path / "mine"))
    assert code == 11
    assert "is not an empty folder" in err
