"""Pages, JSON and ids; terminals, pipes and NO_COLOR; sizes; confirmation; progress."""

import dataclasses
import enum
import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.cli import sizes
from hartonomous.cli.as_json import as_json
from hartonomous.cli.confirm import confirm
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.output import Output
from hartonomous.cli.page import Cell, Column, Fields, Table
from hartonomous.cli.progress import BarProgress, NoteProgress, PlainProgress, open_progress
from hartonomous.cli.text import clean, width
from hartonomous.core.quantity import parse_size
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.settings import ProgressMode


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Kind(enum.StrEnum):
    MODEL = "model"


class Encoding(enum.IntEnum):
    RAW = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: bytes
    sha256: bytes
    logical_bytes: int
    created_us: int
    removed_us: int | None = None
    kind: Kind = Kind.MODEL
    encoding: Encoding = Encoding.RAW
    labels: frozenset[str] = frozenset()


ROW = Row(
    name="a",
    digest=b"\1" * 32,
    sha256=b"\2" * 32,
    logical_bytes=1 << 60,
    created_us=1_795_163_400_000_000,
    labels=frozenset({"prod", "best"}),
)


def output(format, stream):
    return Output(format=OutputFormat(format), stream=stream)


def table(rows):
    columns = (Column("name"), Column("size", right=True))
    return [Table(columns=columns, rows=((row.name, str(row.logical_bytes)) for row in rows))]


def written(format, stream=None, rows=(ROW, ROW)):
    stream = io.StringIO() if stream is None else stream
    output(format, stream).emit_each(iter(rows), human=table, ids=lambda row: row.name)
    return stream.getvalue()


def test_json_rules():
    assert as_json(ROW) == {
        "name": "a",
        "digest": "blake3:" + "01" * 32,
        "sha256": "sha256:" + "02" * 32,
        "logical_bytes": 1 << 60,
        "created_at": "2026-11-20T08:30:00Z",
        "removed_at": None,
        "kind": "model",
        "encoding": "raw",
        "labels": ["best", "prod"],
    }


def test_json_of_plain_values():
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert as_json({"at": moment, 2: Path("/a"), "n": float("nan"), "f": 0.5}) == {
        "at": "2026-01-02T03:04:05.000006Z",
        "2": "/a",
        "n": None,
        "f": 0.5,
    }
    assert as_json([True, None, (1, "\udcff")]) == [True, None, [1, "\\udcff"]]


@pytest.mark.parametrize("value", [b"short", object(), Row, Kind])
def test_json_refuses_what_has_no_rule(value):
    with pytest.raises(TypeError):
        as_json(value)


@given(st.integers(-(10**15), 10**15))
def test_times_read_back(microseconds):
    found = dataclasses.make_dataclass("T", [("at_us", int)])(microseconds)
    text = as_json(found)["at"]
    assert text.endswith("Z")
    back = datetime.fromisoformat(text)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert round((back - epoch).total_seconds() * 1e6) == microseconds


def test_streams_are_json_lines_ids_or_tables():
    lines = written("json").splitlines()
    assert [json.loads(line) for line in lines] == [as_json(ROW)] * 2
    assert written("quiet") == "a\na\n"
    assert written("auto") == written("human")
    assert written("auto").splitlines()[0] == "name                 size"


def test_one_result_is_one_object():
    for format, expected in (("json", json.dumps(as_json(ROW)) + "\n"), ("quiet", "a\n")):
        stream = io.StringIO()
        output(format, stream).emit(ROW, human=lambda row: [row.name], ids=lambda row: [row.name])
        assert stream.getvalue() == expected


def test_a_stream_is_written_as_it_comes():
    stream = io.StringIO()

    def rows():
        yield ROW
        assert stream.getvalue().count("\n") == 1
        yield ROW

    output("json", stream).emit_each(rows(), human=table, ids=str)
    assert stream.getvalue().count("\n") == 2


