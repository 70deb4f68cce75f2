"""Labels, tags and metadata asked for in an add, where versions are there or come together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.catalog import artifacts, versions
from hartonomous.errors import UsageError

REVISIONS = ("1" * 40, "2" * 40)


@pytest.fixture
def cache(tmp_path: Path) -> Callable[..., Path]:
    """Write a hub cache of one model: content per revision, and which refs point to which."""
    top = tmp_path / "hub"

    def write(contents: dict[str, bytes], refs: dict[str, str]) -> Path:
        repository = top / "models--it--model"
        for revision, content in contents.items():
            place = repository / "snapshots" / revision
            place.mkdir(parents=True, exist_ok=True)
            (place / "weights.bin").write_bytes(content)
        (repository / "refs").mkdir(exist_ok=True)
        for name, revision in refs.items():
            (repository / "refs" / name).write_text(revision)
        return top

    return write


def labelled(store: hn.Store) -> dict[str, int]:
    """Return {label: version number} of the one artifact."""
    with store.parts.database.read() as tx:
        (name,) = artifacts.all_names(tx, limit=2)
        artifact = artifacts.by_name(tx, name)
        assert artifact is not None
        numbers = {one.id: one.number for one in versions.of_artifact(tx, artifact.id)}
        return {label: numbers[at] for label, at in artifacts.labels(tx, artifact.id).items()}


def test_revisions_of_equal_bytes_give_one_version_all_their_labels(store, cache):
    first, second = REVISIONS
    top = cache({first: b"same", second: b"same"}, {"main": second, "v1": first})
    store.add([top])
    assert labelled(store) == {"main": 1, "v1": 1}
    assert store.verify().sound


def test_a_label_for_a_known_and_a_new_revision_is_the_last_ones(store, cache):
    first, second = REVISIONS
    store.add([cache({first: b"first"}, {"main": first})])
    store.add([cache({second: b"second"}, {"main": second})], labels=["prod"])
    assert labelled(store) == {"main": 2, "prod": 2}
    assert store.verify().sound


@pytest.mark.parametrize("metadata", [{"epoch": 3}, {"a=b": "c"}, {"loss": None}, {3: "c"}])
def test_metadata_that_a_rebuild_could_not_read_are_refused(store, source, metadata):
    path = source("a.bin", b"a" * 5000)
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="metadata"):
            store.add(path, metadata=metadata, dry_run=dry_run)
    with pytest.raises(UsageError, match="metadata"):
        store.add_tensors({"w": np.ones(3)}, "run", metadata=metadata)
    assert store.ls() == []
    assert store.verify().sound
