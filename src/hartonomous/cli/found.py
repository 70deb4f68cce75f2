"""How hits of a search by words are shown."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hartonomous.cli.page import Block, Cell
from hartonomous.cli.sizes import several

if TYPE_CHECKING:
    from hartonomous.operations.search import SearchHit, SearchResult


def hits_page(found: "SearchResult", *, explain: bool, skip: int) -> Iterable[Block]:
    """Return the hits, each with its number, its place, its headings and the text that matches."""
    if found.misspelled:
        yield Cell(told_unknown(found), "dim")
    if not found.hits:
        yield "nothing was found"
        return
    for number, hit in enumerate(found.hits, skip + 1):
        yield Cell(f"{number}. {_place(hit)}", "strong")
        if hit.heading:
            yield Cell(f"   {hit.heading}", "dim")
        yield f"   {hit.snippet}"
        if hit.contains:
            page = f"this {hit.pages or 'page'}" if hit.page else "this document"
            yield Cell(f"   {page} contains {several(hit.contains, 'picture')}", "dim")
        if hit.also_in_count:
            more = hit.also_in_count - len(hit.also_in)
            others = ", ".join(hit.also_in) + (f" and {more} more" if more > 0 else "")
            yield Cell(f"   also in {others}", "dim")
        if explain:
            yield Cell(f"   score {hit.score:.4f}: rank by {hit.why}", "dim")
    if found.more:
        yield Cell(f"there are more: --skip {skip + len(found.hits)} shows the next", "dim")


def told_unknown(found: "SearchResult") -> str:
    """Return which words no passage has, and what the hits are instead; empty for none."""
    if not found.misspelled:
        return ""
    text = f"no passage has: {', '.join(found.misspelled)}"
    ranks = {name for hit in found.hits for name in hit.ranks}
    if ranks & {"meaning", "pictures"} and "letters" not in ranks:
        return f"{text}; what is near in meaning is listed"
    if not found.hits:
        return f"{text}, nor a word like that"
    return f"{text}; similar words are searched"


def _place(hit: "SearchHit") -> str:
    from hartonomous.operations.search import place_of

    kind = "" if hit.kind == "passage" else f" ({hit.artifact_kind or hit.kind})"
    return f"{place_of(hit)}{kind}"
