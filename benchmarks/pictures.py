"""Pictures found again: recall of changed copies, false positives among independent pictures.

The pictures are of Debian's packages: desktop wallpapers, a game's portraits and story pictures,
photographs and drawings for stamping. One is taken of each work: a work is a folder and the first
word of a name in it, so that sizes, colours and ages of one drawing count once. Works are split by
a hash of their names; what has almost the pixels of another at 32 x 32 is no work of its own.
Thresholds are chosen on a third, figures are of the other two, which nothing
was fitted to. Pictures of too little structure for a hash (PDQ's quality below 50) are
counted and left out of the figures of the hash, as they are in the program.

What is measured is the program's own path: files decoded in its limited process, one for each
core. Copies are made of at most ``_CHANGED`` of the held-out works, those whose digests come first.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from context import Context, Result
from tables import table

PACKAGES = (
    "gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers", "ukui-wallpapers",
    "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "tuxpaint-stamps-default",
    "wesnoth-1.16-data",
)  # fmt: skip
_LEFT_OUT = re.compile(r"/stamps/(symbols|town/flags|town/roadsigns)/|/screenshot|preview")
_WANTED = re.compile(r"/backgrounds/|/wallpapers/.*/contents/images/|/stamps/|/(portraits|story)/")
_WORD = re.compile(r"[A-Za-z]+")
_LEAST_SIDE = 100
_SMALL = 32
_LEAST_DIFFERENCE = 8.0
"""Of 255, on average over small pictures: of less, it is one drawing, perhaps recoloured."""
_SCANNED = 1_000_000
_CHANGED = 150


def run(context: Context) -> Result:
    """Fetch the packages once, hash all works, compare all pairs, and copies of the other half."""
    folder = context.out / "pictures"
    missing = _fetched(folder / "files")
    if missing:
        return Result(text=f"pictures: not run: {missing}\n", figures={"not_run": missing})
    _say("looking for works")
    candidates = _candidates(folder / "files", every=5 if context.quick else 1)
    _say(f"hashing {len(candidates)} pictures")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = dict(_works(zip(candidates, pool.map(_looked, candidates), strict=True)))
        kept = [path for path, one in found.items() if one is not None and one.quality >= 50]
        parts = [[path for path in kept if _part(path) == at] for at in (0, 1)]
        false = [_pairs(part, [found[path] for path in part]) for part in parts]
        changed = sorted(parts[1], key=lambda path: hashlib.sha256(path.name.encode()).digest())
        changed = changed[: 20 if context.quick else _CHANGED]
        _say(f"changing {len(changed)} of them in {len(_changes())} ways")
        recall = _recall(pool.map(_compared, changed, [found[path] for path in changed]))
    figures: dict[str, Any] = {
        "works": len(found), "with_hash": len(kept), "fitted_on": len(parts[0]),
        "held_out": len(parts[1]), "pairs": false[1]["pairs"],
        "false_positives": false[1]["same"], "which": false[1]["which"], "recall": recall,
        "cosine_held_out": false[1]["cosine"], "cosine_fitted_on": false[0]["cosine"],
        "scan": _scan(),
    }  # fmt: skip
    return Result(text=_text(figures, false), figures=figures)


def _say(what: str) -> None:
    print(f"pictures: {what}", file=sys.stderr, flush=True)


def _text(figures: dict[str, Any], false: list[dict[str, Any]]) -> str:
    lines = [
        f"pictures: {figures['works']} works, {figures['with_hash']} with a hash;"
        f" fitted on {figures['fitted_on']}, held out {figures['held_out']}", "",
    ]  # fmt: skip
    rows = [
        [name, one["pictures"], one["pairs"], one["same"], one["alike"], one["least"],
         one["cosine"]["0.999"], one["cosine"]["0.9999"], one["over"]]
        for name, one in zip(("fitted on", "held out"), false, strict=True)
    ]  # fmt: skip
    head = ["part", "pictures", "pairs", "PDQ <= 31", "PDQ <= 60", "least bits",
            "cosine p99.9", "cosine p99.99", "cosine >= limit"]  # fmt: skip
    title = "independent pictures, in all eight orientations; goal: none at 31 bits"
    parts = ["\n".join(lines), table(title, head, rows)]
    parts += [f"{bits} bits: {one} and {other}" for bits, one, other in figures["which"]]
    changes = [
        [name, one["pictures"], one["same"], one["alike"], one["layout"]]
        for name, one in figures["recall"].items()
    ]
    head = ["change", "pictures", "PDQ <= 31", "PDQ <= 60", "or layout"]
    parts.append(table("share of changed copies found, held out; goal 0.95", head, changes))
    scan = figures["scan"]
    parts.append(
        f"comparing one picture's eight hashes with {scan['count']:,}: {scan['s']:.2f} CPU-s"
    )
    return "\n".join(parts) + "\n"


# -- the corpus


def _fetched(files: Path) -> str:
    """Unpack the packages that are not there yet; return why that cannot be, or nothing."""
    for name in PACKAGES:
        if (files / name).is_dir():
            continue
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            return "the packages are Debian's, and apt-get or dpkg is not here"
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(
                ["apt-get", "download", name],
                cwd=place,
                capture_output=True,
                text=True,
                check=False,
            )
            found = list(Path(place).glob("*.deb"))
            if done.returncode or not found:
                return f"apt-get download {name} failed: {done.stderr.strip()[-200:]}"
            half = files / f"{name}.part"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            subprocess.run(["dpkg", "-x", found[0], half], check=True)
            half.rename(files / name)
    return ""


def _candidates(files: Path, *, every: int) -> list[Path]:
    """Return one picture of each work by its name: the largest file, one of equal files."""
    from PIL import Image

    works: dict[str, list[Path]] = {}
    for path in sorted(files.rglob("*")):
        name = path.relative_to(files).as_posix()
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or path.is_symlink():
            continue
        if _WANTED.search(name) and not _LEFT_OUT.search(name):
            works.setdefault(_work(name), []).append(path)
    found: list[Path] = []
    seen: set[bytes] = set()
    for at, paths in enumerate(works.values()):
        largest = max(paths, key=lambda path: path.stat().st_size)
        content = hashlib.sha256(largest.read_bytes()).digest()
        if content in seen:  # one file in two folders is no independent picture
            continue
        seen.add(content)
        with Image.open(largest) as picture:
            large = min(picture.size) >= _LEAST_SIDE
        if large and at % every == 0:
            found.append(largest)
    return found


def _works(looked: Iterable[tuple[Path, tuple[Any, Any]]]) -> Iterator[tuple[Path, Any]]:
    """Yield those whose pixels differ from those of all before them, with their views."""
    import numpy as np

    small: list[Any] = []
    for path, (own, views) in looked:
        if all(float(np.abs(own - one).mean()) >= _LEAST_DIFFERENCE for one in small):
            small.append(own)
            yield path, views


def _work(name: str) -> str:
    folder, _, file = name.rpartition("/")
    if "/contents/images" in folder:  # one folder for all sizes of a wallpaper
        return folder
    word = _WORD.search(file.rpartition(".")[0])
    return f"{folder}/{word.group().lower() if word else ''}"


def _part(path: Path) -> int:
    return int(hashlib.sha256(path.name.encode()).digest()[0] % 3 > 0)


# -- what is compared


@cache
def _process() -> Any:
    """Return the program's limited process of this worker, which ends with it."""
    from hartonomous.packs.picture_views import picture_process

    return picture_process(sought=True)


