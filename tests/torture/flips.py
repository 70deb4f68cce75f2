"""Flips bits at chosen places of a store's files, and judges what comes out of it."""

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture import operations
from tests.torture.bench import Bench, Tally

from hartonomous.objects.local import LocalObjects
from hartonomous.packs.pack_file import PackReader

KINDS = (
    "pack", "catalog", "rows", "twice", "plain", "stamp", "card", "index", "block", "vectors",
    "tail",
)  # fmt: skip
"""Any place of a pack; of the catalog; of its pages that hold rows; a payload that is there twice;
a plain file in the cache; what the cache keeps of it; ``store.json``; the index of words; a payload
of a block of vectors; an index of vectors; a vector that is a row of the catalog."""
_SHOWN = ("failed", "came", "log", "state")
_NAMED = (
    "pack ", "atom ", "manifest ", "file ", "version ", "change ", "second copy ", "catalog",
    "plain file ", "index of ", "space ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flip:
    """A bit of a file, by its path in the store."""

    path: str
    byte: int
    bit: int


class FlipBench:
    """A store with something of everything, and what a sound one gives."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.made = bench.base / "rich"
        answer = bench.plain.ask(
            "make", store=str(self.made), files=str(bench.base / "rich-files"), rich=True
        )
        assert answer.keys() == {"acknowledged", "status", "seconds"}, answer
        self.sound = self._damaged(self.made)
        assert self.sound.get("faults") == [] and not self.sound["failed"], self.sound
        self._twice = list(_payloads(self.made, _TWICE))
        assert self._twice, "nothing is kept twice"
        self._blocks = list(_payloads(self.made, _OF_BLOCKS))
        assert len(self._blocks) >= len(operations.SPACES), "there are no blocks of vectors"
        for name, hits in self.sound["near"].items():
            assert len(hits) == 15, (name, hits)

    def choose(self, kind: str, chance: random.Random) -> Flip:
        """Return a place of one of the ``KINDS`` by chance."""
        if kind in ("twice", "block"):
            path, start, stop = chance.choice(self._twice if kind == "twice" else self._blocks)
            return Flip(path, chance.randrange(start, stop), chance.randrange(8))
        if kind == "rows":
            return self._in_rows(chance)
        if kind == "tail":
            return self._in_tail(chance)
        pattern = {
            "pack": "packs/*/*.pack", "catalog": "catalog.sqlite3", "card": "store.json",
            "plain": "cache/[0-9a-f]*/*", "stamp": "cache/stamps/*", "index": "index/words*",
            "vectors": "index/spaces/*/[!l]*",
        }[kind]  # fmt: skip
        path = chance.choice(sorted(self.made.glob(pattern)))
        place = chance.randrange(path.stat().st_size)
        return Flip(str(path.relative_to(self.made)), place, chance.randrange(8))

    def _in_rows(self, chance: random.Random) -> Flip:
        """Return a place in the used part of a page of the catalog."""
        content = (self.made / "catalog.sqlite3").read_bytes()
        size = int.from_bytes(content[16:18], "big")
        used = [
            place
            for start in range(0, len(content), size)
            if any(content[start + 8 : start + size])
            for place in range(start, start + size)
            if content[place]
        ]
        return Flip("catalog.sqlite3", chance.choice(used), chance.randrange(8))

    def _in_tail(self, chance: random.Random) -> Flip:
        """Return a place in a vector that is in no block yet, or in what it is about."""
        path = self.made / "catalog.sqlite3"
        with closing(sqlite3.connect(path)) as catalog:
            rows = catalog.execute("SELECT place, vector FROM space_tail").fetchall()
        one = chance.choice([value for row in rows for value in row])
        start = path.read_bytes().index(one)
        return Flip("catalog.sqlite3", start + chance.randrange(len(one)), chance.randrange(8))

    def try_flip(self, kind: str, flip: Flip) -> Tally:
        """Flip a bit, look, and bring the store back."""
        tally = Tally(tried=1)
        store = self._broken(flip)
        found = self._damaged(store)
        if ended := _ended(found):
            tally.wrong = [f"{kind}, {flip}: {one}" for one in ended]
            return tally
        wrong = self._wrong_bytes(found)
        told = bool(found["faults"]) or "refused" in found
        tally.hit = int(told)
        if kind == "index":
            wrong += self._wrong_index(flip, found)
        if kind in ("block", "vectors") and found.get("near") != self.sound["near"]:
            wrong += self._wrong_near(found)
        if not told and (differs := self._differs(found, (*_SHOWN, "near"))):
            wrong.append(f"verify finds nothing, and yet: {differs}")
        wrong += [
            f"{one[0]} names nothing" for one in found["faults"]
            if not one[0].startswith(_NAMED)
        ]  # fmt: skip
        if kind in ("pack", "twice", "block"):
            wrong += _unnamed(found)
        wrong += self._brought_back(kind, flip, told)
        tally.wrong = [f"{kind}, {flip}: {one}" for one in wrong]
        tally.lost = sum("other bytes came out" in one for one in wrong)
        return tally

    def _broken(self, flip: Flip) -> Path:
        store = self._bench.base / "flipped"
        if store.exists():
            _remove(store)
        # Times and hard links as they are: whoever compares them sees no change.
        shutil.copytree(self.made, store, copy_function=shutil.copy2)
        if flip.path.startswith("cache/"):
            self._damaged(store)  # learns the inodes of the copies, which it would not trust else
        path = store / flip.path
        kept = path.stat()
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[flip.byte] ^= 1 << flip.bit
        with path.open("r+b") as file:
            file.write(content)
        path.chmod(kept.st_mode & 0o777)
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        return store

    def _damaged(self, store: Path, before: str = "") -> dict[str, Any]:
        return self._bench.plain.ask(
            "damaged", store=str(store), out=str(self._bench.base / "out"), before=before
        )

    def _wrong_bytes(self, found: dict[str, Any]) -> list[str]:
        """Say what came out with bytes that it never had."""
        known = set(self.sound["came"].values())
        return [
            f"other bytes came out: {what}"
            for what, digest in found.get("came", {}).items()
            if digest not in known or self.sound["came"].get(what, digest) != digest
        ]

    def _differs(self, found: dict[str, Any], shown: tuple[str, ...]) -> str:
        """Say in what a store shows something else than the sound one."""
        for part in shown:
            here, there = found.get(part), self.sound.get(part)
            if here != there:
                if not isinstance(here, dict) or not isinstance(there, dict):
                    return f"{part}: {str(here)[:300]}"
                names = [name for name in here.keys() | there.keys()
                         if here.get(name) != there.get(name)]  # fmt: skip
                return f"{part}: {sorted(names)[:5]}"
        return ""

    def _wrong_near(self, found: dict[str, Any]) -> list[str]:
        """Say which space finds something else: with a block damaged it may refuse, no more."""
        if "near" not in found:
            return []  # told of as a whole
        return [
            f"space {name} finds something else: {hits[:2]}"
            for name, hits in found["near"].items()
            if hits != self.sound["near"].get(name) and not hits[0].startswith("IntegrityError")
        ]

    def _wrong_index(self, flip: Flip, found: dict[str, Any]) -> list[str]:
        """Say what is wrong but the index, and whether a search finds what it found."""
        if found["faults"] or "refused" in found:
            others = [one for one in found["faults"] if not one[0].startswith("index of ")]
            wrong = [f"more than the index is damaged: {others}"] if others else []
            mended = self._damaged(self._broken(flip), "mend")
            same = mended.get("search") == self.sound["search"]
            return wrong if same else [*wrong, "an index that is made anew finds something else"]
        if found.get("search") != self.sound["search"]:
            return [f"verify finds nothing, and yet: search: {str(found.get('search'))[:300]}"]
        return []

    def _brought_back(self, kind: str, flip: Flip, told: bool) -> list[str]:
        """Repair what was found, as far as that can be, and say what is wrong afterwards."""
        if not told or kind in ("pack", "block", "card"):
            return []  # what a pack held once is gone
        how = "repair" if kind in ("catalog", "rows", "tail") else "mend"
        found = self._damaged(self._broken(flip), how)
        if ended := _ended(found):
            return [f"behind the repair: {one}" for one in ended]
        wrong = self._wrong_bytes(found)
        wrong += [f"behind the repair: {one}" for one in found.get("lost", [])]
        wrong += [f"behind the repair: {one}" for one in found["faults"]]
        # A catalog that is made anew has no tail, and the removed vectors of blocks are back.
        shown = _SHOWN if how == "repair" else (*_SHOWN, "near")
        if differs := self._differs(found, shown):
            wrong.append(f"the repair leaves {differs}")
        return wrong


def _ended(found: dict[str, Any]) -> list[str]:
    """Say how a process ended that was to end well."""
    wrong = [] if found["status"] == 0 else [f"ended with {found['status']}"]
    return wrong + ([f"crashed: {found['crashed']}"] if "crashed" in found else [])


def _unnamed(found: dict[str, Any]) -> list[str]:
    """Say which version does not come out that no fault names."""
    named = {name.partition(":")[0] for one in found["faults"] for name in one[2]}
    missing = {spec.partition(",")[0] for spec in found["failed"]} - {"everything"}
    return [f"no fault names {spec}" for spec in missing if spec not in named]


_TWICE = "e.atom_id IN (SELECT atom_id FROM extent WHERE copy = 1)"
_OF_BLOCKS = (
    "e.atom_id IN (SELECT a.atom_id FROM manifest_atom a JOIN member m"
    " ON m.manifest_id = a.manifest_id JOIN version v ON v.id = m.version_id"
    " WHERE v.kind = 'vectors')"
)


def _payloads(store: Path, condition: str) -> Iterator[tuple[str, int, int]]:
    """Yield (pack, start, stop) of the payloads of the extents that a condition is true of."""
    query = (
        "SELECT hex(p.key), e.header_offset FROM extent e JOIN pack p ON p.id = e.pack_id"
        f" WHERE {condition} AND e.stored_bytes > 0"
    )
    with closing(sqlite3.connect(store / "catalog.sqlite3")) as catalog:
        rows = catalog.execute(query).fetchall()
    for key, at in rows:
        name = f"packs/{key[:2].lower()}/{key.lower()}.pack"
        reader = PackReader(LocalObjects(store).open(name), name)
        header = reader.record(at)
        yield name, header.offset, header.offset + header.stored
        reader.close()


def _remove(store: Path) -> None:
    for path in store.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(store)
