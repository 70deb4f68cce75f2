"""A folder on a disk as a mapping of paths to files that are read by range."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hartonomous.errors import LimitError, UsageError

_MOST_FILES = 10_000


class PlainFile:
    """One file on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; raises UsageError where they are not there."""
        with self._path.open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        if len(content) != length:
            raise UsageError(f"{self._path} became shorter while it was read")
        return content


class PlainFolder(Mapping[str, PlainFile]):
    """The regular files below a folder, by path with slashes; hidden folders are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}
        for place, folders, names in os.walk(folder):
            folders[:] = [one for one in folders if not one.startswith(".")]
            for name in names:
                path = Path(place) / name
                if path.is_file():
                    self._paths[path.relative_to(folder).as_posix()] = path
            if len(self._paths) > _MOST_FILES:
                raise LimitError(f"{folder} has more than {_MOST_FILES:,} files, it is no model")

    def __getitem__(self, path: str) -> PlainFile:
        return PlainFile(self._paths[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
