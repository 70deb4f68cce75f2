"""Where atoms lie is looked up for many files at once, with what they are built on."""

import os
from pathlib import Path

import hartonomous as hn
from hartonomous.catalog import extents, resolve, versions


def test_the_extents_of_files_are_those_of_their_atoms(tmp_path: Path) -> None:
    with hn.open(tmp_path / "store", create=True, settings={"workers": 1}) as store:
        for name in ("one", "two"):
            (tmp_path / name).write_bytes(os.urandom(200_000))
            store.add(tmp_path / name)
        with store.parts.database.read() as tx:
            ids = [
                member.manifest_id
                for name in ("one", "two")
                for member in versions.members_of(tx, resolve.version(tx, name).id)
            ]
            found = extents.of_manifests(tx, ids, most=1000)
            assert sum(place.length for places in found.values() for place in places) == 400_000
            assert extents.of_atoms_and_bases(tx, found) == extents.of_atoms(tx, found) == found
            first = extents.of_manifests(tx, ids, most=len(found))
            assert first == dict(sorted(found.items())[:-1])
        store.get("one", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()
