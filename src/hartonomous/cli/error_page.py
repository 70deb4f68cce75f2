"""Writes ``docs/errors.md``: ``python -m hartonomous.cli.error_page > docs/errors.md``.

Everything in it comes from ``errors.py``; a test fails while the file is not current.
"""

from collections.abc import Iterator

import click

from hartonomous.errors import all_kinds

_INTRODUCTION = """\
# Errors

Made by `python -m hartonomous.cli.error_page`; a test compares.

Every error has a kind that never changes its meaning, a message that says what happened and to
which thing, and mostly a hint that says what to do. On the command line the kind decides the exit
code, and `--json` prints one object on standard error:
`{"error": {"kind": …, "message": …, "hint": …}}`. In Python each kind is a class in
`hartonomous.errors`, all of them below `HartonomousError`. The HTTP status is what a server answers
with.

| kind | class | exit code | HTTP status | meaning |
| --- | --- | ---: | ---: | --- |"""


def error_page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for kind, cls in sorted(all_kinds().items()):
        meaning = (cls.__doc__ or "").strip().splitlines()[0]
        yield f"| `{kind}` | `{cls.__name__}` | {cls.exit_code} | {cls.http_status} | {meaning} |"
    yield ""
    yield "Exit code 0 is success, 5 is `hart diff --exit-code` having found a difference, 141 a"
    yield "reader of the output that went away."


if __name__ == "__main__":
    click.echo(error_page(), nl=False)
