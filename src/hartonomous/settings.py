"""Settings with their sources, and where the store is.

Sits above ``ports``: it reads the environment and ``hartonomous.toml`` and imports nothing heavy.
A value comes from the first that has it: what was given (a flag, an argument), the environment
(``HARTONOMOUS_<NAME>``, or the contents of the file that ``HARTONOMOUS_<NAME>_FILE`` names),
``hartonomous.toml`` in the store directory, the same file in the user's configuration folder, the
default. A wrong value is an error that names where it stands, never a fallback.
"""

import os
import platform
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from hartonomous.core.quantity import parse_size
from hartonomous.errors import HartonomousError, NoStoreError, UsageError

PREFIX = "HARTONOMOUS_"
"""What every environment variable of this program begins with."""

FILE_NAME = "hartonomous.toml"
"""Name of a settings file, in a store directory or in the user's configuration folder."""

STORE_FILE = "store.json"
"""The file that makes a directory a store."""

_FILE_LIMIT_BYTES = 1 << 20
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class ProgressMode(StrEnum):
    """How long work shows what it is doing."""

    AUTO = "auto"  # a bar on a terminal, nothing elsewhere
    PLAIN = "plain"  # a line every few seconds
    NONE = "none"


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, cut by a container's quota."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        allowed = min(allowed, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control groups here, or no quota ("max"): the affinity stands
    return max(1, allowed)


def _read_bytes_count(raw: object) -> int:
    if isinstance(raw, str):
        return parse_size(raw)
    return _read_whole(raw)


def _read_whole(raw: object) -> int:
    if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,18}", raw.strip()):
        return int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    raise ValueError("is not a whole number")


def _read_switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _TRUE | _FALSE:
        return raw.strip().lower() in _TRUE
    raise ValueError("is neither true nor false")


def _read_text(raw: object) -> str:
    if isinstance(raw, str) and raw.strip():
        return raw.strip()
    raise ValueError("is not a text with something in it")


def _read_names(raw: object) -> tuple[str, ...]:
    """Return names from a list, or from a text with commas between them; there may be none."""
    some = [one for one in raw.split(",") if one.strip()] if isinstance(raw, str) else raw
    if isinstance(some, list | tuple) and all(isinstance(one, str) and one.strip() for one in some):
        return tuple(dict.fromkeys(one.strip() for one in some))
    raise ValueError("is not a list of names")


def _read_mode(raw: object) -> ProgressMode:
    try:
        return ProgressMode(raw)  # type: ignore[arg-type]  # any object may be asked
    except ValueError:
        raise ValueError(f"is none of {', '.join(ProgressMode)}") from None


