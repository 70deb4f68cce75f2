"""Search: passages of stored documents and model cards, pictures, models, and tensors by name.

Each method gives an order: words by BM25, words that are like them, what is said of versions, names
of tensors, and vectors of the text's meaning. The orders are fused by reciprocal rank.
"""

from collections.abc import Sequence

import msgspec

from hartonomous.catalog.texts import VersionWords
from hartonomous.core.condition import parse_condition
from hartonomous.core.diversity import VariedHit, diverse
from hartonomous.core.indexed_text import IndexedPassage, RankedPassage
from hartonomous.core.notebook import html_table
from hartonomous.core.picture_page import ShownPicture, pictures_table
from hartonomous.core.place import Place, shown_place
from hartonomous.core.query import WordQuery, parse_query
from hartonomous.core.rank_fusion import fuse, ranks
from hartonomous.core.snippet import Snippet, snippet
from hartonomous.core.terms import terms
from hartonomous.errors import UsageError
from hartonomous.packs.found_pictures import FoundPicture, found_pictures, pictures_on_pages
from hartonomous.packs.kept_uses import KeptUses
from hartonomous.packs.meaning_search import MeaningSearch, Wanted
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.search_filter import KINDS, Chosen, SearchFilter
from hartonomous.packs.tensors_by_words import tensor_words, tensors_by_words
from hartonomous.packs.text_views import change_number, is_current, open_index, refresh_views
from hartonomous.packs.word_search import MOST_ROWS, WordSearch
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.ports.text_index import TextIndex
from hartonomous.ports.vector_index import Vectors

__all__ = ["KINDS", "SearchFilter", "SearchHit", "SearchResult", "place_of", "search"]

MOST_HITS = 1_000

_DIVERSE_POOL = 100
_COVERED = 0.6
"""From this share of the query on, by rarity, one passage has what is asked for."""
_LIKE = 0.7
"""The same where words like those count too; two of three may be like them by chance."""
_HELD = 0.8
"""From this share on nothing is gained by passages that have words like those."""
_BY_WORDS = {"words": 1.0, "letters": 0.5, "meaning": 0.02}
_BY_LETTERS = {"words": 0.02, "letters": 1.0, "meaning": 0.02}
_BY_BOTH = {"words": 0.02, "letters": 0.3, "meaning": 1.0}
_BY_MEANING = {"words": 0.02, "letters": 0.03, "meaning": 1.0}
"""What the orders count, others 1; fitted to the development half of the questions in the tests.

By words or letters where they cover the query: then people know what the text says. By meaning, and
letters too, where words like those cover it in part: they may be misspelled, or others.
"""
_NAMED = 5.0
"""What tensors count where all that is asked for names one: parts of names, roles, shapes."""
_WITHOUT_MEANING = {"words": 1.0, "letters": 0.5}

Key = tuple[str, object]
"""The kind of a hit, and what names it: a passage's place, a version's id, a tensor's place."""


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found, and where it is.

    ``page`` counts what ``pages`` names (page, slide, sheet, chapter, cell) from 1, 0 for none;
    ``start`` and ``stop`` are characters of that page's text. ``marks`` are the ranges of
    ``snippet`` that match. ``ranks`` say which place each method gave it, ``scores`` its own score
    there, ``why`` the same in words. ``also_in`` are further versions with the same file.
    ``contains`` counts the pictures on a passage's page, ``thumbnail`` is a picture's, as a
    ``data:`` address. Of a picture, ``part`` names it in the document that contains it, ``area`` is
    its rectangle (x, y, width, height) in parts of the page's size, and ``region`` that of the
    patch that is nearest, in pixels; None where they are not known, or it is the whole. Of a
    version found by what is said of it (``kind`` is "model") ``artifact_kind`` says what it is.
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
    scores: dict[str, float] = {}
    why: str = ""
    heading: str = ""
    pages: str = ""
    page: int = 0
    start: int = 0
    stop: int = 0
    also_in: tuple[str, ...] = ()
    also_in_count: int = 0
    contains: int = 0
    thumbnail: str = ""
    part: str = ""
    area: tuple[float, float, float, float] | None = None
    region: tuple[int, int, int, int] | None = None
    artifact_kind: str = ""


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
        title = f"{len(self.hits)} hits for {self.query}"
        if any(one.thumbnail for one in self.hits):
            return pictures_table(title, (
                ShownPicture(one.thumbnail, place_of(one), one.heading, one.snippet)
                for one in self.hits
            ))  # fmt: skip
        rows = ((place_of(one), one.heading, one.snippet) for one in self.hits)
        return html_table(title, ("where", "under", "text"), rows)


