"""``hart search``: passages, models and tensors by words; tensors by what they are."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hartonomous.cli.found import hits_page, told_unknown
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.html_file import write_html
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import several, size
from hartonomous.cli.text import clean
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.operations.search import SearchFilter, SearchResult
    from hartonomous.operations.tensor_search import FoundTensors, NearTensor

_SHAPE = re.compile(
    r"\[\]|\(\)|(\[|(\())?\s*[0-9]{1,19}(\s*[,x]\s*[0-9]{1,19})*\s*,?\s*(?(2)\)|(?(1)\]))"
)
_MOST_HITS = 1_000
_MOST_TENSORS = 100
_COLUMNS = (
    Column("artifact"), Column("tensor"), Column("type and shape"), Column("size", right=True),
    Column("role", extra=True), Column("file", extra=True), Column("digest", extra=True),
)  # fmt: skip
_NEAR_COLUMNS = (
    Column("bits apart", right=True), Column("type and shape"), Column("how"),
    Column("used by"), Column("digest", extra=True),
)  # fmt: skip


_NOTES_SHOWN = 5
_NARROWING = ("conditions", "name", "tag", "kinds", "after", "before", "as_of")
_FORMATS = frozenset(
    ("safetensors", "gguf", "onnx", "npy", "npz", "pdf", "docx", "pptx", "xlsx", "epub", "html")
)


class _Kind(click.Choice[str]):
    """A kind of hit; what is a format of files instead has its own way."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the kind; raises UsageError that says which there are."""
        if value in self.choices:
            return super().convert(value, param, ctx)
        from hartonomous.media.endings import ALL, PICTURES

        near = get_close_matches(value, self.choices, n=1)
        such = value if value in ALL | PICTURES | _FORMATS else "pdf"
        wanted = f"'format = {such}', or " if such in _FORMATS else ""
        raise UsageError(
            f"there is no kind {value!r} of hits; there are {', '.join(self.choices)}",
            hint=f"did you mean {near[0]!r}?" if near
            else f"of files of one format: --where {wanted}'file = *.{such}'",
        )  # fmt: skip


