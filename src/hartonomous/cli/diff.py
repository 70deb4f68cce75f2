"""``hart diff``: what became of every tensor, file and metadata value between two models."""

from collections.abc import Iterable, Iterator

import click

from hartonomous.cli.artifact_name import ARTIFACT_OR_PATH
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import OutputFormat
from hartonomous.cli.page import Block, Cell, Column, Style, Table
from hartonomous.cli.sizes import count, several, size
from hartonomous.core.comparison import PairStatus, TensorDifference
from hartonomous.core.metadata_comparison import MetadataDifference
from hartonomous.errors import UsageError
from hartonomous.operations.diff import ComparedSide, Difference, FileDifference

DIFFERENT = 5
"""Exit code of ``--exit-code``."""

_STYLES: dict[str, Style] = {"added": "good", "removed": "bad", "changed": "warn", "cast": "warn"}
_METADATA_SHOWN = 20
_VALUE_SHOWN = 60  # characters of a metadata value
_EQUAL_SHOWN = 15
_FILES_SHOWN = 50
_COLUMNS = (
    Column("status"), Column("tensor"), Column("type and shape"), Column("changed", right=True),
    Column("rel. norm", right=True), Column("cosine", right=True), Column("largest", right=True),
    Column("ulps", right=True),
)  # fmt: skip


class DiffReport(Difference, frozen=True, kw_only=True):
    """What is printed: ``tensor_omitted_count`` lines were left out by --status and --limit."""

    tensor_omitted_count: int = 0


@make_command("diff")
@click.argument("a", type=ARTIFACT_OR_PATH)
@click.argument("b", type=ARTIFACT_OR_PATH)
@click.option("--no-values", is_flag=True, help="Compare names and digests only; reads no tensor.")
@click.option("--exit-code", is_flag=True, help="End with 5 when anything differs.")
@click.option(
    "--status", metavar="WORD[,WORD…]", help="Show only these, such as changed,added or same."
)
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Show at most so many tensors."
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    a: str,
    b: str,
    no_values: bool,
    exit_code: bool,
    status: str | None,
    limit: int | None,
) -> None:
    """Compare two models tensor by tensor.

    A and B are NAME, NAME@X, or a file or folder on disk (./PATH where a name is the same). For
    people, tensors that are the same are counted, not listed, unless --status asks for them.

    Of values: the share of elements that changed, the norm of the difference beside that of A, the
    cosine of the two, the largest difference, and how many representable numbers (ulps) one element
    moved at most: many where it crossed zero.
    """
    invocation: Invocation = ctx.obj
    statuses = _statuses(status, invocation)
    with invocation.store() as store, invocation.progress(store.settings) as progress:
        found = store.diff(a, b, values=not no_values, progress=progress)
    invocation.output.emit(_report(found, statuses, limit), human=_page, ids=_ids)
    if exit_code and not found.identical:
        ctx.exit(DIFFERENT)


def _statuses(text: str | None, invocation: Invocation) -> frozenset[str]:
    known = frozenset(one.value for one in PairStatus)
    if text is None:
        shows_all = invocation.options.format is OutputFormat.JSON
        return known if shows_all else known - {PairStatus.SAME.value}
    wanted = frozenset(word.strip() for word in text.split(","))
    if not wanted <= known:
        raise UsageError(
            f"--status: {', '.join(map(repr, sorted(wanted - known)))} is no status",
            hint=f"there are {', '.join(one.value for one in PairStatus)}",
        )
    return wanted


def _report(found: Difference, statuses: frozenset[str], limit: int | None) -> DiffReport:
    kept = tuple(one for one in found.tensors if one.status in statuses)[:limit]
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    omitted = len(found.tensors) - len(kept)
    return DiffReport(**{**fields, "tensors": kept, "tensor_omitted_count": omitted})


def _ids(found: DiffReport) -> Iterator[str]:
    for one in found.tensors:
        yield one.name_b or one.name_a or ""


def _page(found: DiffReport) -> Iterable[Block]:
    yield f"a: {_side(found.a)}"
    yield f"b: {_side(found.b)}"
    yield _summary(found)
    if found.tensors:
        yield Table(columns=_COLUMNS, rows=map(_row, found.tensors))
    hidden = found.tensor_omitted_count - _left_out_same(found)
    if hidden > 0:
        yield Cell(f"{several(hidden, 'more tensor is', 'more tensors are')} not shown", "dim")
    yield from _metadata(found)
    yield from _files(found)


def _left_out_same(found: DiffReport) -> int:
    if any(one.status is PairStatus.SAME for one in found.tensors):
        return 0
    return found.summary.statuses[PairStatus.SAME.value]


