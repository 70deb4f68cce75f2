"""Values, their sources and their errors; the search for the store."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous import settings as module
from hartonomous.core.quantity import parse_size
from hartonomous.errors import HartonomousError, NoStoreError, UsageError
from hartonomous.settings import (
    ProgressMode,
    Settings,
    find_store,
    load_settings,
    locate_store,
    setting_names,
    setting_values,
    unknown_variables,
    usable_cores,
    user_settings_file,
)


@pytest.fixture
def env(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "data")}


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def make_store(path: Path) -> Path:
    write(path / "store.json", "{}")
    return path


def test_defaults(env):
    found = load_settings(environ=env)
    assert found == Settings()
    assert found.memory_limit_bytes == 512 << 20
    assert found.cache_bytes == 20 << 30
    assert (found.trash_days, found.cache_keep_hours, found.check) == (30, 24, True)
    assert found.workers == usable_cores() >= 1
    assert {found.source_of(name) for name in setting_names()} == {"default"}


def test_precedence_and_sources(env, tmp_path):
    store = make_store(tmp_path / "store")
    user = write(user_settings_file(env), "workers = 1\ntrash_days = 1\nhost = 'user'\n")
    own = write(store / "hartonomous.toml", "workers = 2\ntrash_days = 2\n")
    env["HARTONOMOUS_WORKERS"] = "3"
    env["HARTONOMOUS_PROGRESS"] = "plain"
    found = load_settings(given={"progress": "none"}, store=store, environ=env)
    assert (found.workers, found.source_of("workers")) == (3, "HARTONOMOUS_WORKERS")
    assert (found.trash_days, found.source_of("trash_days")) == (2, str(own))
    assert (found.host, found.source_of("host")) == ("user", str(user))
    assert (found.progress, found.source_of("progress")) == (ProgressMode.NONE, "flag")
    shown = {value.name: value for value in setting_values(found)}
    assert shown["workers"].value == 3
    assert all(value.help.endswith(".") for value in shown.values())


def test_value_from_a_file_that_a_variable_names(env, tmp_path):
    secret = write(tmp_path / "secret", "build-7\n")
    env["HARTONOMOUS_HOST_FILE"] = str(secret)
    found = load_settings(environ=env)
    assert (found.host, found.source_of("host")) == ("build-7", f"HARTONOMOUS_HOST_FILE ({secret})")
    env["HARTONOMOUS_HOST"] = "other"
    with pytest.raises(UsageError, match="both HARTONOMOUS_HOST and HARTONOMOUS_HOST_FILE"):
        load_settings(environ=env)
    del env["HARTONOMOUS_HOST"]
    secret.unlink()
    with pytest.raises(UsageError, match="HARTONOMOUS_HOST_FILE: there is no file"):
        load_settings(environ=env)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("workers", "many"),
        ("workers", "0"),
        ("workers", "-1"),
        ("workers", "9" * 30),
        ("workers", ""),
        ("workers", True),
        ("workers", 1.5),
        ("memory_limit_bytes", "512 XB"),
        ("memory_limit_bytes", "1 MiB"),
        ("memory_limit_bytes", [1]),
        ("check", "maybe"),
        ("check", 1),
        ("host", " "),
        ("host", 7),
        ("progress", "loud"),
        ("progress", ["auto"]),
    ],
)
def test_wrong_values_name_source_name_value_and_remedy(env, name, raw):
    with pytest.raises(UsageError) as caught:
        load_settings(given={name: raw}, environ=env)
    assert caught.value.message.startswith(f"flag: {name}: {raw!r} ")
    assert "Correct or remove it" in str(caught.value.hint)
    if isinstance(raw, str):
        with pytest.raises(UsageError, match=f"HARTONOMOUS_{name.upper()}: {name}: "):
            load_settings(environ={**env, f"HARTONOMOUS_{name.upper()}": raw})


def test_unknown_keys_name_file_key_and_the_near_one(env, tmp_path):
    store = make_store(tmp_path / "store")
    path = write(store / "hartonomous.toml", "worker = 2\n")
    with pytest.raises(UsageError) as caught:
        load_settings(store=store, environ=env)
    assert caught.value.message == f"{path}: there is no setting 'worker'"
    assert caught.value.hint == "did you mean 'workers'?"
    write(path, "zzzzzzzz = 2\n")
    with pytest.raises(UsageError) as caught:
        load_settings(store=store, environ=env)
    assert "memory_limit_bytes" in str(caught.value.hint)


def test_a_store_cannot_say_where_the_store_is(env, tmp_path):
    store = make_store(tmp_path / "store")
    write(store / "hartonomous.toml", "store = '/elsewhere'\n")
    with pytest.raises(UsageError, match="there is no setting 'store'"):
        load_settings(store=store, environ=env)


@pytest.mark.parametrize(
    "content",
    ["workers", "workers = 1\nworkers = 2", "a = " + "[" * 50_000, b"host = '\xff'",
     b"#" * (2**20 + 1)],
)  # fmt: skip
def test_hostile_settings_files_are_usage_errors(env, content):
    path = write(user_settings_file(env), content)
    with pytest.raises(UsageError, match=str(path)):
        load_settings(environ=env)


def test_a_settings_file_that_is_a_folder(env):
    user_settings_file(env).mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot read"):
        load_settings(environ=env)


def test_unknown_variables():
    environ = {"HARTONOMOUS_WORKRES": "1", "HARTONOMOUS_STORE": "s", "HARTONOMOUS_HOST_FILE": "f"}
    assert unknown_variables({**environ, "PATH": "/bin"}) == ("HARTONOMOUS_WORKRES",)
    assert unknown_variables({"HARTONOMOUS_STORE_PATH": "s"}) == ("HARTONOMOUS_STORE_PATH",)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("4096", 4096), ("512MiB", 512 << 20), ("20 GB", 20 * 10**9), ("1.5g", 15 * 10**8),
     ("0.1k", 100), ("2 tib", 2 << 40), ("7b", 7)],
)  # fmt: skip
def test_sizes(text, count):
    assert parse_size(text) == count


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_value_error(text):
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert "is not a size" in str(error)


def test_cores_are_cut_by_a_quota(tmp_path, monkeypatch):
    class Quota(type(Path())):
        def read_text(self, encoding=None):
            return text

    monkeypatch.setattr(module, "Path", Quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    text = "250000 100000\n"
    assert usable_cores() == 3
    text = "max 100000\n"
    assert usable_cores() == 8
    text = "1000 100000\n"
    assert usable_cores() == 1


def test_store_is_found_in_order(env, tmp_path):
    above = make_store(tmp_path / "project")
    inside = above / "a" / "b"
    inside.mkdir(parents=True)
    named = make_store(tmp_path / "named")
    other = make_store(tmp_path / "other")
    own = make_store(tmp_path / "data" / "hartonomous" / "store")
    configured = make_store(tmp_path / "configured")
    env["HARTONOMOUS_STORE"] = str(other)
    assert find_store(named, environ=env, start=inside) == (named, "--store")
    assert find_store(environ=env, start=inside) == (other, "HARTONOMOUS_STORE")
    del env["HARTONOMOUS_STORE"]
    assert find_store(environ=env, start=inside)[0] == above
    assert find_store(environ=env, start=tmp_path)[0] == own
    user = write(user_settings_file(env), f"store = '{configured}'\n")
    assert find_store(environ=env, start=tmp_path) == (configured, str(user))
    assert load_settings(environ=env) == Settings()
    place = locate_store(environ=env, start=inside, parents=False)
    assert (place.path, place.exists) == (configured, True)


def test_no_store(env, tmp_path):
    with pytest.raises(NoStoreError) as caught:
        find_store(environ=env, start=tmp_path)
    assert str(tmp_path / "data" / "hartonomous" / "store") in caught.value.message
    assert "hart init" in str(caught.value.hint)
    with pytest.raises(NoStoreError):
        find_store(tmp_path / "none", environ=env)
    (tmp_path / "store.json").mkdir()  # a folder of that name is no store
    with pytest.raises(NoStoreError):
        find_store(environ=env, start=tmp_path)


def test_relative_xdg_folders_are_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    place = locate_store(environ={"XDG_DATA_HOME": "here"}, start=tmp_path)
    assert place.path == tmp_path / ".local" / "share" / "hartonomous" / "store"


def test_store_paths_are_absolute_and_know_home(monkeypatch, tmp_path, env):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert locate_store("~/s", environ=env).path == locate_store("s", environ=env).path
    with pytest.raises(UsageError):
        locate_store("~no-such-user-here/s", environ=env)


def test_urls_are_for_later_versions(env):
    with pytest.raises(UsageError, match="is a URL"):
        locate_store("postgresql://host/db", environ=env)
    with pytest.raises(UsageError, match="HARTONOMOUS_STORE"):
        locate_store(environ={**env, "HARTONOMOUS_STORE": ""})


def test_a_folder_that_cannot_be_looked_into_is_an_error(monkeypatch, tmp_path, env):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(tmp_path), "is_file", refuse)
    with pytest.raises(HartonomousError, match="cannot look for a store"):
        find_store(tmp_path, environ=env)