def _no_number(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Refuse -n, which is a dry run elsewhere and a number of lines in other tools."""
    if value is not None:
        raise UsageError(
            "search has no option -n", hint=f"--limit {value} or -k {value}: most hits"
        )
    del ctx


@make_command("search")
@click.argument("words", nargs=-1, metavar="[WORDS…]")
@click.option(
    "--top-k", "-k", type=click.IntRange(1, 1_000), default=10, show_default=True,
    help="Most hits of a search by words.",
)  # fmt: skip
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out the first hits.")
@click.option(
    "--kind", "kinds", multiple=True,
    type=_Kind(["passage", "picture", "model", "tensor"]),
    help="Only hits of this kind.",
)  # fmt: skip
@click.option("--name", metavar="PATTERN", help="Only artifacts of such names.")
@click.option("--tag", metavar="TAG", help="Only versions with this tag.")
@click.option("--after", metavar="DATE", help="Only what was added then or later: 2026-01-31.")
@click.option("--before", metavar="DATE", help="Only what was added before.")
@click.option("--as-of", metavar="TIME", help="Search what was in use then: 2026-01-31T12:00.")
@click.option(
    "--where", "conditions", multiple=True, metavar="CONDITION",
    help="Only what is such: 'meta.author = Ada* and size > 1MB'; may be repeated.",
)  # fmt: skip
@click.option(
    "--like", metavar="WHAT",
    help="A file, a stored one (NAME@N:FILE), its view ('NAME page 3, 120'), or VECTOR.npy.",
)  # fmt: skip
@click.option("--space", metavar="NAME", help="Search this embedding space.")
@click.option("--modality", type=click.Choice(["text", "picture"]), help="Search these alone.")
@click.option("--per-file", type=click.IntRange(1), default=None, help="Most passages of one file.")
@click.option("--diverse", "varied", is_flag=True, help="Put back hits that repeat others.")
@click.option("--explain", is_flag=True, help="Show each hit's ranks and scores, and why.")
@click.option("--no-update", is_flag=True, help="Do not read new documents first.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the hits as a page that needs no network.",
)  # fmt: skip
@click.option(
    "--open", "opened", type=click.IntRange(1, 1_000), metavar="NUMBER",
    help="Write the text or the picture of this hit's page to a file here, and print its path.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option(
    "--tensor", "pattern", metavar="PATTERN", help="A shell pattern over names, or a digest."
)
@click.option("--role", metavar="ROLE", help="What it does, such as attention-q or mlp-down.")
@click.option("--dtype", metavar="TYPE", help="Its element type, such as BF16 or Q4_K.")
@click.option("--shape", metavar="N,N…", help="Its shape, the slowest axis first.")
@click.option(
    "--near", nargs=2, metavar="NAME TENSOR", help="Stored tensors that resemble this one."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=None, show_default="100",
    help="Most tensors; with words, the same as -k.",
)  # fmt: skip
@click.option(
    "-n", "number", hidden=True, is_eager=True, expose_value=False, callback=_no_number,
    help="Is told to be --limit.",
)  # fmt: skip
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    *,
    words: tuple[str, ...],
    explain: bool,
    page: Path | None,
    opened: int | None,
    force: bool,
    near: tuple[str, str] | None,
    limit: int | None,
    like: str | None,
    **options: Any,
) -> None:
    """Find passages, models and tensors.

    Words find passages of documents and model cards, models by what is said of them, and
    tensors by parts of their names, by role (attention-q) and by shape (384x1536). Any of the
    words may occur, and misspelled ones are found too; "words in quotes" have to stand
    together, -words must not be there (behind two dashes: hart search -- valve -sea). Documents
    that were not read yet are read first.

    --tensor and what follows it find tensors alone. Which models hold this tensor: give its digest,
    or the beginning of it. Conditions add up. --near finds stored tensors whose values lie close,
    whatever their type or name.
    """
    by_tensor = {key: options.pop(key) for key in ("pattern", "role", "dtype", "shape")}
    asked = [one for one in by_tensor.values() if one is not None]
    if words or like is not None:
        if asked or near:
            raise UsageError(
                "words and conditions on tensors are two searches", hint="leave one of them out"
            )
        if limit is not None:
            options["top_k"] = min(limit, _MOST_HITS)
        _by_words(
            invocation, " ".join(words), explain=explain, page=page, opened=opened, force=force,
            like=like, **options,
        )  # fmt: skip
        return
    if near:
        if asked:
            raise UsageError("--near takes no other condition")
        with invocation.store() as store:
            found = store.nearest_tensors(*near)
        invocation.output.emit_each(found, human=_near, ids=lambda one: one.digest)
        return
    if not asked and any(options[key] for key in _NARROWING):
        raise UsageError(
            "there are no words to search for, and conditions only narrow a search by words down",
            hint="add words that occur there; 'hart ls PATTERN --tag TAG --kind KIND' lists without"
            " words, by name, tag and kind, and not by metadata",
        )
    if not asked:
        raise UsageError(
            "there are no words to search for",
            hint="hart search leaking valve (--where, --name and the like narrow that down), or "
            "hart search --tensor 'model.layers.0.*'",
        )
    _by_tensor(invocation, by_tensor, limit or _MOST_TENSORS)


def _by_tensor(invocation: Invocation, asked: dict[str, Any], limit: int) -> None:
    with invocation.store() as store:
        hits = store.search_tensors(
            asked["pattern"] or "*", role=asked["role"], dtype=asked["dtype"],
            shape=_shape(asked["shape"]), limit=limit,
        )  # fmt: skip
    invocation.output.emit(
        hits,
        human=_page,
        ids=lambda one: dict.fromkeys(f"{each.name}@{each.number}" for each in one.tensors),
    )


def _by_words(
    invocation: Invocation,
    text: str,
    *,
    explain: bool,
    page: Path | None,
    opened: int | None,
    force: bool,
    top_k: int,
    skip: int,
    per_file: int | None,
    varied: bool,
    like: str | None,
    space: str | None,
    modality: str | None,
    no_update: bool,
    **conditions: Any,
) -> None:
    where = _filter(**conditions)
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        found = store.search(
            text, where=where, top_k=top_k, skip=skip, per_file=per_file, varied=varied,
            like=like, space=space, modality=modality, update=not no_update, progress=progress,
        )  # fmt: skip
        if page is not None:
            _write_page(page, found, force=force)
        if opened is not None:
            for note in found.notes[:_NOTES_SHOWN]:
                progress.note(note)
            if opened > len(found.hits):
                raise UsageError(f"--open {opened}: there are {several(len(found.hits), 'hit')}")
            hit = found.hits[opened - 1]
            if not hit.member:
                raise UsageError(f"--open {opened}: a {hit.kind} has no page")
            click.echo(
                store.views.write(
                    f"{hit.name}@{hit.number}",
                    hit.member,
                    page=hit.page,
                    part=hit.part,
                    force=force,
                )
            )
            return
    for note in found.notes[:_NOTES_SHOWN]:
        click.echo(f"hart: note: {clean(note)}", err=True)
    invocation.output.emit(
        found,
        human=lambda one: hits_page(one, explain=explain, skip=skip),
        ids=lambda one: dict.fromkeys(f"{each.name}@{each.number}" for each in one.hits),
    )


def _filter(
    *,
    kinds: tuple[str, ...],
    name: str | None,
    tag: str | None,
    after: str | None,
    before: str | None,
    as_of: str | None,
    conditions: tuple[str, ...],
) -> "SearchFilter":
    from hartonomous.core.condition import both, parse_condition
    from hartonomous.operations.search import KINDS, SearchFilter

    return SearchFilter(
        kinds=kinds or KINDS, name=name, tag=tag, after_us=_time("--after", after),
        before_us=_time("--before", before), as_of_us=_time("--as-of", as_of),
        condition=both([parse_condition(one) for one in conditions]),
    )  # fmt: skip


def _time(option: str, text: str | None) -> int | None:
    """Return microseconds UTC of a date or time in ISO 8601; without a zone it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} is no date", hint="such as 2026-01-31") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _write_page(path: Path, found: "SearchResult", *, force: bool) -> None:
    from msgspec.structs import replace

    from hartonomous.core.search_page import Hit, search_page
    from hartonomous.operations.search import place_of

    hits = []
    for one in found.hits:
        place = place_of(one)
        file = place_of(replace(one, page=0))
        inside = place.removeprefix(file).strip()
        hits.append(
            Hit(file, inside, one.heading, one.snippet, one.marks, one.ranks, one.thumbnail)
        )
    page = search_page(found.query, hits, note=told_unknown(found))
    write_html(path, page, force=force)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--shape: {text[:80]!r} is no shape",
            hint="such as 384,1536, or [] for a single number",
        )
    return tuple(int(one) for one in re.findall("[0-9]+", text))


def _page(found: "FoundTensors") -> Iterable[Block]:
    if not found.tensors:
        yield "no tensor fits"
        return
    yield Table(
        columns=_COLUMNS,
        rows=[
            (f"{one.name}@{one.number}", one.tensor, _form(one.dtype, one.shape),
             size(one.logical_bytes), one.role, one.member, (one.digest or "-")[:19])
            for one in found.tensors
        ],
    )  # fmt: skip
    if found.truncated:
        yield Cell("there are more: raise --limit, or ask more closely", "dim")


def _near(found: Iterable["NearTensor"]) -> Iterable[Block]:
    rows = [
        (f"{one.distance:.2f}", _form(one.dtype, one.shape), one.orientation,
         ", ".join(one.used_by) or "nothing in use", one.digest[:19])
        for one in found
    ]  # fmt: skip
    if rows:
        yield Table(columns=_NEAR_COLUMNS, rows=rows)
    else:
        yield "no stored tensor resembles it"


def _form(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} [{', '.join(map(str, shape))}]"