def _side(side: ComparedSide) -> str:
    return f"{side.spec}  {size(side.logical_bytes)}  {side.digest}"


def _row(one: TensorDifference) -> tuple[str | Cell, ...]:
    style = _STYLES.get(one.status.value)
    status: str | Cell = one.status.value if style is None else Cell(one.status.value, style)
    return (status, _both(one.name_a, one.name_b), _types(one), *_values(one))


def _both(a: str | None, b: str | None) -> str:
    found = list(dict.fromkeys(side for side in (a, b) if side is not None))
    return " -> ".join(found)


def _types(one: TensorDifference) -> str:
    shapes = [None if shape is None else f"[{', '.join(map(str, shape))}]"
              for shape in (one.shape_a, one.shape_b)]  # fmt: skip
    return f"{_both(one.dtype_a, one.dtype_b)} {_both(*shapes)}"


def _values(one: TensorDifference) -> tuple[str, str, str, str, str]:
    values = one.values
    if values is None:
        return "", "", "", "", ""
    # Beside the steps between numbers: near zero there are millions of them in next to nothing.
    largest = _number(values.largest_absolute)
    if one.status is PairStatus.CAST and values.cast_exact:
        largest += " (rounded)" if values.cast_from != "both" else " (exact)"
    return (
        _share(values.changed_count, values.changed_share),
        _number(values.relative_norm),
        "" if values.cosine is None else f"{values.cosine:.6f}",
        largest,
        "" if values.largest_ulp is None else count(values.largest_ulp),
    )


def _share(changed: int, share: float) -> str:
    if not changed:
        return "0 %"
    return "< 0.01 %" if share < 0.0001 else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _metadata(found: DiffReport) -> Iterator[Block]:
    differences = found.metadata.differences
    if not differences:
        return
    yield "metadata:"
    yield Table(
        columns=(Column("status"), Column("key"), Column("a"), Column("b")),
        rows=map(_metadata_row, differences[:_METADATA_SHOWN]),
    )
    more = len(differences) + found.metadata.omitted_count - _METADATA_SHOWN
    if more > 0:
        more_text = several(more, "more metadata difference is", "more metadata differences are")
        yield Cell(f"{more_text} not shown", "dim")


def _metadata_row(one: MetadataDifference) -> tuple[str, ...]:
    a, b = ("" if value is None else str(value) for value in (one.a, one.b))
    pairs = enumerate(zip(a, b, strict=False))
    equal = next((at for at, (one_a, one_b) in pairs if one_a != one_b), 0)
    return one.change, one.path, _shown(a, equal), _shown(b, equal)


def _shown(value: str, equal: int) -> str:
    """Return a value, of a long one the part where it begins to differ."""
    if len(value) <= _VALUE_SHOWN:
        return value
    start = equal - _EQUAL_SHOWN if equal > _VALUE_SHOWN // 2 else 0
    end = start + _VALUE_SHOWN
    return ("…" if start else "") + value[start:end] + ("…" if end < len(value) else "")


def _files(found: DiffReport) -> Iterator[Block]:
    different = [one for one in found.files if one.status != "same"]
    if found.a.file_count == found.b.file_count == 1 or not different:
        return
    yield "files:"
    yield Table(
        columns=(Column("status"), Column("file"), Column("size", right=True)),
        rows=map(_file_row, different[:_FILES_SHOWN]),
    )
    if len(different) > _FILES_SHOWN:
        yield Cell(
            f"{several(len(different) - _FILES_SHOWN, 'more file is', 'more files are')} not shown",
            "dim",
        )


def _file_row(one: FileDifference) -> tuple[str, ...]:
    sizes = [None if held is None else size(held)
             for held in (one.logical_bytes_a, one.logical_bytes_b)]  # fmt: skip
    return one.status, _both(one.path_a, one.path_b), _both(*sizes)


def _summary(found: DiffReport) -> Cell:
    if found.identical:
        return Cell("identical: the files have the same bytes", "good")
    statuses = [f"{count(number)} {word}" for word, number in found.summary.statuses.items()
                if number]  # fmt: skip
    one = sum(found.summary.statuses.values()) == 1
    words = [", ".join(statuses) + (" tensor" if one else " tensors") if statuses else "no tensors"]
    if found.summary.identical:
        words.append("tensors and metadata are the same, the files are not")
    if found.summary.metadata_difference_count:
        words.append(several(found.summary.metadata_difference_count, "metadata difference"))
    if found.summary.shared_bytes:
        words.append(f"{size(found.summary.shared_bytes)} in both")
    return Cell("; ".join(words), "strong")
