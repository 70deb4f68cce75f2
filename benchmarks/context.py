"""What every benchmark receives, and what it gives back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where to work and how much: ``quick`` makes everything some ten times smaller."""

    out: Path
    quick: bool = False
    model: Path | None = None  # the demo's wheel or model folder, instead of fetching it
    family: Path = Path(".cache/family")  # what make_family.py built
    part: str | None = None  # only what is made from this base of the family
    runs: int = 5  # of the family, interleaved
    once: tuple[str, ...] = ()  # tools that run once where the others have several runs
    skip: tuple[str, ...] = ()  # tools that are left out
    delta: bool = True  # whether tensors are built on others, as they are by default
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        """Made files, kept between runs."""
        return self.out / "files"

    @property
    def tools(self) -> Path:
        """Environments of the peers, kept between runs."""
        return self.out / "tools"

    @property
    def work(self) -> Path:
        """Stores and what comes out of them; emptied after use."""
        return self.out / "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Tables for people, figures for programs."""

    text: str
    figures: dict[str, Any]