def test_plain_pages_are_aligned_whole_and_escaped():
    stream = io.StringIO()
    columns = (Column("name"), Column("n", right=True))
    page = [
        Fields(rows=(("format", "gguf"), ("licence", Cell("mit", "dim")))),
        Table(columns=columns, rows=[("x" * 300, "1"), ("模型", "22"), ("a\x1b[31m\nb", "3")]),
        Table(columns=columns, rows=[]),
        Cell("done", "good"),
    ]
    output("auto", stream).emit(page, human=lambda page: page, ids=None)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["format:   gguf", "licence:  mit"]
    assert lines[3] == "x" * 300 + "   1"
    assert lines[4] == "模型" + " " * 56 + "  22"  # not as wide as the longest
    assert lines[5].startswith("a\\x1b[31m\\x0ab ")
    assert lines[6:] == ["done"]
    assert len({width(line) for line in (lines[2], *lines[4:6])}) == 1


def test_long_tables_are_written_in_blocks_with_one_heading():
    rows = [msgspec.structs.replace(ROW, name=str(n)) for n in range(2500)]
    for stream in (io.StringIO(), Terminal()):
        text = written("human", stream, rows)
        assert text.count("name") == 1
        assert "2499" in text


@pytest.mark.parametrize("columns", ["40", "80"])
def test_terminal_tables_fit_and_lose_nothing(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    name = "organisation/" + "-".join(f"part{n}" for n in range(12))
    text = written("human", Terminal(), [msgspec.structs.replace(ROW, name=name)])
    assert max(map(len, text.splitlines())) <= int(columns)
    assert str(1 << 60) in text
    assert "".join(text.replace(str(1 << 60), "").split()).endswith(name)


def test_colour_and_its_switches(monkeypatch):
    def page(**settings):
        stream = Terminal()
        out = Output(format=OutputFormat.AUTO, stream=stream, **settings)
        out.emit([Cell("bad", "bad")], human=lambda page: page, ids=None)
        return stream.getvalue()

    assert "\x1b[" in page()
    assert page(color=False) == "bad\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert page() == "bad\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert page() == "bad\n"


def test_markup_in_names_is_text():
    stream = Terminal()
    Output(format=OutputFormat.AUTO, color=False, stream=stream).emit(
        ["[bold]a[/] :smile:"], human=lambda page: page, ids=None
    )
    assert stream.getvalue() == "[bold]a[/] :smile:\n"


def test_a_real_terminal_gets_a_table_that_fits():
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": "60"}
    line = [sys.executable, "-m", "hartonomous", "config"]
    with subprocess.Popen(line, stdout=follower, env=env) as child:
        os.close(follower)
        text = b""
        while True:
            try:
                text += os.read(leader, 65536)
            except OSError:  # how a terminal says that the other side is closed
                break
        assert child.wait(timeout=30) == 0
    os.close(leader)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", text.decode())
    assert "\x1b[1m" in text.decode()
    assert max(map(len, shown.splitlines()[:-1])) <= 60
    positions = {line.index(word) for line in shown.splitlines() for word in ("value", "536870912")
                 if word in line}  # fmt: skip
    assert len(positions) == 1


@given(st.text())
def test_clean_text_is_one_line_of_visible_characters(text):
    shown = clean(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode("utf-8")
    assert clean(shown) == shown


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_300_000_000, "1.3 GB"),
        (99_949, "99.9 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (130_000_000_000, "130 GB"),
        (10**22, "10000 EB"),
        (-2048, "-2.0 kB"),
    ],
)
def test_sizes(number, text):
    assert sizes.size(number) == text


@given(st.integers(0, 10**20))
def test_sizes_are_within_half_a_unit_of_the_last_digit(number):
    read_back = number if number < 1000 else _bytes_of(sizes.size(number))
    assert abs(read_back - number) <= 0.0515 * number


def _bytes_of(text):
    amount, unit = text.split()
    return float(amount) * 1000 ** ("B", "kB", "MB", "GB", "TB", "PB", "EB").index(unit)