def place_of(hit: SearchHit) -> str:
    """Return where a hit is, such as ``reports@2:plan.pdf page 3``."""
    return shown_place(hit.name, hit.number, hit.member, hit.pages, hit.page)


def search(
    parts: StoreParts,
    files: OpenFiles,
    text: str,
    *,
    where: SearchFilter | str | None = None,
    top_k: int = 10,
    skip: int = 0,
    per_file: int | None = None,
    varied: bool = False,
    near: MeaningSearch | None = None,
    like: str | None = None,
    space: str | None = None,
    modality: str | None = None,
    update: bool = True,
    progress: Progress | None = None,
) -> SearchResult:
    """Find passages, pictures, models and tensors; see ``core.query`` for what ``text`` may say.

    ``near`` is what searches by vectors; with ``like``, ``space`` and ``modality`` it does so as
    ``packs.meaning_search.Wanted`` says. ``text`` may be empty where something is ``like``.

    With ``update`` files that were not read yet are read first. ``skip`` leaves out the first hits
    (pages of results), ``per_file`` is how many passages of one file are listed, ``varied`` puts
    hits back that repeat what stands before them. ``where`` may be a condition as a text, such as
    ``meta.author = Ada*``. Raises UsageError for a wrong limit, kind or condition, or where there
    is no word.
    """
    query = parse_query(text) if text.strip() or like is None else WordQuery(text="", words=())
    _check(top_k, skip, per_file)
    meaning = Wanted(text=query.meant, like=like, space=space, modality=modality)
    wanted = where or SearchFilter()
    if isinstance(wanted, str):
        wanted = SearchFilter(condition=parse_condition(wanted))
    if modality is not None:
        left = {"picture"} if modality == "picture" else {"passage", "model", "tensor"}
        wanted = msgspec.structs.replace(
            wanted, kinds=tuple(one for one in wanted.kinds if one in left)
        )

    kept = KeptUses() if near is None else near.uses

    def found(index: TextIndex, number: str, notes: tuple[str, ...] = ()) -> SearchResult:
        chosen = Chosen(parts, index, wanted, kept.at(number))
        searching = _Searching(parts, index, query, chosen)
        if near is not None:
            searching.by_meaning(near, meaning, needed=skip + top_k + 1)
        return searching.result(
            top_k=top_k, skip=skip, per_file=per_file, varied=varied, notes=notes
        )

    opened = (lambda: open_index(parts)) if near is None else near.words.lent
    with opened() as index:
        number = change_number(parts)
        if not update or is_current(index, number):
            return found(index, number)
    made = refresh_views(parts, files, progress or NoProgress())
    with opened() as index:
        return found(index, change_number(parts), () if made is None else made.notes)


def _check(top_k: int, skip: int, per_file: int | None) -> None:
    if not 1 <= top_k <= MOST_HITS:
        raise UsageError(f"top-k {top_k} is not between 1 and {MOST_HITS}")
    if not 0 <= skip <= MOST_ROWS:
        raise UsageError(f"{skip} hits to skip are not between 0 and {MOST_ROWS}")
    if per_file is not None and per_file < 1:
        raise UsageError(f"{per_file} passages of a file: there is at least 1")


