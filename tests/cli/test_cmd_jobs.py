"""``worker``, ``jobs``, ``schedule`` and ``--background``."""

import json
import shlex

import pytest
from cli_schema import validate
from sqlalchemy import text as sql

import hartonomous
from hartonomous.cli.job_words import command_line
from hartonomous.worker.kinds import KINDS

LONG = "x" * 100_000

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def text(home, store):
    path = home / "a.txt"
    path.write_text("some text\n" * 100)
    return path


def test_background_puts_a_job_and_a_worker_does_it(hart, text):
    code, out, err = hart("add", str(text), "--name", "a", "--background")
    assert (code, err) == (0, "")
    assert out == "job 1 (add) waits for a worker; 'hart jobs wait 1' for its end\n"
    assert hart("ls", "-q")[1] == ""
    assert hart("verify", "--background", "--read-data-subset", "1/2", "-q")[1] == "2\n"
    (put,) = validate("jobs", hart("gc", "--background", "--grace", "2h", "--json")[1])
    assert (put["status"], put["arguments"]) == ("pending", {"trash_days": None, "grace_s": 7200.0})
    code, out, err = hart("worker", "--until-empty", "--json")
    assert code == 0
    assert validate("worker", out)[0]["done"] == 3
    assert "hart: note: job 1 (add): done\n" in err
    assert hart("ls", "-q")[1] == "a\n"
    found = validate("jobs", hart("jobs", "ls", "--json")[1])
    assert [(one["id"], one["status"]) for one in found] == [(3, "done"), (2, "done"), (1, "done")]
    assert found[1]["arguments"]["subset"] == "1/2"


def test_every_kind_is_put_by_its_command_and_done(hart, text):
    text.with_suffix(".md").write_text("# Pumps\n\nThe valve leaks at low pressure.\n")
    commands = (
        ("add", str(text), str(text.with_suffix(".md"))), ("verify", "--files"), ("repack",),
        ("views", "rebuild"), ("embed",), ("gc",), ("repair", "-y"),
    )  # fmt: skip
    for number, words in enumerate(commands, 1):
        assert hart(*words, "--background", "-q") == (0, f"{number}\n", "")
    assert hart("ls", "-q")[1] == ""
    code, out, err = hart("worker", "--until-empty", "--json")
    assert (code, validate("worker", out)[0]["done"]) == (0, len(KINDS)), err
    found = validate("jobs", hart("jobs", "ls", "--json")[1])
    assert {one["kind"]: one["status"] for one in found} == dict.fromkeys(KINDS, "done")
    assert hart("ls", "-q")[1] == "a.md\na.txt\n"
    processed = {one["kind"]: one["record_count"] for one in found}
    assert processed["add"] == 2
    assert min(processed[kind] for kind in ("verify", "embed", "repair")) > 0


def test_jobs_for_people(hart, text):
    assert hart("jobs", "ls") == (0, "", "hart: note: nothing to show\n")
    hart("add", str(text), "--background", "--label", "prod")
    page = hart("jobs", "ls")[1]
    assert page.splitlines()[1].split()[:3] == ["1", "add", "pending"]
    assert str(text) in page
    assert hart("jobs", "cancel", "1", "-q") == (0, "1\n", "")
    assert "cancelled" in hart("jobs", "show", "1")[1]
    code, out, err = hart("jobs", "wait", "1")
    assert (code, "error: job 1 was cancelled\n" in err) == (11, True)
    assert hart("jobs", "cancel", "1")[0] == 11
    assert hart("jobs", "retry", "1", "-q") == (0, "1\n", "")
    assert hart("jobs", "wait", "1", "--timeout", "0.1s")[0] == 130
    assert hart("worker", "--once")[0] == 0
    code, out, _ = hart("jobs", "wait", "1")
    assert code == 0
    assert "things processed:  1" in out
    assert hart("jobs", "show", "7")[0] == 1