def _views(content: bytes) -> Any:
    """Return the picture's views, None where it cannot be read."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        views = _process().look(file.fileno(), "picture")[0]
    return views.pictures[0] if views.pictures else None


def _looked(path: Path) -> tuple[Any, Any]:
    """Return a picture's pixels at 32 x 32 [32, 32, 3], f32, and its views."""
    import numpy as np
    from PIL import Image

    own = np.asarray(_opened(path).resize((_SMALL, _SMALL), Image.Resampling.BOX), np.float32)
    return own, _views(path.read_bytes())


def _pairs(paths: list[Path], pictures: list[Any]) -> dict[str, Any]:
    """Compare every picture's eight orientations with every later one; name those that are one."""
    import numpy as np

    from hartonomous.core.picture_hash import ALIKE_BITS, SAME_BITS, nearest
    from hartonomous.operations.similar import ALIKE_COSINE

    hashes = np.array([np.frombuffer(one.hashes[:32], np.uint8) for one in pictures])
    layouts = np.array([np.frombuffer(one.layout, "<f4") for one in pictures])
    apart = [nearest(one.hashes, hashes[at + 1 :])[0] for at, one in enumerate(pictures[:-1])]
    bits = np.concatenate(apart)
    which = [
        (int(row[k]), str(paths[at]), str(paths[at + 1 + k]))
        for at, row in enumerate(apart)
        for k in np.flatnonzero(row <= SAME_BITS)
    ]
    cosines = (layouts @ layouts.T)[np.triu_indices(len(pictures), 1)]
    return {
        "pictures": len(pictures), "pairs": len(bits), "same": int((bits <= SAME_BITS).sum()),
        "alike": int((bits <= ALIKE_BITS).sum()), "least": int(bits.min()),
        "cosine": {key: float(np.quantile(cosines, float(key))) for key in ("0.999", "0.9999")},
        "over": int((cosines >= ALIKE_COSINE).sum()), "which": which,
    }  # fmt: skip


