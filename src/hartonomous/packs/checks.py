"""Checks of the machine, as `hart doctor` tells them: no store is needed for these."""

import os
import platform
import resource
import sys
from pathlib import Path

import msgspec

from hartonomous.catalog import health
from hartonomous.codecs import kernel, zstd
from hartonomous.core.digest import digest
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.settings import Settings, unknown_variables, usable_cores
from hartonomous.vectors.codebook import simd_level
from hartonomous.version import __version__

OK, NOTE, PROBLEM = "ok", "note", "problem"
_LEAST_OPEN_FILES = 256
_GOOD_OPEN_FILES = 1024
_EMPTY_BLAKE3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
_TINY_SAFETENSORS = b"\x40\0\0\0\0\0\0\0" + (
    b'{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(64) + b"ok"
)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. ``state``: ok, note (worth knowing) or problem."""

    name: str
    state: str
    text: str
    remedy: str | None = None


def ok(name: str, text: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, state=OK, text=text)


def note(name: str, text: str, remedy: str | None = None) -> Check:
    """Return a check that found something worth knowing."""
    return Check(name=name, state=NOTE, text=text, remedy=remedy)


def problem(name: str, text: str, remedy: str) -> Check:
    """Return a check that found something to be mended."""
    return Check(name=name, state=PROBLEM, text=text, remedy=remedy)


def machine_checks(settings: Settings) -> list[Check]:
    """Look at the program, its libraries, and what the machine grants it."""
    return [
        ok("version", f"hartonomous {__version__}"),
        _python(),
        _sqlite(),
        ok("zstd", zstd.library()),
        _blake3(),
        _kernel(),
        _vectors(),
        _platform(),
        _cores(settings),
        _memory(settings),
        _open_files(),
        _parser(),
        _variables(),
    ]


def _python() -> Check:
    text = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    return ok("python", text)


def _sqlite() -> Check:
    version = health.sqlite_version()
    text = "SQLite " + ".".join(map(str, version))
    if version < health.LEAST_SQLITE:
        wanted = ".".join(map(str, health.LEAST_SQLITE))
        return problem("sqlite", text, f"use a Python with SQLite {wanted} or newer")
    missing = health.missing_options()
    if missing:
        return note("sqlite", f"{text}, without {', '.join(missing)}")
    return ok("sqlite", f"{text}, full-text search included")


def _blake3() -> Check:
    if digest(b"").hex() != _EMPTY_BLAKE3:
        return problem(
            "blake3", "gives a wrong digest of nothing", "install the package blake3 anew"
        )
    return ok("blake3", "gives the digest that it should")


def _kernel() -> Check:
    """Say which implementation codes the fields of tensors."""
    forced = os.environ.get(kernel.VARIABLE)
    how = f", as {kernel.VARIABLE} says" if forced else ""
    try:
        name = kernel.active().name
    except UsageError as error:
        return problem("kernel", error.message, error.hint or f"unset {kernel.VARIABLE}")
    if name != kernel.NUMPY:
        return ok("kernel", f"{name}{how}")
    remedy = f"unset {kernel.VARIABLE}"
    if kernel.available() == (kernel.NUMPY,):
        remedy = "install hartonomous anew where there is a C compiler, or from a wheel"
    text = f"numpy{how}: right, but some thirty times slower than C"
    return note("kernel", f"{text}; {kernel.fault()}" if kernel.fault() else text, remedy)


def _vectors() -> Check:
    """Say with what instructions vectors are scanned."""
    level = simd_level()
    if level is None:
        text = "no faiss: all are compared exactly"
        return ok("vectors", text)
    if level == "NONE":
        remedy = "unset FAISS_SIMD_LEVEL, or install a faiss built for this processor"
        return note("vectors", "faiss scans without SIMD, some seventy times slower", remedy)
    return ok("vectors", f"scanned by faiss with {level}")


def _platform() -> Check:
    text = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if sys.byteorder != "little":
        return problem("platform", f"{text}, big-endian", "use a little-endian machine")
    if platform.system() != "Linux":
        return note("platform", f"{text}: tested on Linux only")
    return ok("platform", text)


def _cores(settings: Settings) -> Check:
    usable = usable_cores()
    text = f"{usable} of {os.cpu_count() or usable} may be used, {settings.workers} workers"
    if settings.workers > 4 * usable:
        return note("cores", text, f"set workers to {usable}")
    return ok("cores", text)


def _memory(settings: Settings) -> Check:
    free = _available_bytes()
    limit = settings.memory_limit_bytes
    if free is None:
        return note("memory", "cannot be told here")
    text = f"{_mebibytes(free)} available, one operation may use {_mebibytes(limit)}"
    if free < limit:
        return note("memory", text, "lower memory_limit_bytes, or end other programs")
    return ok("memory", text)


def _available_bytes() -> int | None:
    """Return what Linux says is available, cut by a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return min(free, max(0, limit - used))
    except (OSError, ValueError):
        return free  # no control groups here, or no limit ("max")


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = str(hard) if hard != resource.RLIM_INFINITY else "without limit"
    text = f"{soft} at once (up to {allowed} can be asked for)"
    if soft == resource.RLIM_INFINITY or soft >= _GOOD_OPEN_FILES:
        return ok("open files", text)
    remedy = f"raise it: ulimit -n {_GOOD_OPEN_FILES}"
    if soft < _LEAST_OPEN_FILES:
        return problem("open files", text, remedy)
    return note("open files", text, remedy)


def _parser() -> Check:
    """Let the parser process read a tiny file that lies in memory."""
    remedy = "parsers run in a limited child process: check limits on processes and memory"
    descriptor = os.memfd_create("doctor")
    try:
        os.write(descriptor, _TINY_SAFETENSORS)
        with ParserProcess() as parser:
            found = parser.describe(descriptor, "tiny.safetensors")
    except HartonomousError as error:
        return problem("parser", error.message, remedy)
    finally:
        os.close(descriptor)
    if [tensor.name for tensor in found.tensors] != ["t"]:
        said = "; ".join(notice.text for notice in found.notices)
        return problem("parser", f"does not read a tiny file: {said}", remedy)
    return ok("parser", "starts, and reads a tiny file")


def _variables() -> Check:
    unknown = unknown_variables()
    if unknown:
        return note(
            "variables",
            f"{', '.join(unknown)} name no setting and are ignored",
            "hart config lists the settings",
        )
    return ok("variables", "none that is unknown")


def _mebibytes(size: int) -> str:
    return f"{size >> 20:,} MiB"