@pytest.mark.parametrize("word", ["cancel", "retry"])
def test_nothing_is_done_where_one_of_several_is_no_job(hart, store, word):
    hart("gc", "--background")
    if word == "retry":
        hart("jobs", "cancel", "1")
    before = hart("jobs", "ls", "--json")
    code, out, err = hart("jobs", word, "1", "9")
    assert (code, out, "there is no job 9" in err) == (1, "", True)
    assert hart("jobs", "ls", "--json") == before


def test_what_was_done_is_shown_where_a_later_one_is_refused(hart, store):
    for _ in range(2):
        hart("gc", "--background")
    hart("jobs", "cancel", "2")
    code, out, _ = hart("jobs", "cancel", "1", "2", "-q")
    assert (code, out) == (11, "1\n")


def test_a_dead_job_ends_as_the_command_itself(hart, text):
    hart("add", str(text))
    (pack,) = (text.parent / "store" / "packs").rglob("*.pack")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(content)
    hart("verify", "--background")
    code, _, err = hart("worker", "--until-empty")
    assert code == 3
    assert "0 runs failed, 1 job is dead" in err
    (found,) = validate("jobs", hart("jobs", "dead", "--json")[1])
    assert found["error"]["kind"] == "integrity"
    code, _, err = hart("jobs", "wait", "1")
    assert code == 4
    assert "job 1 is dead" in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("add - --name a --background", "standard input is gone"),
        ("add nothing-there --background", "nothing-there"),
        ("add . -n --background", "--dry-run does not go with"),
        ("add . --init --background", "--init does not go with"),
        ("add . --name a --update --background", "exclude each other"),
        ("verify --quick --files --background", "--quick reads no data"),
        ("gc --empty-trash --background", "--empty-trash does not go with"),
        ("repack -n --background", "--dry-run does not go with"),
        ("repack --background --set workers=1", "--set workers does not go with"),
        ("repair --background", "needs an answer"),
        ("worker --once --until-empty", "exclude each other"),
        ("jobs ls --kind x --status lost", "lost"),
        ("jobs ls --kind nope", "one of add, repack"),
        ("jobs show abc", "'abc' is no job's number"),
        ("jobs retry 0", "'0' is no job's number"),
        ("schedule add y gc --every 1d", "options first: hart schedule add"),
        ("schedule add y gc --cron=x", "--cron stands behind the schedule's name"),
        ("embed --encoder nope --background", "there is no encoder 'nope'"),
        ("embed --space nope --background", "there is no space 'nope'"),
        ("schedule add --every 1d y embed --encoder nope", "there is no encoder 'nope'"),
        ("schedule add --every 1d y embed --space nope", "there is no space 'nope'"),
        ("schedule add --every 1d a ls", "no command that can be scheduled"),
        ("schedule add --every 1d a", "COMMAND"),
        ("schedule add a gc", "either a period or a cron expression"),
        ("schedule add --every 5s a gc", "too short"),
        ("schedule add --cron never a gc", "no five fields"),
        ("schedule add --every 1d a verify --set workers=1", "--set workers does not go with"),
        ("schedule add --every 1d a gc --grace never", "not a duration"),
    ],
)
def test_what_is_wrong_is_told_at_once(hart, store, line, said):
    code, _, err = hart(*line.split())
    assert code in (1, 2)
    assert said.replace("no five", "not five") in err
    assert hart("jobs", "ls", "-q")[1] == ""
    assert hart("schedule", "ls", "-q")[1] == ""


