"""The whole store against dictionaries: hundreds of steps, the same names and bytes after each.

``HYPOTHESIS_PROFILE=long`` runs it for hours.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from safetensors.numpy import save

import hartonomous as hn
from hartonomous.core.digest import digest
from hartonomous.core.tree import tree_digest
from hartonomous.errors import HartonomousError
from hartonomous.packs import rescue
from hartonomous.testing.dictionary import DictionaryStore, Files, Version

_BODY = np.arange(400, dtype="<f4")
# Large enough for a sketch: of these files each is kept as what differs from one that came before.
_WIDE, _MOVED = (
    np.random.default_rng(seed).standard_normal((40, 128), np.float32) for seed in (1, 2)
)
CONTENTS = (
    b"",
    b"tiny",
    b"x" * 64,
    b"y" * 65,
    bytes(range(256)) * 40,
    b"the same again " * 5000,
    save({"w": _BODY}),
    save({"w": _BODY, "b": np.zeros(30, "<f2"), "none": np.zeros((0, 4), "<f4")}),
    save({"layers.0.w": _BODY + 1, "layers.1.w": _BODY}),
    b'{"model_type": "bert"}',
    save({"w": _WIDE}),
    save({"w": _WIDE + _MOVED * np.float32(1e-4)}),
    save({"w": _WIDE + _MOVED * np.float32(2e-4)}),
    save({"w": _WIDE.astype(np.float16)}),
)
WEIGHTS = (*CONTENTS[6:9], *CONTENTS[10:])
FILES = ("a/one.bin", "b/one.bin", "two.safetensors", "b/c/one.bin")
FOLDERS = ("m", "b/m")
NAMES = ("plain", "org/name", "a@b", "naïve:7b", "recovered/like")
LABELS = ("prod", "test")

contents = st.sampled_from(CONTENTS)
selectors = st.none() | st.integers(1, 4) | st.sampled_from(LABELS)


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to both, and compares what they answer."""

    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="machine-"))
        self.path = self.place / "store"
        self.store = hn.open(self.path, create=True, settings={"workers": 1})
        self.model = DictionaryStore()

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.store.close()
            shutil.rmtree(self.place)

    # -- in

    def _write(self, relative: str, files: Files) -> tuple[Path, str, tuple[str, ...]]:
        target = self.place / "source" / relative
        shutil.rmtree(target, ignore_errors=True)
        for path, content in files.items():
            file = target / path if relative in FOLDERS else target
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        parts = target.parts[1:]
        endings = tuple("/".join(parts[at:]) for at in range(len(parts) - 1, -1, -1))
        return target, str(target), endings

    def _add(self, relative: str, files: Files, **how: object) -> str:
        target, source, endings = self._write(relative, files)
        wanted = self.model.add(files, source, endings, **how)
        report = self.store.add(target, **how)
        (done,) = report.artifacts
        assert (done.outcome, done.name, done.number) == (
            wanted.outcome, wanted.name, wanted.number,
        ), report  # fmt: skip
        assert not report.skipped
        return done.name

    @rule(
        target=names,
        where=st.sampled_from(FILES),
        content=contents,
        update=st.booleans(),
        labels=st.sets(st.sampled_from(LABELS), max_size=1),
        tags=st.sets(st.sampled_from(("fast", "old")), max_size=1),
    )
    def add_file(
        self, where: str, content: bytes, update: bool, labels: set[str], tags: set[str]
    ) -> str:
        files = {where.rsplit("/", 1)[-1]: content}
        return self._add(where, files, update=update, labels=tuple(labels), tags=tuple(tags))

    @rule(
        target=names,
        where=st.sampled_from(FILES),
        content=contents,
        name=st.sampled_from(NAMES),
        labels=st.sets(st.sampled_from(LABELS)),
    )
    def add_named(self, where: str, content: bytes, name: str, labels: set[str]) -> str:
        files = {where.rsplit("/", 1)[-1]: content}
        return self._add(where, files, name=name, labels=tuple(sorted(labels)))

    @rule(
        target=names,
        where=st.sampled_from(FOLDERS),
        config=contents,
        weights=contents,
        extra=contents,
        update=st.booleans(),
    )
    def add_folder(
        self, where: str, config: bytes, weights: bytes, extra: bytes, update: bool
    ) -> str:
        files = {"config.json": config, "model.safetensors": weights, "sub/extra.txt": extra}
        return self._add(where, files, update=update)

    # -- changes

    def _both(self, method: str, *words: object, **how: object) -> None:
        """Do one change to both; the same kind of error, or none."""
        expected = failed = None
        try:
            getattr(self.model, method)(*words, **how)
        except HartonomousError as error:
            expected = error
        try:
            self._change(method, *words, **how)
        except HartonomousError as error:
            failed = error
        assert type(expected) is type(failed), (expected, failed)

    def _change(self, method: str, *words: object, **how: object) -> None:
        if method in {"label", "rm"}:
            name, selector, *rest = words
            spec = name if selector is None else f"{name}@{selector}"
            words = (spec, *rest)
        getattr(self.store, method)(*words, **how)

    @rule(name=names, selector=selectors, label=st.sampled_from(LABELS))
    def label(self, name: str, selector: int | str | None, label: str) -> None:
        self._both("label", name, selector, label)

    @rule(name=names, label=st.sampled_from(LABELS))
    def unlabel(self, name: str, label: str) -> None:
        self._both("unlabel", name, label)

    @rule(target=names, name=names, new_name=st.sampled_from(NAMES))
    def mv(self, name: str, new_name: str) -> str:
        self._both("mv", name, new_name)
        return new_name

    @rule(name=names, selector=selectors)
    def rm(self, name: str, selector: int | str | None) -> None:
        self._both("rm", name, selector)

    @rule(name=names, count=st.integers(1, 2))
    def rm_keep_last(self, name: str, count: int) -> None:
        self._both("rm", name, None, keep_last=count)

    @rule(name=names, selector=selectors)
    def drop(self, name: str, selector: int | str | None) -> None:
        """Drop the weights: of these contents, the files that hold tensors."""
        spec = name if selector is None else f"{name}@{selector}"
        expected = failed = None
        try:
            files = self.model.version(name, selector).files
            weights = {path for path, content in files.items() if content in WEIGHTS}
            self.model.drop(name, selector, weights)
        except HartonomousError as error:
            expected = error
        try:
            self.store.drop(spec, "weights")
        except HartonomousError as error:
            failed = error
        assert type(expected) is type(failed), (expected, failed)

    @rule()
    def undo(self) -> None:
        self._both("undo")

    # -- care

    @rule(empty_trash=st.booleans())
    def gc(self, empty_trash: bool) -> None:
        gone = self.model.gc(empty_trash=empty_trash)
        done = self.store.gc(trash_days=0 if empty_trash else 30, grace_s=0)
        assert sorted(done.purged_versions) == sorted(
            f"{one.artifact.name}@{one.number}" for one in gone
        )
        assert done.notes == ()

    @rule()
    def gc_dry_run(self) -> None:
        self.store.gc(trash_days=0, grace_s=0, dry_run=True)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = hn.open(self.path, settings={"workers": 1})

    @rule()
    def repair(self) -> None:
        self.store.close()
        done = hn.repair(self.path)
        assert (done.damaged, done.lost, done.recovered) == ((), (), ())
        self.store = hn.open(self.path, settings={"workers": 1})
        for former in self.path.glob("catalog.sqlite3.before-repair-*"):
            former.unlink()
        # Files that were freed are back as long as their packs are there.
        self.gc(empty_trash=True)

    @rule()
    def verify(self) -> None:
        report = self.store.verify(files=True)
        assert report.sound, report.faults
        assert report.complete

    @rule()
    def read_everything(self) -> None:
        for version in self.model.live():
            out = self.place / "out"
            self.store.get(f"{version.artifact.name}@{version.number}", out)
            assert _files_below(out, version) == version.files
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True)

    @rule()
    def rescue(self) -> None:
        for found in rescue.FOUND.values():
            found.clear()
        index = rescue.read_store(self.path)
        state = rescue.replay(index)
        kept = state.selected("", True, False)
        labels = {
            (version["uid"], label)
            for (_, label), uid in state.labels.items()
            for _, version in kept
            if uid == version["uid"]
        }
        seen = [
            (
                name,
                one["number"],
                tuple(sorted(label for uid, label in labels if uid == one["uid"])),
            )
            for name, one in kept
        ]
        wanted = [
            (one.artifact.name, one.number, self.model.labels_of(one)) for one in self.model.live()
        ]
        assert seen == wanted
        for (_, commit), version in zip(kept, self.model.live(), strict=True):
            for member in commit["members"]:
                out = self.place / "rescued"
                with out.open("w+b") as file:
                    assert rescue.rebuild(index, member["manifest"], file)
                    file.truncate()
                assert out.read_bytes() == version.files[member["path"]]
        assert rescue.FOUND["DAMAGED"] == rescue.FOUND["FAILED"] == set()

    # -- always

    @invariant()
    def same_names(self) -> None:
        if not hasattr(self, "store"):
            return
        seen = [
            (one.name, one.number, one.labels, one.digest, one.file_count, one.logical_bytes)
            for one in self.store.ls(versions=True)
        ]
        assert seen == [self._listed(one) for one in self.model.live()]
        newest = {one.name: one.number for one in self.store.ls()}
        assert newest == {one.artifact.name: one.number for one in self.model.live()}
        trash = sorted((one.name, one.number, one.digest) for one in self.store.ls(trash=True))
        assert trash == sorted(
            (one.artifact.name, one.number, _digest(one)) for one in self.model.trash()
        )

    def _listed(self, version: Version) -> tuple[object, ...]:
        return (
            version.artifact.name, version.number, self.model.labels_of(version), _digest(version),
            len(version.files), sum(map(len, version.files.values())),
        )  # fmt: skip

    @invariant()
    def same_tags(self) -> None:
        if not hasattr(self, "store"):
            return
        for version in self.model.live()[-2:]:
            shown = self.store.show(f"{version.artifact.name}@{version.number}")
            dropped = self.model.dropped_from(version)
            assert {one.path: one.logical_bytes for one in shown.dropped} == {
                path: len(content) for path, content in dropped.items()
            }
            assert set(shown.tags) == version.tags
            assert shown.labels == self.model.labels_of(version)
            assert {one.path: one.logical_bytes for one in shown.files} == {
                path: len(content) for path, content in version.files.items()
            }

    @invariant()
    def sums_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        stats = self.store.stats()
        live = self.model.live()
        files = [content for one in live for content in one.files.values()]
        assert stats.version_count == len(live)
        assert stats.artifact_count == len({one.artifact.name for one in live})
        assert stats.logical_bytes == sum(map(len, files))
        assert stats.file_count == len(files)
        assert stats.saved_by_equal_files == stats.logical_bytes - sum(map(len, set(files)))
        assert stats.trash_version_count == len(self.model.trash())
        assert stats.dead_bytes >= 0


def _digest(version: Version) -> str:
    members = [(path, digest(content)) for path, content in version.files.items()]
    return f"blake3:{tree_digest(members).hex()}"


def _files_below(out: Path, version: Version) -> Files:
    if out.is_file():
        (path,) = version.files
        return {path: out.read_bytes()}
    return {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()}


_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


# By name: a test of hypothesis' own class would not be run once for each engine.
@pytest.mark.timeout(0 if _LONG else 1200)
def test_the_store_and_the_dictionaries_agree(catalog_engine: str) -> None:
    examples = 8 if catalog_engine == "postgresql" else 15
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            settings.default, max_examples=400 if _LONG else examples, stateful_step_count=60
        ),
    )
