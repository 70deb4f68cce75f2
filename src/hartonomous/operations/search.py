"""Search by words: passages of stored documents and model cards, models, and tensors by name.

Words are ranked by BM25, runs of three letters find what is misspelled, and models are found by
what is said of them; the orders are fused by reciprocal rank.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec

from hartonomous.catalog import tensors, texts
from hartonomous.catalog.patterns import holding
from hartonomous.catalog.tensors import TensorFilter
from hartonomous.catalog.texts import TextUse, VersionWords
from hartonomous.catalog.word_index import IndexedPassage, WordIndex
from hartonomous.core.notebook import html_table
from hartonomous.core.query import WordQuery, parse_query
from hartonomous.core.rank_fusion import fuse
from hartonomous.core.snippet import Snippet, snippet
from hartonomous.errors import UsageError
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.text_views import open_index, update_views
from hartonomous.ports.progress import NoProgress, Progress

MOST_HITS = 1_000
KINDS = ("passage", "model", "tensor")

_FIRST_ROWS = 200
_MOST_ROWS = 200_000
_TENSORS_READ = 200
_LETTERS_SHARE = 0.4
_LETTERS_WEIGHT = 0.3
_LETTERS_WEIGHT_MISSPELLED = 2.0
_WORD = re.compile(r"\w+")
_TENSOR_NAME = re.compile(r"[._]")

_SAID = (
    "title", "summary", "architecture", "model_type", "licence", "library", "pipeline_tag",
    "formats", "languages", "tags", "datasets",
)  # fmt: skip

Key = tuple[str, object]
"""The kind of a hit, and what names it: a passage's id, a version's, a tensor's place."""


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found, and where it is.

    ``page`` counts what ``pages`` names (page, slide, sheet, chapter, cell) from 1, 0 for none;
    ``start`` and ``stop`` are characters of that page's text. ``marks`` are the ranges of
    ``snippet`` that match. ``ranks`` say which place each method gave it. ``also_in`` are further
    versions with the same file.
    """

    kind: str
    name: str
    number: int
    member: str
    title: str
    snippet: str
    marks: tuple[tuple[int, int], ...]
    score: float
    ranks: dict[str, int]
    heading: str = ""
    pages: str = ""
    page: int = 0
    start: int = 0
    stop: int = 0
    also_in: tuple[str, ...] = ()
    also_in_count: int = 0


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hits, the best first. ``more`` says whether there are further ones.

    ``misspelled`` are words that no passage holds.
    """

    query: str
    hits: tuple[SearchHit, ...]
    more: bool = False
    misspelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        rows = ((place_of(one), one.heading, one.snippet) for one in self.hits)
        return html_table(
            f"{len(self.hits)} hits for {self.query}", ("where", "under", "text"), rows
        )


class SearchFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which hits count. Times are microseconds UTC of when a version was added."""

    kinds: tuple[str, ...] = KINDS
    name: str | None = None
    tag: str | None = None
    after_us: int | None = None
    before_us: int | None = None
    metadata: tuple[tuple[str, str], ...] = ()


def place_of(hit: SearchHit) -> str:
    """Return where a hit is, such as ``reports@2:plan.pdf page 3``."""
    file = f":{hit.member}" if hit.member else ""
    page = f" {hit.pages or 'page'} {hit.page}" if hit.page else ""
    return f"{hit.name}@{hit.number}{file}{page}"


def search(
    parts: StoreParts,
    files: OpenFiles,
    text: str,
    *,
    where: SearchFilter | None = None,
    top_k: int = 10,
    skip: int = 0,
    per_file: int | None = None,
    update: bool = True,
    progress: Progress | None = None,
) -> SearchResult:
    """Find passages, models and tensors by words; see ``core.query`` for what ``text`` may say.

    With ``update`` files that were not read yet are read first. ``skip`` leaves out the first hits
    (pages of results), ``per_file`` is how many passages of one file are listed. Raises UsageError
    for a wrong limit or kind, or where there is no word.
    """
    wanted = where or SearchFilter()
    query = parse_query(text)
    _check(wanted, top_k, skip, per_file)
    notes: tuple[str, ...] = ()
    if update:
        notes = update_views(parts, files, progress or NoProgress()).notes
    with open_index(parts) as index:
        searching = _Searching(parts, index, query, wanted)
        return searching.result(top_k=top_k, skip=skip, per_file=per_file, notes=notes)


def _check(wanted: SearchFilter, top_k: int, skip: int, per_file: int | None) -> None:
    if not 1 <= top_k <= MOST_HITS:
        raise UsageError(f"top-k {top_k} is not between 1 and {MOST_HITS}")
    if not 0 <= skip <= _MOST_ROWS:
        raise UsageError(f"{skip} hits to skip are not between 0 and {_MOST_ROWS}")
    if per_file is not None and per_file < 1:
        raise UsageError(f"{per_file} passages of a file: there is at least 1")
    for one in wanted.kinds:
        if one not in KINDS:
            raise UsageError(f"{one!r} is no kind of hit", hint=f"there are {', '.join(KINDS)}")


class _Searching:
    """One search: the orders of its methods, filtered by the catalog, fused."""

    def __init__(
        self, parts: StoreParts, index: WordIndex, query: WordQuery, wanted: SearchFilter
    ) -> None:
        self._index = index
        self._query = query
        self._wanted = wanted
        self._database = parts.database
        self._uses: dict[bytes, list[TextUse]] = {}
        self._digests: dict[int, bytes] = {}

    @cached_property
    def _annotations(self) -> dict[int, tuple[set[str], dict[str, str]]]:
        """Tags and metadata by version, read once where a condition or a model asks for them."""
        with self._database.read() as tx:
            return texts.tags_and_metadata(tx)

    def result(
        self, *, top_k: int, skip: int, per_file: int | None, notes: tuple[str, ...]
    ) -> SearchResult:
        """Return the hits ``[skip, skip + top_k)``."""
        orders: dict[str, list[Key]] = {}
        misspelled: list[str] = []
        if "passage" in self._wanted.kinds:
            needed = skip + top_k + 1
            orders["words"] = self._passages(self._index.by_words, needed, per_file=per_file)
            if not self._query.phrases and not self._query.without:
                # Letters know neither what has to stand together nor what must not be there.
                orders["letters"] = self._passages(
                    self._index.by_grams, needed, per_file=per_file, least_share=_LETTERS_SHARE
                )
            misspelled = self._index.unknown(self._query.terms)
        if "model" in self._wanted.kinds:
            models, told = self._models()
            orders["models"] = models
        else:
            told = {}
        if "tensor" in self._wanted.kinds:
            found, tensors_told = self._tensors()
            orders["tensors"] = found
            told = {**told, **tensors_told}
        letters = _LETTERS_WEIGHT_MISSPELLED if misspelled else _LETTERS_WEIGHT
        weights = {"letters": letters}
        fused = fuse([(order, weights.get(name, 1.0)) for name, order in orders.items()])
        fused = self._diverse(fused, per_file)
        places = {
            name: {key: at for at, key in enumerate(order, 1)} for name, order in orders.items()
        }
        shown = fused[skip : skip + top_k]
        passages = self._read([_passage_id(key) for key, _ in shown if key[0] == "passage"])
        hits = []
        for key, score in shown:
            ranks = {name: order[key] for name, order in places.items() if key in order}
            if key[0] == "passage":
                hits.append(self._passage_hit(passages[_passage_id(key)], score, ranks))
            else:
                hits.append(msgspec.structs.replace(told[key], score=score, ranks=ranks))
        return SearchResult(
            query=self._query.text,
            hits=tuple(hits),
            more=len(fused) > skip + top_k,
            misspelled=tuple(misspelled),
            notes=notes,
        )

    # -- passages

    def _passages(
        self,
        ranked: Callable[..., Sequence[tuple[int, bytes, float]]],
        needed: int,
        *,
        per_file: int | None,
        least_share: float = 0.0,
    ) -> list[Key]:
        """Return passages that pass the filter, the best first; as many as ``needed`` if there are.

        Of one file ``per_file`` count, so that a long document does not hide the others.
        What shares only few letters with the words is noise: it is left out.
        """
        limit = max(_FIRST_ROWS, 2 * needed)
        while True:
            rows = ranked(self._query, limit=limit)
            self._learn(rows)
            least = least_share * rows[0][2] if rows else 0.0
            found: list[Key] = [
                ("passage", row[0]) for row in rows if row[2] >= least and self._uses.get(row[1])
            ]
            ended = len(rows) < limit or rows[-1][2] < least or limit >= _MOST_ROWS
            if ended or self._counting(found, per_file) >= needed:
                return found
            limit *= 4

    def _counting(self, found: Sequence[Key], per_file: int | None) -> int:
        if per_file is None:
            return len(found)
        files = Counter(self._digests[_passage_id(key)] for key in found)
        return sum(min(count, per_file) for count in files.values())

    def _learn(self, rows: Iterable[tuple[int, bytes, float]]) -> None:
        new = {row[1] for row in rows} - self._uses.keys()
        self._digests.update((row[0], row[1]) for row in rows)
        with self._database.read() as tx:
            found = texts.uses(tx, new)
        for digest in new:
            self._uses[digest] = [one for one in found.get(digest, ()) if self._passes(one)]

    def _passes(self, use: TextUse | VersionWords) -> bool:
        wanted = self._wanted
        if wanted.name is not None and not fnmatch.fnmatchcase(use.name, wanted.name):
            return False
        if wanted.after_us is not None and use.created_us < wanted.after_us:
            return False
        if wanted.before_us is not None and use.created_us >= wanted.before_us:
            return False
        if not (wanted.tag or wanted.metadata):
            return True
        tags, metadata = self._annotations.get(use.version_id, (set(), {}))
        if wanted.tag is not None and wanted.tag not in tags:
            return False
        return all(fnmatch.fnmatchcase(metadata.get(key, ""), value) and key in metadata
                   for key, value in wanted.metadata)  # fmt: skip

    def _diverse(
        self, fused: list[tuple[Key, float]], per_file: int | None
    ) -> list[tuple[Key, float]]:
        if per_file is None:
            return fused
        counts: dict[object, int] = {}
        kept = []
        for key, score in fused:
            group = self._digests[_passage_id(key)] if key[0] == "passage" else key
            counts[group] = counts.get(group, 0) + 1
            if counts[group] <= per_file:
                kept.append((key, score))
        return kept

    def _read(self, ids: list[int]) -> dict[int, IndexedPassage]:
        found: dict[int, IndexedPassage] = {}
        for at in range(0, len(ids), 500):
            found.update(self._index.passages(ids[at : at + 500]))
        return found

    def _passage_hit(self, one: IndexedPassage, score: float, ranks: dict[str, int]) -> SearchHit:
        source = self._index.source(one.digest)
        first, *others = self._uses[one.digest]
        part = snippet(one.text, self._query.terms)
        return SearchHit(
            kind="passage", name=first.name, number=first.number, member=first.path,
            title=source.title if source else "", snippet=part.text, marks=part.marks,
            score=score, ranks=ranks, heading=one.heading, pages=source.pages if source else "",
            page=one.page, start=one.start, stop=one.stop,
            also_in=tuple(f"{each.name}@{each.number}" for each in others[:8]),
            also_in_count=len(others),
        )  # fmt: skip

    # -- models and tensors

    def _models(self) -> tuple[list[Key], dict[Key, SearchHit]]:
        """Return versions by how many of the words are said of them, the newest of a name alone."""
        with self._database.read() as tx:
            said = texts.versions_said(tx)
        terms = set(self._query.terms)
        found: dict[str, tuple[int, VersionWords, str]] = {}
        for one in said:
            if one.name in found or not self._passes(one):
                continue
            text = _said_of(one, *self._annotations.get(one.version_id, (set(), {})))
            count = len(terms & {word.lower() for word in _WORD.findall(text.replace("_", " "))})
            if count:
                found[one.name] = (count, one, text)
        ordered = sorted(found.values(), key=lambda item: (-item[0], item[1].name))
        told: dict[Key, SearchHit] = {}
        for _, one, text in ordered[:MOST_HITS]:
            told["model", one.version_id] = _hit(
                "model", one.name, one.number, "", snippet(text, self._query.terms)
            )
        return list(told), told

    def _tensors(self) -> tuple[list[Key], dict[Key, SearchHit]]:
        """Return tensors whose names hold a word that looks like a part of one."""
        told: dict[Key, SearchHit] = {}
        parts = [one for one in self._query.text.split() if _TENSOR_NAME.search(one.strip("."))]
        for part in parts[:4]:
            like = holding(part.strip(".,;\"'"))
            with self._database.read() as tx:
                rows = tensors.search(tx, TensorFilter(name=like), limit=_TENSORS_READ)
            for row in rows:
                key = ("tensor", (row.name, row.number, row.path, row.tensor))
                shape = ", ".join(map(str, row.shape))
                line = f"{row.tensor} {row.dtype} [{shape}] {row.role}"
                told[key] = _hit(
                    "tensor", row.name, row.number, row.path, snippet(line, self._query.terms)
                )
        return list(told), told


def _passage_id(key: Key) -> int:
    assert isinstance(key[1], int)
    return key[1]


def _said_of(one: VersionWords, tags: set[str], metadata: dict[str, str]) -> str:
    """Return what is said of a version, in one line."""
    model = one.model or {}
    told: list[Any] = [one.name, *sorted(tags), *(f"{k}: {v}" for k, v in metadata.items())]
    for key in _SAID:
        value = model.get(key)
        told.extend(value if isinstance(value, list) else [value])
    return " · ".join(item for item in told if isinstance(item, str))


def _hit(kind: str, name: str, number: int, member: str, part: Snippet) -> SearchHit:
    return SearchHit(
        kind=kind, name=name, number=number, member=member, title="", snippet=part.text,
        marks=part.marks, score=0.0, ranks={},
    )  # fmt: skip
