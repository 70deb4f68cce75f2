"""Option types for numbers with a unit: durations (``10m``) and shares (``1/10``)."""

import re
from fractions import Fraction
from typing import Any

import click

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(s|m|h|d|)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", re.ASCII)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """Seconds as a float, from ``90``, ``90s``, ``10m``, ``2h``, ``1d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; fails for anything else."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a duration; write it like 90s, 10m, 2h or 1d.", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


class Share(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """A fraction above 0 and up to 1, from ``1/10`` or ``10%``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        """Return the fraction; fails for anything else."""
        if isinstance(value, Fraction):
            return value
        found = _share(value.strip())
        if found is None or not 0 < found <= 1:
            self.fail(f"{value!r} is not a share; write it like 1/10 or 10%.", param, ctx)
        return found


def _share(text: str) -> Fraction | None:
    match = _SHARE.fullmatch(text)
    if match is not None:
        return Fraction(int(match[1]), int(match[2])) if int(match[2]) else None
    match = _PERCENT.fullmatch(text)
    return None if match is None else Fraction(match[1]) / 100