def _setting(
    read: Callable[[object], object],
    help_text: str,
    *,
    low: int | None = None,
    high: int | None = None,
) -> Mapping[str, object]:
    return {"read": read, "help": help_text, "low": low, "high": high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its value; ``sources`` says where those came from that were not default.

    The fields' metadata is the one list of settings: reader, limits and help text.
    """

    memory_limit_bytes: int = field(
        default=512 << 20,
        metadata=_setting(
            _read_bytes_count, "Memory that one operation may use.", low=64 << 20, high=1 << 50
        ),
    )
    frame_cache_bytes: int = field(
        default=64 << 20,
        metadata=_setting(
            _read_bytes_count,
            "Decoded frames kept for reading; a quarter of memory_limit_bytes at most.",
            low=0,
            high=1 << 50,
        ),
    )
    workers: int = field(
        default_factory=usable_cores,
        metadata=_setting(_read_whole, "Threads that encode and decode.", low=1, high=1024),
    )
    pack_bytes: int = field(
        default=256_000_000,
        metadata=_setting(
            _read_bytes_count, "Size at which a pack is sealed.", low=1 << 20, high=1 << 34
        ),
    )
    trash_days: int = field(
        default=30,
        metadata=_setting(
            _read_whole, "Days that a removed artifact can be had back.", low=0, high=36_500
        ),
    )
    event_days: int = field(
        default=90,
        metadata=_setting(
            _read_whole, "Days that events stay in the change feed.", low=0, high=36_500
        ),
    )
    job_days: int = field(
        default=30,
        metadata=_setting(_read_whole, "Days that jobs stay after their end.", low=0, high=36_500),
    )
    stall_s: int = field(
        default=6 * 3600,
        metadata=_setting(
            _read_whole,
            "Seconds without any progress after which a job in the background is ended.",
            low=1,
            high=30 * 86_400,
        ),
    )
    cache_bytes: int = field(
        default=20 << 30,
        metadata=_setting(
            _read_bytes_count, "Size that the cache of plain files may have.", low=0, high=1 << 60
        ),
    )
    cache_keep_hours: int = field(
        default=24,
        metadata=_setting(
            _read_whole, "Hours that a plain file is kept at least.", low=0, high=876_000
        ),
    )
    access_counts: bool = field(
        default=True,
        metadata=_setting(_read_switch, "Count how often versions and files are read."),
    )
    check: bool = field(
        default=True,
        metadata=_setting(_read_switch, "Decode and compare what was encoded before it counts."),
    )
    variants: bool = field(
        default=True,
        metadata=_setting(
            _read_switch, "Keep tensors as what differs from stored ones where that takes less."
        ),
    )
    max_depth: int = field(
        default=2,
        metadata=_setting(
            _read_whole, "Longest chain of tensors that are kept as differences.", low=0, high=8
        ),
    )
    hot_labels: tuple[str, ...] = field(
        default=("hot",), metadata=_setting(_read_names, "Labels of versions with short chains.")
    )
    host: str = field(
        default_factory=platform.node,
        metadata=_setting(_read_text, "Name of this machine in the sources of versions."),
    )
    progress: ProgressMode = field(
        default=ProgressMode.AUTO,
        metadata=_setting(_read_mode, "How long work shows itself: auto, plain or none."),
    )
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False, hash=False)

    def source_of(self, name: str) -> str:
        """Return where the value of setting ``name`` came from; ``default`` if nobody set it."""
        return self.sources.get(name, "default")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingValue:
    """One setting as people see it."""

    name: str
    value: int | str | bool | tuple[str, ...]
    source: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """Where the store is or would be, ``how`` that was found, and whether one is there."""

    path: Path
    how: str
    exists: bool


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, in the order in which they are shown."""
    return tuple(found.name for found in _settings())


def setting_texts() -> tuple[tuple[str, str], ...]:
    """Return the name and the help text of every setting."""
    return tuple((found.name, found.metadata["help"]) for found in _settings())


def setting_values(settings: Settings) -> tuple[SettingValue, ...]:
    """Return every setting with its value and its source."""
    return tuple(
        SettingValue(
            name=found.name,
            value=getattr(settings, found.name),
            source=settings.source_of(found.name),
            help=found.metadata["help"],
        )
        for found in _settings()
    )


def load_settings(
    *,
    given: Mapping[str, object] = MappingProxyType({}),
    store: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings that hold here.

    ``given`` are values by name from flags or arguments, ``store`` is the store's directory (its
    ``hartonomous.toml`` is read if there is one). Raises UsageError that names the place, the
    value and the remedy for a wrong type, a value outside its limits or an unknown key.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for source, name, raw in _layers(given, environ, store):
        if name not in values:
            values[name] = _accept(_field_of(name), raw, source)
            sources[name] = source
    return Settings(**values, sources=sources)  # type: ignore[arg-type]


def unknown_variables(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the ``HARTONOMOUS_*`` variables that nothing is named after, sorted."""
    environ = os.environ if environ is None else environ
    ours = (*setting_names(), "store", "kernel", "catalog_url")  # the last two are read elsewhere
    known = {f"{PREFIX}{name.upper()}" for name in ours}
    return tuple(
        sorted(
            name
            for name in environ
            if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known
        )
    )


def user_settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the user's settings file, whether or not it is there."""
    return _user_folder("XDG_CONFIG_HOME", "user_config_dir", environ) / FILE_NAME


def user_cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the user's folder for what may vanish, such as the demo's download."""
    return _user_folder("XDG_CACHE_HOME", "user_cache_dir", environ)


def locate_store(
    explicit: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
    parents: bool = True,
) -> StorePlace:
    """Return the place of the store: named, found above, or the user's own.

    In this order: ``explicit``, ``HARTONOMOUS_STORE``, the nearest of ``start`` (the working
    directory) and its parents that holds a store (left out unless ``parents``), ``store`` in the
    user's settings file, the user's data folder. Raises UsageError for a URL.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return _place(explicit, "--store")
    for source, _, raw in _from_environment(("store",), environ):
        return _place(_accept_text("store", raw, source), source)
    if parents:
        start = Path.cwd() if start is None else start
        for folder in (start, *start.parents):
            if _holds_store(folder):
                return _place(folder, "a folder at or above the working directory")
    for source, name, raw in _from_file(user_settings_file(environ), ("store",)):
        if name == "store":
            return _place(_accept_text("store", raw, source), source)
    return _place(
        _user_folder("XDG_DATA_HOME", "user_data_dir", environ) / "store", "the user's data folder"
    )


def find_store(
    explicit: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> tuple[Path, str]:
    """Return the directory of the store and how it was found.

    Raises NoStoreError when there is none at that place. See ``locate_store`` for the order.
    """
    place = locate_store(explicit, environ=environ, start=start)
    if not place.exists:
        raise NoStoreError(
            f"there is no store at {place.path} ({place.how})",
            hint="make one with 'hart init', or name another with --store",
        )
    return place.path, place.how


def _settings() -> tuple[Field[object], ...]:
    return tuple(found for found in fields(Settings) if found.name != "sources")


def _field_of(name: str) -> Field[object]:
    return next(found for found in _settings() if found.name == name)


def _layers(
    given: Mapping[str, object], environ: Mapping[str, str], store: Path | None
) -> Iterator[tuple[str, str, object]]:
    """Yield (source, name, raw value), the strongest source first."""
    names = setting_names()
    for name, raw in given.items():
        if name not in names:
            raise _unknown(f"there is no setting {name!r}", name, names)
        yield "flag", name, raw
    yield from _from_environment(names, environ)
    if store is not None:
        yield from _from_file(store / FILE_NAME, names)
    for source, name, raw in _from_file(user_settings_file(environ), (*names, "store")):
        if name != "store":  # locate_store reads it
            yield source, name, raw


def _from_environment(
    names: tuple[str, ...], environ: Mapping[str, str]
) -> Iterator[tuple[str, str, object]]:
    for name in names:
        variable = f"{PREFIX}{name.upper()}"
        at_file = f"{variable}_FILE"
        if variable in environ and at_file in environ:
            raise UsageError(
                f"both {variable} and {at_file} are set", hint="unset one of the two variables"
            )
        if variable in environ:
            yield variable, name, environ[variable]
        elif at_file in environ:
            content = _read_small(Path(environ[at_file]), at_file)
            if content is None:
                raise UsageError(f"{at_file}: there is no file {environ[at_file]}")
            yield f"{at_file} ({environ[at_file]})", name, content.strip()


def _from_file(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, str, object]]:
    """Yield the entries of one settings file; a file that is not there has none."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UsageError(
            f"settings file: cannot read {path}: it is no regular file",
            hint="move away what lies there",
        )
    content = _read_small(path, "settings file")
    if content is None:
        return
    try:
        table = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", hint="mend the file") from error
    for name, raw in table.items():
        if name not in names:
            raise _unknown(f"{path}: there is no setting {name!r}", name, names)
        yield str(path), name, raw


def _read_small(path: Path, what: str) -> str | None:
    """Return the text of a small file, or None where there is none."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_FILE_LIMIT_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{what}: cannot read {path}: {error.strerror}") from error
    if len(content) > _FILE_LIMIT_BYTES:
        raise UsageError(f"{what}: {path} is larger than {_FILE_LIMIT_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: {path} is not UTF-8 text") from error


def _unknown(message: str, name: str, names: tuple[str, ...]) -> UsageError:
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the settings are: {', '.join(names)}"
    return UsageError(message, hint=hint)


def _accept(found: Field[object], raw: object, source: str) -> object:
    """Return the value that ``raw`` stands for, or raise UsageError saying what is wrong."""
    metadata = found.metadata
    try:
        value = metadata["read"](raw)
        low, high = metadata["low"], metadata["high"]
        if low is not None and not low <= value <= high:
            raise ValueError(f"is not between {low} and {high}")
    except ValueError as error:
        fallback = "" if found.default is MISSING else f" (the default is {found.default})"
        raise UsageError(
            f"{source}: {found.name}: {raw!r} {error}",
            hint=f"{metadata['help']} Correct or remove it{fallback}.",
        ) from None
    return value


def _accept_text(name: str, raw: object, source: str) -> str:
    try:
        return _read_text(raw)
    except ValueError as error:
        raise UsageError(f"{source}: {name}: {raw!r} {error}") from None


def _place(path: str | Path, how: str) -> StorePlace:
    if "://" in str(path):
        raise UsageError(
            f"{how}: {path} is a URL; this version keeps stores in directories only",
            hint="name a directory",
        )
    try:
        absolute = Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{how}: {path}: {error}") from error
    return StorePlace(path=absolute, how=how, exists=_holds_store(absolute))


def _holds_store(folder: Path) -> bool:
    try:
        place = folder / STORE_FILE
        # A pipe or device there is a store that somebody spoilt: opening it says so.
        return place.is_file() or (place.exists() and not place.is_dir())
    except OSError as error:
        # Not knowing is not the same as there being none: a second store must not come of it.
        raise HartonomousError(
            f"cannot look for a store in {folder}: {error.strerror}",
            hint="name the store with --store, or mend the folder's permissions",
        ) from error


def _user_folder(variable: str, function: str, environ: Mapping[str, str] | None) -> Path:
    """Return a folder of this user; platformdirs is loaded only where XDG does not say it."""
    environ = os.environ if environ is None else environ
    named = environ.get(variable, "")
    if Path(named).is_absolute():  # the XDG specification: a relative path is ignored
        return Path(named) / "hartonomous"
    import platformdirs

    return Path(getattr(platformdirs, function)("hartonomous", appauthor=False))