@given(st.integers(1000, 10**17))
def test_a_printed_size_can_be_given_as_a_setting(number):
    assert parse_size(sizes.size(number)) == pytest.approx(number, rel=0.052)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"),
     (3599.7, "1 h 00 min"), (7620, "2 h 07 min"), (86_399, "1 d 00 h"), (273_600, "3 d 04 h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert sizes.duration(seconds) == text


def test_other_numbers():
    assert sizes.rate(512e6) == "512 MB/s"
    assert sizes.ratio(314, 100) == "3.14x"
    assert sizes.ratio(1, 0) == sizes.share(0, 0) == "-"
    assert sizes.share(1, 8) == "12.5 %"
    assert sizes.count(50_000) == "50,000"
    assert sizes.moment(ROW.created_us + 999_999) == "2026-11-20 08:30:00Z"
    assert [sizes.parameters(n) for n in (12, 4096, 22_713_216, 7_241_732_096)] == [
        "12",
        "4.1 k",
        "22.7 M",
        "7.24 B",
    ]


def test_confirm_off_a_terminal_needs_yes(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match=r"Remove a\?") as caught:
        confirm("Remove a?", yes=False)
    assert "-y" in str(caught.value.hint)
    confirm("Remove a?", yes=True)


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_confirm_on_a_terminal_asks_on_standard_error(monkeypatch, capsys, answer):
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    if answer == "y":
        confirm("Remove a?", yes=False)
    else:
        with pytest.raises(HartonomousError, match="nothing was changed"):
            confirm("Remove a?", yes=False)
    assert "Remove a? [y/N]" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_progress_by_mode():
    for mode, stream, cls in (
        (ProgressMode.AUTO, io.StringIO(), NoteProgress),
        (ProgressMode.AUTO, Terminal(), BarProgress),
        (ProgressMode.PLAIN, Terminal(), PlainProgress),
        (ProgressMode.NONE, Terminal(), NoteProgress),
    ):
        with open_progress(mode, stream=stream) as progress:
            assert type(progress) is cls
            progress.stage("hash", total_bytes=10)
            progress.advance(10)
            progress.note("a.gguf: kept as opaque\x1b")
        assert stream.getvalue() == "hart: note: a.gguf: kept as opaque\\x1b\n"


def test_plain_progress_says_a_line_every_few_seconds():
    now = 0.0
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=lambda: now)
    progress.stage("hash", total_bytes=4_000_000)
    progress.advance(1_000_000)
    now = 5.0
    progress.advance(1_000_000)
    now = 6.0
    progress.advance(1_000_000)
    progress.stage("store")
    now = 12.0
    progress.advance(600)
    now = 12.5
    progress.stage("short")
    progress.close()
    assert stream.getvalue().splitlines() == [
        "hash: 2.0 MB of 4.0 MB, 400 kB/s, 5.0 s left",
        "hash: 3.0 MB in 6.0 s",
        "store: 600 B, 100 B/s",
        "store: 600 B in 6.5 s",
    ]


def test_the_bar_shows_stage_bytes_and_notes():
    stream = Terminal()
    progress = BarProgress(stream, color=False, after_s=0.0)
    progress.stage("hash", total_bytes=4_000_000)
    progress._timer.join()
    progress.advance(2_000_000)
    progress._bar.refresh()
    progress.note("a.gguf: kept as opaque")
    progress.stage("store", total_bytes=8_000_000)
    progress.close()
    progress.advance(1)
    text = stream.getvalue()
    for part in ("hash", "2.0/4.0 MB", "hart: note: a.gguf: kept as opaque", "store"):
        assert part in text


def test_progress_outlives_a_closed_stream():
    for progress in (PlainProgress(io.StringIO(), clock=iter(range(0, 1000, 9)).__next__),
                     BarProgress(Terminal(), color=False, after_s=0.0)):  # fmt: skip
        progress._stream._stream.close()
        progress.stage("hash", total_bytes=1)
        progress.advance(1)
        progress.note("a")
        progress.close()
        assert progress._stream._stream.closed