class _Searching:
    """One search: the orders of its methods, filtered by the catalog, fused."""

    def __init__(
        self, parts: StoreParts, index: TextIndex, query: WordQuery, chosen: Chosen
    ) -> None:
        self._index = index
        self._query = query
        self._wanted = chosen.wanted
        self._parts = parts
        self._about_tensors = tensor_words(query.text)
        self._chosen = chosen
        self._words = WordSearch(index, query, chosen)
        self._orders: dict[str, list[Key]] = {}
        self._scores: dict[str, dict[Key, float]] = {}
        self._ids: dict[Key, int] = {}
        self._places: dict[Key, Place] = {}
        self._versions: dict[Key, VersionWords] = {}
        self._told: dict[Key, SearchHit] = {}
        self._covered: dict[str, float] = {}
        self._notes: tuple[str, ...] = ()
        self._misspelled: tuple[str, ...] = ()
        self._near: tuple[MeaningSearch, Wanted] | None = None

    def result(
        self, *, top_k: int, skip: int, per_file: int | None, varied: bool, notes: tuple[str, ...]
    ) -> SearchResult:
        """Return the hits ``[skip, skip + top_k)``."""
        self._search(skip + top_k + 1, per_file)
        weights = self._weights()
        if not self._about_tensors.others:
            weights = {**weights, "tensors": _NAMED}
        fused = fuse([(order, weights.get(name, 1.0)) for name, order in self._orders.items()])
        fused = self._few_a_file(fused, per_file)
        more = len(fused) > skip + top_k
        hits: list[SearchHit] = []
        if varied:
            pool = self._hits(fused[: max(_DIVERSE_POOL, skip + top_k)])
            order = diverse(self._compared(pool))
            hits = [pool[at][1] for at in order][skip : skip + top_k]
        else:
            hits = [one for _, one in self._hits(fused[skip : skip + top_k])]
        return SearchResult(
            query=self._query.text, hits=tuple(hits), more=more,
            misspelled=self._misspelled,
            notes=(*notes, *self._notes, *self._chosen.notes()),
        )  # fmt: skip

    def by_meaning(self, near: MeaningSearch, wanted: Wanted, *, needed: int) -> None:
        """Find what is near in spaces."""
        self._near = (near, wanted)
        if not {"passage", "picture"} & set(self._wanted.kinds):
            return
        orders, self._notes = near.orders(wanted, self._chosen, needed=needed)
        admitted = self._words.admitted()
        for name, found in orders.items():
            scores: dict[Key, float] = {}
            for place, score in found:
                key = _key_of(place)
                if place.kind == "passage" and not admitted(
                    (place.digest, place.page, place.start)
                ):
                    continue
                if key[0] in self._wanted.kinds and key not in scores:
                    scores[key] = score
                    self._places[key] = place
            self._orders[name] = list(scores)
            self._scores[name] = scores

    def _compared(self, pool: Sequence[tuple[Key, SearchHit]]) -> list[VariedHit]:
        """Return what of hits is compared: their vectors in the spaces that are searched."""
        found: dict[Key, tuple[str, Vectors]] = {}
        if self._near is not None:
            found = self._near[0].vectors_of(self._near[1], [key for key, _ in pool])
        compared = []
        for key, one in pool:
            space, vector = found.get(key, ("", None))
            words = frozenset(terms(f"{one.heading} {one.snippet}"))
            compared.append(VariedHit(terms=words, space=space, vector=vector))
        return compared

    def _search(self, needed: int, per_file: int | None) -> None:
        kinds = self._wanted.kinds
        if not self._query.text.strip():
            return
        if "passage" in kinds:
            self._passages_by_terms(needed, per_file)
            self._misspelled = tuple(self._words.unknown)
        if "model" in kinds:
            found = self._words.versions()
            self._versions = {("model", one.version_id): one for one, _ in found}
            self._scores["models"] = {("model", one.version_id): score for one, score in found}
            self._orders["models"] = list(self._versions)
        if "tensor" in kinds:
            self._tensors()
            if self._told and not self._about_tensors.others:
                self._misspelled = ()  # no word of a text was meant

    def _passages_by_terms(self, needed: int, per_file: int | None) -> None:
        """Find passages by words, by letters, or by both where one of them does not do.

        Either takes about half of a search's time. Where the words that are known are too little of
        what is asked for, they count next to nothing once letters have it; and letters add little
        where the first passage has nearly all words, and there are as many as are needed.
        """
        words = self._words
        if words.known_share() < _COVERED:
            self._take("letters", words.by_letters(needed, per_file=per_file))
            if self._covers("letters") < _COVERED:
                self._take("words", words.by_words(needed, per_file=per_file))
            return
        rows = words.by_words(needed, per_file=per_file)
        self._take("words", rows)
        if len(rows) < needed or self._covers("words") < _HELD:
            self._take("letters", words.by_letters(needed, per_file=per_file))

    def _covers(self, name: str) -> float:
        """Return how much of the query the first passage by words or letters has: 0 to 1."""
        if name not in self._covered:
            order = self._orders.get(name, ())
            found = self._passages(order[:1])
            self._covered[name] = max(
                (
                    self._words.covered(
                        terms(f"{one.heading} {one.text}"), or_like=name == "letters"
                    )
                    for one in found.values()
                ),
                default=0.0,
            )
        return self._covered[name]

    def _weights(self) -> dict[str, float]:
        """Return what each order counts: words where one passage has what is asked for."""
        if self._covers("words") >= _COVERED:
            return _BY_WORDS
        has_meaning = bool(self._orders.get("meaning"))
        if self._covers("letters") >= (_LIKE if has_meaning else _COVERED):
            return _BY_LETTERS
        if not has_meaning:
            return _WITHOUT_MEANING
        return _BY_BOTH if self._covers("letters") >= _COVERED else _BY_MEANING

    def _take(self, name: str, rows: Sequence[RankedPassage]) -> None:
        order: list[Key] = [("passage", (row.digest, row.page, row.start)) for row in rows]
        self._orders[name] = order
        self._scores[name] = dict(zip(order, (row.score for row in rows), strict=True))
        self._ids.update(zip(order, (row.id for row in rows), strict=True))

    def _few_a_file(
        self, fused: list[tuple[Key, float]], per_file: int | None
    ) -> list[tuple[Key, float]]:
        if per_file is None:
            return fused
        counts: dict[object, int] = {}
        kept = []
        for key, score in fused:
            group = key[1][0] if isinstance(key[1], tuple) and key[0] == "passage" else key
            counts[group] = counts.get(group, 0) + 1
            if counts[group] <= per_file:
                kept.append((key, score))
        return kept

    # -- hits

    def _hits(self, shown: Sequence[tuple[Key, float]]) -> list[tuple[Key, SearchHit]]:
        passages = self._passages([key for key, _ in shown if key[0] == "passage"])
        sources = self._index.sources({one.digest for one in passages.values()})
        pictures = found_pictures(
            self._parts, [self._places[key] for key, _ in shown if key[0] == "picture"]
        )
        contained = pictures_on_pages(
            self._parts,
            [(one.digest, self._chosen.uses(one.digest)[0].path) for one in passages.values()],
        )
        said = self._chosen.said([self._versions[key] for key, _ in shown if key[0] == "model"])
        hits = []
        for key, score in shown:
            own = {
                "score": score,
                "ranks": ranks(self._orders, key),
                "scores": {
                    name: found[key] for name, found in self._scores.items() if key in found
                },
            }
            if key[0] == "passage":
                passage = passages.get(key)
                if passage is None:
                    continue  # read anew, or dropped, since it was found
                source = sources.get(passage.digest)
                hit = self._passage_hit(passage)
                own |= {
                    "title": source.title if source else "",
                    "pages": source.pages if source else "",
                    "contains": contained.get(passage.digest, {}).get(passage.page, 0),
                }
            elif key[0] == "picture":
                hit = self._picture_hit(self._places[key], pictures)
            elif key[0] == "model":
                model = self._versions[key]
                part = snippet(said[model.version_id], self._query.terms)
                hit = _hit("model", model.name, model.number, "", part)
                own["artifact_kind"] = model.kind
            else:
                hit = self._told[key]
            hit = msgspec.structs.replace(hit, **own)
            hits.append((key, msgspec.structs.replace(hit, why=self._why(hit))))
        return hits

    def _passages(self, keys: Sequence[Key]) -> dict[Key, IndexedPassage]:
        """Return passages by their keys; those that vectors alone found are looked up by place."""
        ids = {self._ids[key]: key for key in keys if key in self._ids}
        found = {ids[number]: one for number, one in self._index.passages(list(ids)).items()}
        for key in keys:
            if key not in found and key in self._places:
                place = self._places[key]
                one = self._index.passage_at(place.digest, place.page, place.start)
                if one is not None:
                    found[key] = one
        return found

    def _picture_hit(self, place: Place, known: dict[Place, FoundPicture]) -> SearchHit:
        first, *others = self._chosen.uses(place.digest)
        region = (place.x, place.y, place.width, place.height) if place.width else None
        part = f"{place.width} x {place.height} at {place.x}, {place.y}" if place.width else ""
        about = known.get(place)
        if about is not None:
            part = f"{about.about}; {part}" if part else about.about
        return SearchHit(
            kind="picture", name=first.name, number=first.number, member=first.path, title="",
            snippet=part, marks=(), score=0.0, ranks={}, page=place.page,
            pages=about.pages if about else "", thumbnail=about.thumbnail if about else "",
            part=about.part if about else "",
            area=about.area if about and any(about.area) else None, region=region,
            also_in=tuple(f"{each.name}@{each.number}" for each in others[:8]),
            also_in_count=len(others),
        )  # fmt: skip

    def _passage_hit(self, one: IndexedPassage) -> SearchHit:
        first, *others = self._chosen.uses(one.digest)
        part = snippet(one.text, self._query.terms)
        return SearchHit(
            kind="passage", name=first.name, number=first.number, member=first.path, title="",
            snippet=part.text, marks=part.marks, score=0.0, ranks={}, heading=one.heading,
            page=one.page, start=one.start, stop=one.stop,
            also_in=tuple(f"{each.name}@{each.number}" for each in others[:8]),
            also_in_count=len(others),
        )  # fmt: skip

    def _why(self, hit: SearchHit) -> str:
        """Say which words were found, and what each method makes of it."""
        told: list[str] = []
        shown = terms(f"{hit.heading} {hit.snippet}")
        has = [one for one in self._query.match().terms if one in shown]
        if has:
            told.append(f"has {', '.join(has)}")
        like = [
            f"{similar} for {term}"
            for term, found in self._words.like.items() if term not in has
            for similar in found if similar in shown
        ] if "letters" in hit.ranks else []  # fmt: skip
        if like:
            told.append(f"like: {', '.join(like)}")
        for name, rank in hit.ranks.items():
            score = hit.scores.get(name)
            told.append(f"{name} {rank}" + (f" ({score:.3g})" if score is not None else ""))
        return "; ".join(told)

    def _tensors(self) -> None:
        """Find tensors by names, roles and shapes."""
        for row in tensors_by_words(self._parts, self._chosen, self._about_tensors):
            key = ("tensor", (row.name, row.number, row.path, row.tensor))
            shape = ", ".join(map(str, row.shape))
            line = f"{row.tensor} {row.dtype} [{shape}] {row.role}"
            self._told[key] = _hit(
                "tensor", row.name, row.number, row.path, snippet(line, self._query.terms)
            )
        self._orders["tensors"] = list(self._told)


def _key_of(place: Place) -> Key:
    if place.kind == "passage":
        return "passage", (place.digest, place.page, place.start)
    # A picture's patches are the picture's; in a document each has a page and a number.
    return "picture", (place.digest, place.page, place.start)


def _hit(kind: str, name: str, number: int, member: str, part: Snippet) -> SearchHit:
    return SearchHit(
        kind=kind, name=name, number=number, member=member, title=name, snippet=part.text,
        marks=part.marks, score=0.0, ranks={},
    )  # fmt: skip
