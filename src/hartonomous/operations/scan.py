"""Scan: what would run when somebody loads a model, told without loading anything.

A stored version is judged by what its files' parsers found when it was added; a place on disk is
parsed now, in the limited process, and nothing is stored. What counts as what is decided in
``core.finding``.
"""

import os
from collections.abc import Iterable, Iterator

import msgspec

from hartonomous.core.description import Description
from hartonomous.core.finding import Finding, Severity, counts_of, find_code
from hartonomous.errors import HartonomousError, NotFoundError
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs.compared_files import is_there, names_a_place
from hartonomous.packs.open_files import OpenFiles, VersionFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.source_file import SourceFile
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources.discover import discover

MAX_FINDINGS = 10_000
"""Findings that are listed; further ones are counted."""


class ScannedFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A finding and the artifact that it is in."""

    severity: str
    kind: str
    artifact: str
    file: str
    text: str


class ScanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What would run. ``number`` is the version's, None for what lies on disk.

    The counts are of all findings, ``omitted_count`` of those that are not listed. ``skipped`` says
    what could not be looked at, and why.
    """

    name: str
    number: int | None
    artifact_count: int
    file_count: int
    danger_count: int
    code_count: int
    unknown_count: int
    findings: tuple[ScannedFinding, ...]
    omitted_count: int = 0
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return one line, such as ``<ScanReport: model: 1 danger, 2 code, 0 unknown>``."""
        counts = f"{self.danger_count} danger, {self.code_count} code, {self.unknown_count} unknown"
        return f"<{type(self).__name__}: {self.name}: {counts}>"


def scan(
    parts: StoreParts,
    files: OpenFiles,
    given: str | os.PathLike[str],
    *,
    hidden: bool = False,
    progress: Progress | None = None,
) -> ScanReport:
    """Tell what loading a stored version, or what lies at a place, would run.

    A text is a spec if the store has it, else a path; a path object, ``/…`` and ``./…`` are always
    paths. ``hidden`` looks at hidden and temporary files in folders too. Raises NotFoundError when
    it is neither.
    """
    if names_a_place(given):
        return scan_place(given, hidden=hidden, progress=progress)
    spec = os.fspath(given)
    try:
        found = find_version(parts, spec)
    except NotFoundError as error:
        if is_there(spec):
            return scan_place(spec, hidden=hidden, progress=progress)
        raise NotFoundError(
            f"{error.message}, and no file or folder of that path is there", hint=error.hint
        ) from error
    report = _Findings()
    report.take(found.spec, _stored(files, found))
    return report.told(name=found.version.name, number=found.version.number)


def scan_place(
    place: str | os.PathLike[str], *, hidden: bool = False, progress: Progress | None = None
) -> ScanReport:
    """Tell what loading what lies at ``place`` would run, storing nothing and needing no store.

    A file that cannot be read is told in ``skipped``. Raises NotFoundError for a place that is not
    there.
    """
    progress = progress or NoProgress()
    report = _Findings()
    with ParserProcess() as parser:
        for one in discover([place], hidden=hidden):
            if isinstance(one, Skipped):
                report.skipped.append(f"{one.location}: {one.reason}")
                continue
            name = one.names[0] if one.names else one.source
            progress.stage(f"scan {name}")
            report.skipped += [f"{name}: {note}" for note in one.notes]
            report.take(name, _parsed(parser, one, report))
    return report.told(name=os.fspath(place), number=None)


def _stored(files: OpenFiles, found: VersionFiles) -> Iterator[tuple[str, Description]]:
    for one in found.files:
        yield one.path, files.open(one.row).manifest.description


def _parsed(
    parser: ParserProcess, candidate: Candidate, report: "_Findings"
) -> Iterator[tuple[str, Description]]:
    for member in candidate.members:
        try:
            with SourceFile(member.location) as source:
                yield member.path, parser.describe(source.descriptor, member.path)
        except HartonomousError as error:
            report.skipped.append(error.message)


class _Findings:
    """Counts all findings and keeps the worst."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self._counts = dict.fromkeys(Severity, 0)
        self._kept: list[ScannedFinding] = []
        self._artifacts = 0
        self._files = 0

    def take(self, artifact: str, members: Iterable[tuple[str, Description]]) -> None:
        """Add the findings in one artifact's files."""
        self._artifacts += 1
        found = find_code(self._counted(members))
        for severity, count in counts_of(found).items():
            self._counts[Severity(severity)] += count
        self._kept += [_scanned(one, artifact) for one in found]
        self._kept.sort(key=lambda one: list(Severity).index(Severity(one.severity)))
        del self._kept[MAX_FINDINGS:]

    def _counted(
        self, members: Iterable[tuple[str, Description]]
    ) -> Iterator[tuple[str, Description]]:
        for member in members:
            self._files += 1
            yield member

    def told(self, *, name: str, number: int | None) -> ScanReport:
        """Return the report."""
        return ScanReport(
            name=name,
            number=number,
            artifact_count=self._artifacts,
            file_count=self._files,
            danger_count=self._counts[Severity.DANGER],
            code_count=self._counts[Severity.CODE],
            unknown_count=self._counts[Severity.UNKNOWN],
            findings=tuple(self._kept),
            omitted_count=sum(self._counts.values()) - len(self._kept),
            skipped=tuple(self.skipped),
        )


def _scanned(one: Finding, artifact: str) -> ScannedFinding:
    return ScannedFinding(
        severity=one.severity.value, kind=one.kind, artifact=artifact, file=one.file, text=one.text
    )
