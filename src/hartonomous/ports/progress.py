"""Port of progress: how long work tells what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Receives the stages of a long operation; implementations never raise and never block."""

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Begin a stage, such as ``hash`` or ``store``; the former one has ended."""
        ...

    def advance(self, byte_count: int) -> None:
        """Count bytes of the current stage as done. Called from several threads."""
        ...

    def count(self, record_count: int = 1) -> None:
        """Count things as done, over all stages: artifacts, records, atoms, files, vectors."""
        ...

    def note(self, text: str) -> None:
        """Say something worth a line, such as a warning about one file."""
        ...


class NoProgress:
    """Takes every report and shows nothing."""

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Ignore a stage."""

    def advance(self, byte_count: int) -> None:
        """Ignore bytes."""

    def count(self, record_count: int = 1) -> None:
        """Ignore things."""

    def note(self, text: str) -> None:
        """Ignore a note."""
