"""``hart cat``: one tensor, some of its rows or bytes, or a whole file, to standard output."""

import codecs
import re
from collections.abc import Iterable, Iterator

import click

from hartonomous.cli.artifact_name import ARTIFACT, TENSOR
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import OutputFormat, force
from hartonomous.cli.page import Block, Cell
from hartonomous.errors import UsageError
from hartonomous.operations import read as reading
from hartonomous.operations.read import TensorText
from hartonomous.packs.tensor_names import find_tensor
from hartonomous.store import Store

_RANGE = re.compile(r"(-?\d{1,19})?:(-?\d{1,19})?")
_CHUNK_BYTES = 4 * 1024 * 1024
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _range(_ctx: click.Context, _param: click.Parameter, value: str | None) -> slice | None:
    """Return ``A:B`` as a slice; either end may be left out or count from the end."""
    if value is None:
        return None
    found = _RANGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no range such as 0:10, :10 or -3:")
    start, stop = (None if end is None else int(end) for end in found.groups())
    return slice(start, stop)


@make_command("cat")
@click.argument("name", type=ARTIFACT)
@click.argument("tensor", required=False, type=TENSOR)
@click.option("--file", "member", metavar="PATH", help="The file inside NAME that is meant.")
@click.option(
    "--rows", callback=_range, metavar="A:B", help="Rows A to B of the first axis, B not included."
)
@click.option(
    "--bytes", "span", callback=_range, metavar="A:B", help="Bytes A to B as they lie in the file."
)
@click.option("--raw", is_flag=True, help="The bytes as they lie in the file.")
@click.option("--npy", is_flag=True, help="A .npy file.")
@click.option("--dequantise", is_flag=True, help="Quantised blocks as float32 values.")
@force("Write binary data to a terminal.")
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    name: str,
    tensor: str | None,
    member: str | None,
    rows: slice | None,
    span: slice | None,
    raw: bool,
    npy: bool,
    dequantise: bool,
    force: bool,
) -> None:
    """Print a tensor, or write its bytes or a whole file.

    Without --raw, --npy or --bytes a tensor is printed as numpy prints it. Without TENSOR the
    file of NAME that --file says, or its only one, is written as it is. Types that numpy does not
    have (bfloat16, float8) are written to .npy as numpy writes them, as bytes of that width.
    """
    _check_options(invocation, tensor, rows=rows, span=span, raw=raw, npy=npy,
                   dequantise=dequantise)  # fmt: skip
    with invocation.store() as store:
        writer = _Writer(invocation, force=force)
        if tensor is None:
            writer.write(_file_chunks(store, name, member))
            return
        place = find_tensor(store.parts, store.files, name, tensor, member=member)
        if npy:
            writer.write(reading.npy_chunks(place[1], rows=rows, dequantise=dequantise))
        elif raw or span is not None:
            writer.write(reading.raw_chunks(place[1], rows=rows, bytes_range=span))
        else:
            found = reading.tensor_text(*place, rows=rows, dequantise=dequantise)
            invocation.output.emit(found, human=_page, ids=lambda one: one.text.splitlines())


def _check_options(
    invocation: Invocation,
    tensor: str | None,
    *,
    rows: slice | None,
    span: slice | None,
    raw: bool,
    npy: bool,
    dequantise: bool,
) -> None:
    of_a_tensor = raw or npy or dequantise or rows is not None or span is not None
    if tensor is None and of_a_tensor:
        raise UsageError(
            "--rows, --bytes, --raw, --npy and --dequantise are about a tensor",
            hint="name one: hart cat NAME TENSOR",
        )
    if raw and npy:
        raise UsageError("--raw and --npy exclude each other")
    if span is not None and (rows is not None or npy):
        raise UsageError("--bytes excludes --rows and --npy", hint="bytes are written raw")
    if dequantise and (raw or span is not None):
        raise UsageError("--dequantise gives values, not the stored bytes", hint="use --npy")
    binary = tensor is None or raw or npy or span is not None
    if binary and invocation.options.format is OutputFormat.JSON:
        raise UsageError(
            "bytes have no JSON form",
            hint="leave --json out; 'hart show --json' says what is known",
        )


class _Writer:
    """Writes bytes to standard output; to a terminal only text, unless it is forced."""

    def __init__(self, invocation: Invocation, *, force: bool) -> None:
        self._stream = invocation.output.stream
        self._only_text = self._stream.isatty() and not force

    def write(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write every chunk; raises UsageError before the first that a terminal should not get."""
        self._stream.flush()
        out = self._stream.buffer
        for chunk in _text_only(chunks) if self._only_text else chunks:
            out.write(chunk)
        out.flush()


def _text_only(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield chunks while they are UTF-8 without control characters; raises UsageError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        try:
            text = decoder.decode(bytes(chunk))
        except UnicodeDecodeError:
            text = "\0"
        if _CONTROL.search(text):
            raise UsageError(
                "binary data would be written to the terminal",
                hint="send it to a file or a pipe (> FILE), or insist with --force",
            )
        yield chunk


def _file_chunks(store: Store, name: str, member: str | None) -> Iterator[bytes]:
    with store.file(name, member) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _page(found: TensorText) -> Iterable[Block]:
    words = [f"{found.tensor}  {found.dtype} {_extents(found.shape)}"]
    if found.rows is not None:
        words.append(f"rows {found.rows[0]}:{found.rows[1]}")
    words.append(f"{found.array_dtype} {_extents(found.array_shape)}")
    yield Cell("  ".join(words), "dim")
    yield from found.text.splitlines()


def _extents(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
