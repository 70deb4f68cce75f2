"""Shows long work on standard error: a bar on a terminal, lines in a log, or notes alone.

Implements ``ports.progress.Progress``. Reports come from several threads, and must not fail: when
standard error is gone, showing ends and the work goes on.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING, TextIO, cast

from hartonomous.cli.output import draws_on
from hartonomous.cli.sizes import duration, rate, size
from hartonomous.cli.text import clean
from hartonomous.ports.progress import Progress
from hartonomous.settings import ProgressMode

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

APPEARS_AFTER_S = 1.0
"""Work that is shorter is not shown."""

_LINE_EVERY_S = 5.0


@contextmanager
def open_progress(
    mode: ProgressMode, *, color: bool = True, stream: TextIO | None = None
) -> Iterator[Progress]:
    """Show progress until the block ends; in auto mode nothing is drawn off a terminal."""
    stream = sys.stderr if stream is None else stream
    shown: NoteProgress
    if mode is ProgressMode.PLAIN:
        shown = PlainProgress(stream)
    elif mode is ProgressMode.AUTO and draws_on(stream):
        shown = BarProgress(stream, color=color)
    else:
        shown = NoteProgress(stream)
    try:
        yield shown
    finally:
        shown.close()


class _Forgiving:
    """A stream that goes silent when it cannot be written to: showing must not stop the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = False
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        return self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        return not self._lost and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _try(self, act: Callable[[], object]) -> int:
        if not self._lost:
            try:
                act()
            except (OSError, ValueError):  # ValueError is what a closed stream raises
                self._lost = True
        return 0


class NoteProgress:
    """Prints notes, since a warning about a file must not be lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = _Forgiving(stream)
        self._lock = Lock()

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Ignore a stage."""

    def advance(self, byte_count: int) -> None:
        """Ignore bytes."""

    def count(self, record_count: int = 1) -> None:
        """Ignore things: what is shown goes by bytes."""

    def note(self, text: str) -> None:
        """Print a line."""
        with self._lock:
            self._write(f"hart: note: {clean(text)}")

    def close(self) -> None:
        """End the showing."""

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class PlainProgress(NoteProgress):
    """Prints a line when a stage has lasted for some seconds, and one at its end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._name: str | None = None
        self._total: int | None = None
        self._done = 0
        self._began = self._next = 0.0

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Begin a stage; the former one is summed up if it lasted."""
        with self._lock:
            self._end_stage()
            self._name, self._total, self._done = name, total_bytes, 0
            self._began = self._clock()
            self._next = self._began + _LINE_EVERY_S

    def advance(self, byte_count: int) -> None:
        """Count bytes, and print a line when the last one is some seconds old."""
        with self._lock:
            self._done += byte_count
            now = self._clock()
            if self._name is not None and now >= self._next:
                self._next = now + _LINE_EVERY_S
                self._write(self._line(now - self._began))

    def close(self) -> None:
        """Sum up the last stage."""
        with self._lock:
            self._end_stage()

    def _end_stage(self) -> None:
        if self._name is None:
            return
        lasted = self._clock() - self._began
        if lasted >= APPEARS_AFTER_S:
            self._write(f"{clean(self._name)}: {size(self._done)} in {duration(lasted)}")
        self._name = None

    def _line(self, lasted: float) -> str:
        speed = self._done / lasted
        text = f"{clean(self._name or '')}: {size(self._done)}"
        if self._total is None:
            return f"{text}, {rate(speed)}"
        left = f", {duration((self._total - self._done) / speed)} left" if speed else ""
        return f"{text} of {size(self._total)}, {rate(speed)}{left}"


class BarProgress(NoteProgress):
    """Draws a bar with bytes, rate and time left, once the work has lasted for a second."""

    def __init__(self, stream: TextIO, *, color: bool, after_s: float = APPEARS_AFTER_S) -> None:
        super().__init__(stream)
        self._color = color
        self._name: str | None = None
        self._total: int | None = None
        self._done = 0
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._closed = False
        self._timer = Timer(after_s, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def stage(self, name: str, *, total_bytes: int | None = None) -> None:
        """Begin a stage: the bar starts again under its name."""
        with self._lock:
            self._name, self._total, self._done = name, total_bytes, 0
            if self._bar is not None:
                self._begin_task(self._bar)

    def advance(self, byte_count: int) -> None:
        """Count bytes; the bar redraws itself ten times a second."""
        with self._lock:
            self._done += byte_count
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=self._done)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        with self._lock:
            if self._bar is None:
                self._write(f"hart: note: {clean(text)}")
            else:
                self._bar.console.print(f"hart: note: {clean(text)}", soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.stop()
            self._bar = None

    def _appear(self) -> None:
        """Start drawing; called once, by the timer's thread."""
        bar = _make_bar(self._stream, color=self._color)
        with self._lock:
            if self._closed:
                return
            bar.start()
            self._bar = bar
            if self._name is not None:
                self._begin_task(bar)

    def _begin_task(self, bar: "Bar") -> None:
        if self._task is not None:
            bar.remove_task(self._task)
        self._task = bar.add_task(clean(self._name or ""), total=self._total, completed=self._done)


def _make_bar(stream: "_Forgiving", *, color: bool) -> "Bar":
    from rich import progress

    from hartonomous.cli.terminal import console_on

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=None),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
        console=console_on(cast("TextIO", stream), color=color),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
