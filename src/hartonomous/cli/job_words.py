"""A job as the command line that would put it: what differs from the defaults, and no more."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

_COMMANDS = {"views": "views rebuild"}
_OPTIONS: dict[str, dict[str, str]] = {
    "add": {"labels": "--label", "tags": "--tag", "metadata": "--meta"},
    "verify": {"subset": "--read-data-subset", "max_duration_s": "--max-duration"},
    "repack": {"max_duration_s": "--max-duration"},
    "gc": {"grace_s": "--grace"},
}
"""Options that have another name than their argument."""
_USUAL: dict[str, dict[str, object]] = {
    "verify": {"subset": "1"}, "gc": {"grace_s": 3600}, "add": {"delta": True},
    "views": {"again": True},
}  # fmt: skip
"""What an argument is without its option, where that is not nothing."""
_OFF = {"delta": "--no-delta", "patches": "--no-patches"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def command_line(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return a kind of job and its arguments as they are written behind ``hart``.

    Of arguments that no command line gives, as somebody else may have written them, a mark.
    """
    try:
        words = [shlex.quote(one) for one in _words(kind, arguments)]
    except (TypeError, ValueError, OverflowError):
        words = ["(arguments that no command gives)"]
    return " ".join([_COMMANDS.get(kind, kind), *words])


def _words(kind: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    paths: list[str] = []
    for name, value in arguments.items():
        option = _OPTIONS.get(kind, {}).get(name, f"--{name.replace('_', '-')}")
        if value is None or value == _USUAL.get(kind, {}).get(name):
            continue
        if name == "paths":
            paths = [str(one) for one in value]
        elif isinstance(value, bool):
            yield from [option] if value else [_OFF[name]] if name in _OFF else []
        elif isinstance(value, dict):
            for key, held in value.items():
                yield from (option, f"{key}={held}")
        elif isinstance(value, list):
            for one in value:
                yield from (option, str(one))
        elif name.endswith("_s"):
            yield from (option, _duration(value))
        else:
            yield from (option, str(value))
    yield from ["--", *paths] if any(one.startswith("-") for one in paths) else paths


def _duration(seconds: float) -> str:
    """Return ``2h``: the largest unit of which it is a whole number."""
    for unit, letter in _UNITS:
        if seconds and seconds % unit == 0:
            return f"{seconds / unit:g}{letter}"
    return f"{seconds:g}s"