def test_schedules(hart, store):
    assert hart("schedule", "ls") == (0, "", "hart: note: there are no schedules\n")
    line = ("schedule", "add", "--every", "1d", "nightly", "verify", "--read-data-subset", "10%")
    (made,) = validate("schedule", hart(*line, "--json")[1])
    assert (made["every_s"], made["arguments"]["subset"]) == (86_400, "1/10")
    assert hart("jobs", "ls", "-q")[1] == ""  # it is not due
    assert hart(*line)[0] == 11
    code, _, err = hart("schedule", "add", "late", "--every", "1d", "verify")
    assert code == 2
    assert "--every stands behind the schedule's name" in err
    assert hart("schedule", "add", "--replace", *line[2:])[0] == 0
    assert hart("schedule", "add", "--cron", "0 3 * * 0", "weekly", "repair")[0] == 0
    assert hart("schedule", "ls", "-q")[1] == "nightly\nweekly\n"
    page = hart("schedule", "ls")[1]
    assert "every 1 d  " in page
    assert "0 3 * * 0" in page
    assert hart("schedule", "rm", "nightly", "-q") == (0, "nightly\n", "")
    assert hart("schedule", "rm", "nightly")[0] == 1


@pytest.mark.parametrize(
    ("every", "said"), [("90m", "every 1 h 30 min  "), ("172805s", "every 2 d 5 s  ")]
)
def test_how_often_a_schedule_runs_is_told_exactly(hart, store, every, said):
    assert said in hart("schedule", "add", "--every", every, "check", "verify")[1]


@pytest.mark.parametrize(
    "words",
    [
        "verify", "verify --read-data-subset 1/10 --repair --max-duration 90m", "gc --grace 2h",
        "gc --trash-days 3.0", "repack --again --smallest", "views rebuild", "repair",
        "embed --encoder ngrams --modality text --switch", "embed --no-patches", "embed --patches",
        "add --name 'a b' --label prod --tag x --tag y --meta k=v --include '*.md' --no-delta HERE",
    ],
)  # fmt: skip
def test_a_schedule_is_told_with_the_words_of_its_command(hart, home, store, words):
    words = words.replace("HERE", str(home))
    made = hart("schedule", "add", "--every", "1d", "a", *shlex.split(words), "--json")
    (made,) = validate("schedule", made[1])
    assert command_line(made["kind"], made["arguments"]) == words
    again = command_line(made["kind"], made["arguments"])
    line = ("schedule", "add", "--replace", "--every", "1d", "a", *shlex.split(again), "--json")
    assert validate("schedule", hart(*line)[1])[0]["arguments"] == made["arguments"]


@pytest.mark.parametrize(
    "arguments",
    [{"max_duration_s": "x"}, {"paths": 7}, {"max_duration_s": 10**400}],
)
def test_arguments_that_no_command_gives_are_marked(arguments):
    assert command_line("verify", arguments) == "verify (arguments that no command gives)"


def test_schedules_show_what_they_repeat(hart, store):
    line = ("schedule", "add", "--every", "1d", "nightly", "verify", "--read-data-subset", "1/10")
    hart(*line, "--max-duration", "2h")
    hart("schedule", "add", "--every", "1d", "views", "views", "rebuild")
    page = hart("schedule", "ls")[1]
    assert "  verify --read-data-subset 1/10 --max-duration 2h  " in page
    assert "  views rebuild  " in page


def test_gc_forgets_old_jobs(hart, store):
    hart("verify", "--background")
    hart("worker", "--until-empty")
    (done,) = validate("gc", hart("gc", "--json", "--set", "job_days=0")[1])
    assert done["job_count"] == 1
    assert hart("jobs", "ls", "-q")[1] == ""


def test_results_are_bounded(hart, home, store):
    folder = home / "many"
    folder.mkdir()
    for number in range(130):
        (folder / f"{number}.txt").write_text(str(number))
    hart("add", str(folder), "--background")
    hart("worker", "--until-empty")
    found = json.loads(hart("jobs", "show", "1", "--json")[1])
    assert found["record_count"] == 130
    assert len(found["result"]["artifacts"]) == 100
    assert found["result"]["omitted"] == {"artifacts": 30}


