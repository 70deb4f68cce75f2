"""Packages of extras: which are installed, and where limited processes find them."""

from importlib.util import find_spec
from pathlib import Path

from hartonomous.errors import HartonomousError

PDFIUM = "pypdfium2"
"""What reads and draws PDF files."""


def installed(*packages: str) -> bool:
    """Say whether all of these packages are there; nothing is imported."""
    return all(find_spec(one) is not None for one in packages)


def import_paths(*packages: str) -> tuple[str, ...]:
    """Return the directories that these packages are imported from; of one that lacks, none."""
    found = [find_spec(one) for one in packages]
    origins = [one.origin for one in found if one is not None and one.origin is not None]
    return tuple(dict.fromkeys(str(Path(one).parents[1]) for one in origins))


def check_encode_extra(*, texts: bool = False) -> None:
    """Raise HartonomousError where what encoders compute with is missing; nothing is imported."""
    for one in ("onnxruntime", "tokenizers") if texts else ("onnxruntime",):
        if not installed(one):
            raise lacks_encode_extra(one)


def lacks_encode_extra(package: str | None) -> HartonomousError:
    """Return the error of an encoder that a package is missing for."""
    return HartonomousError(
        f"encoders need {package}, which is not installed here",
        hint="pip install 'hartonomous[encode]'",
    )
