"""Draws the family's figures: what each tool stores by class, and what it takes for it.

Run in an environment that has matplotlib: ``python family_plot.py family.json family.svg``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

_COLOURS = pyplot.get_cmap("tab10").colors


def main(source: str, target: str) -> None:
    """Read the figures and write the picture, its kind by the name's ending."""
    figures = json.loads(Path(source).read_text(encoding="utf-8"))
    tools = {name: one for name, one in figures["tools"].items() if one["stored_bytes"] is not None}
    picture, (left, right) = pyplot.subplots(
        1, 2, figsize=(13, 5.5), width_ratios=(3, 2), layout="constrained"
    )
    _stored(left, figures["plain_bytes"], tools)
    _effort(right, tools)
    picture.suptitle(f"{sum(figures['plain_bytes'].values()) / 1e6:,.0f} MB of related files")
    picture.savefig(target)


def _stored(axes: Any, plain: dict[str, int], tools: dict[str, Any]) -> None:
    below = [0.0] * (len(tools) + 1)
    for number, kind in enumerate(plain):
        sizes = [plain[kind], *(one["classes"][kind]["stored_bytes"] for one in tools.values())]
        heights = [size / 1e6 for size in sizes]
        axes.barh(["files", *tools], heights, left=below, label=kind,
                  color=_COLOURS[number % len(_COLOURS)])  # fmt: skip
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("stored MB, by class of file")
    axes.legend(fontsize=8)


def _effort(axes: Any, tools: dict[str, Any]) -> None:
    for number, (name, one) in enumerate(tools.items()):
        spent, stored = one["totals"]["adds_cpu_s"], one["stored_bytes"] / 1e6
        axes.plot(spent, stored, "o", color=_COLOURS[number % len(_COLOURS)])
        axes.annotate(name, (spent, stored), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("ingest, CPU-seconds")
    axes.set_ylabel("stored MB")
    axes.set_ylim(bottom=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