@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
def test_a_damaged_job_is_named_and_the_others_are_done(hart, store):
    for _ in range(3):
        hart("verify", "--quick", "--background")
    with hartonomous.open(store) as opened, opened.parts.database.write() as tx:
        tx.execute(sql("UPDATE job SET arguments = 'no' WHERE id = 2"))
    note = "job 2 is damaged: its row cannot be understood: arguments"
    code, out, err = hart("jobs", "ls", "-q")
    assert (code, out, err) == (0, "3\n1\n", f"hart: note: {note}\n")
    code, out, err = hart("worker", "--until-empty", "--json")
    assert code == 3
    assert "job 2: dead: its row cannot be understood: arguments" in err
    (worked,) = validate("worker", out)
    assert (worked["done"], worked["dead"]) == (2, 1)
    assert hart("jobs", "dead") == (0, "", f"hart: note: {note}\n")
    for words in (("show",), ("wait",), ("cancel",), ("retry",)):
        code, _, err = hart("jobs", *words, "2")
        assert (code, "job 2: its row cannot be understood: arguments" in err) == (4, True)


def test_an_encoder_that_was_taken_away_is_not_tried_again(hart, store):
    hart("embed", "--background")
    with hartonomous.open(store) as opened, opened.parts.database.write() as tx:
        tx.execute(sql("UPDATE job SET arguments = :given"), {"given": '{"encoder": "nope"}'})
    code, _, err = hart("worker", "--once")
    assert (code, "0 runs failed, 1 job is dead" in err) == (3, True)
    (found,) = validate("jobs", hart("jobs", "dead", "--json")[1])
    assert (found["attempts"], found["error"]["kind"]) == (1, "not-found")


def test_a_kind_and_a_key_that_are_too_long_end_no_worker(hart, store):
    hart("gc", "--background")
    hart("gc", "--background")
    with hartonomous.open(store) as opened, opened.parts.database.write() as tx:
        change = "UPDATE job SET kind = :much, unique_key = :much WHERE id = 1"
        tx.execute(sql(change), {"much": LONG})
    code, out, err = hart("worker", "--until-empty", "--json")
    assert code == 3
    (worked,) = validate("worker", out)
    assert (worked["done"], worked["dead"]) == (1, 1)
    assert len(err) < 2000
    assert len(hart("jobs", "ls")[1] + hart("jobs", "show", "1")[1]) < 4000


def test_names_that_are_no_text_do_no_harm(hart, home, store):
    folder = home / "odd"
    folder.mkdir()
    (folder / b"no \xff text".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    hart("add", str(folder), "--background")
    assert hart("worker", "--until-empty")[0] == 0
    (found,) = validate("jobs", hart("jobs", "show", "1", "--json")[1])
    assert found["status"] == "done"
    with hartonomous.open(store) as opened:
        assert len(opened.ls()) == 1


def test_what_a_job_does_anyway_is_not_told(hart, text):
    hart("add", str(text), "--background")
    hart("add", str(text), "--background", "--no-delta")
    second, first = (line.rstrip() for line in hart("jobs", "ls")[1].splitlines()[1:])
    assert first.endswith(f"paths {text}")
    assert second.endswith(f"paths {text}, no delta")


def test_a_command_that_cannot_be_scheduled_is_told_with_those_that_can(hart, store):
    code, _, err = hart("schedule", "add", "--every", "1d", "daily", "ls")
    assert code == 2
    can = err.partition("hint: ")[2].removesuffix(" can\n").replace(" and ", ", ").split(", ")
    assert "embed" in can
    assert "views rebuild" in can
    for verb in can:
        words = [*verb.split(), *(["."] if verb == "add" else [])]
        assert hart("schedule", "add", "--every", "1d", f"of-{words[0]}", *words)[0] == 0, verb


@pytest.mark.parametrize("words", [("views",), ("views", "ls"), ("views", "nothing")])
def test_a_part_of_a_command_that_cannot_be_scheduled_is_told(hart, store, words):
    code, _, err = hart("schedule", "add", "--every", "1d", "daily", *words)
    assert (code, f"'{' '.join(words)}' is no command" in err) == (2, True)