def _changes() -> dict[str, Callable[[Any], bytes]]:
    from PIL import Image, ImageOps

    def saved(picture: Any, kind: str = "png", **how: Any) -> bytes:
        how = {"compress_level": 1} if kind == "png" else how
        out = io.BytesIO()
        picture.save(out, kind, **how)
        return out.getvalue()

    def resized(scale: float) -> Callable[[Any], bytes]:
        def change(one: Any) -> bytes:
            size = (max(1, round(one.width * scale)), max(1, round(one.height * scale)))
            return saved(one.resize(size, Image.Resampling.LANCZOS))

        return change

    def cropped(share: float) -> Callable[[Any], bytes]:
        def change(one: Any) -> bytes:
            x, y = round(one.width * share / 2), round(one.height * share / 2)
            return saved(one.crop((x, y, one.width - x, one.height - y)))

        return change

    return {
        "resize to 1/2": resized(0.5),
        "resize to 1/4": resized(0.25),
        "resize to 3/2": resized(1.5),
        "recompress, JPEG 75": lambda one: saved(one, "jpeg", quality=75),
        "recompress, JPEG 30": lambda one: saved(one, "jpeg", quality=30),
        "format, WebP 75": lambda one: saved(one, "webp", quality=75),
        "format, GIF": lambda one: saved(one, "gif"),
        "format, AVIF 60": lambda one: saved(one, "avif", quality=60),
        "rotate 90": lambda one: saved(one.transpose(Image.Transpose.ROTATE_90)),
        "rotate 180": lambda one: saved(one.transpose(Image.Transpose.ROTATE_180)),
        "rotate 270": lambda one: saved(one.transpose(Image.Transpose.ROTATE_270)),
        "flip": lambda one: saved(ImageOps.mirror(one)),
        "grey (no goal)": lambda one: saved(ImageOps.grayscale(one)),
        "crop 5 % (no goal)": cropped(0.05),
        "crop 20 % (no goal)": cropped(0.20),
    }


def _compared(path: Path, stored: Any) -> dict[str, tuple[bool, bool, bool]]:
    """Return for each change whether its copy is found: as the same, as alike, or by layout."""
    import numpy as np

    from hartonomous.core.picture_hash import ALIKE_BITS, LEAST_QUALITY, SAME_BITS, nearest
    from hartonomous.operations.similar import ALIKE_COSINE

    original = _opened(path)
    theirs = np.frombuffer(stored.hashes[:32], np.uint8).reshape(1, 32)
    layout = np.frombuffer(stored.layout, "<f4")
    found = {}
    for name, change in _changes().items():
        copy = _views(change(original))
        bits = int(nearest(copy.hashes, theirs)[0][0])
        if copy.quality < LEAST_QUALITY:
            bits = 256
        alike = bits <= ALIKE_BITS
        cosine = float(np.frombuffer(copy.layout, "<f4") @ layout)
        found[name] = (bits <= SAME_BITS, alike, alike or cosine >= ALIKE_COSINE)
    return found


def _recall(compared: Iterable[dict[str, tuple[bool, bool, bool]]]) -> dict[str, Any]:
    """Return for each change the share of copies that would be found."""
    every = list(compared)
    return {
        name: {
            "pictures": len(every),
            **{
                way: sum(one[name][at] for one in every) / len(every)
                for at, way in enumerate(("same", "alike", "layout"))
            },
        }
        for name in _changes()
        if every
    }


def _opened(path: Path) -> Any:
    """Return a picture as RGB on white, at most 800 pixels a side."""
    from PIL import Image

    with Image.open(path) as opened:
        over = opened.convert("RGBA")
    found = Image.new("RGB", over.size, (255, 255, 255))
    found.paste(over, mask=over.getchannel("A"))
    found.thumbnail((800, 800))
    return found


def _scan() -> dict[str, Any]:
    import numpy as np

    from hartonomous.core.picture_hash import nearest

    random = np.random.default_rng(1)
    hashes = random.integers(0, 256, (_SCANNED, 32), dtype=np.uint8)
    started = time.process_time()
    nearest(random.bytes(8 * 32), hashes)
    return {"count": _SCANNED, "s": time.process_time() - started}
