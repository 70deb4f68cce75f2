"""What a limited process says of bytes under a name."""

from pathlib import Path
from typing import Any

from hartonomous.formats.sandbox import LimitedProcess


def looked(process: LimitedProcess[Any], folder: Path, name: str, content: bytes) -> Any:
    """Return what ``process`` finds in a file of this name and content."""
    path = folder / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        return process.look(file.fileno(), name)[0]
