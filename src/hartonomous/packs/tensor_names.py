"""Tensors by name: which bytes of which file a name means in a version.

A name that several files of the version have is ambiguous, unless type, shape and bytes of the
tensor are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from hartonomous.catalog import manifests, tensors
from hartonomous.catalog.manifests import TensorRow
from hartonomous.errors import AmbiguousNameError, NotFoundError
from hartonomous.packs import arrays
from hartonomous.packs.arrays import Rows, TensorPlace
from hartonomous.packs.files import FileReader
from hartonomous.packs.open_files import OpenFiles, VersionFile, VersionFiles, find_version
from hartonomous.packs.parts import StoreParts

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEAR = 5
_NAMES_SEARCHED = 20_000
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """The tensors of one version, looked up once: names in the order of their bytes.

    What it gives stays valid while the store is open.
    """

    version: VersionFiles
    places: dict[str, tuple[TensorPlace, ...]]

    def place(self, name: str) -> TensorPlace:
        """Return where a tensor lies; raises NotFoundError or AmbiguousNameError."""
        found = self.places.get(name, ())
        if not found:
            raise _missing(self.version, name, list(self.places))
        return _only_one(self.version, name, found)

    def array(
        self,
        name: str,
        *,
        rows: Rows | None = None,
        dequantise: bool = False,
        owned: bool = False,
    ) -> NDArray[Any]:
        """Return a tensor, or rows of it; see ``packs.arrays.read_array``."""
        return arrays.read_array(self.place(name), rows=rows, dequantised=dequantise, owned=owned)

    def metadata(self) -> dict[str, str] | None:
        """Return what its safetensors files say in ``__metadata__``; None where none has any."""
        found: dict[str, str] = {}
        said = False
        for file in dict.fromkeys(one.file for places in self.places.values() for one in places):
            held = file.manifest.description.metadata.get("__metadata__")
            if isinstance(held, dict):
                said = True
                found = {**held, **found}
        return found if said else None


def open_model(
    parts: StoreParts, files: OpenFiles, spec: str, *, member: str | None = None
) -> OpenModel:
    """Look up every tensor of a version, or of one of its files; raises NotFoundError."""
    version = find_version(parts, spec)
    parts.count_read(version.version.uid, [one.row.file_digest for one in version.chosen(member)])
    places: dict[str, tuple[TensorPlace, ...]] = {}
    for one in version.chosen(member):
        if not one.row.tensor_count:
            continue
        with parts.database.read() as tx:
            rows = manifests.tensors_of(tx, one.row.id)
        file = files.open(one.row)
        for row in sorted(rows, key=lambda row: row.offset):
            places[row.name] = (*places.get(row.name, ()), _place(one, file, row))
    if not places:
        raise _without_tensors(version)
    return OpenModel(version=version, places=places)


def find_tensor(
    parts: StoreParts, files: OpenFiles, spec: str, name: str, *, member: str | None = None
) -> tuple[VersionFiles, TensorPlace]:
    """Return where the tensor ``name`` of a version lies; raises NotFoundError, AmbiguousNameError.

    ``member`` is the path of the file to look into, None for all of them.
    """
    version = find_version(parts, spec)
    by_id = {one.row.id: one for one in version.chosen(member) if one.row.tensor_count}
    parts.count_read(version.version.uid)
    with parts.database.read() as tx:
        found = tensors.named(tx, list(by_id), name)
        near = [] if found else tensors.names(tx, list(by_id), limit=_NAMES_SEARCHED)
    if not by_id:
        raise _without_tensors(version)
    if not found:
        raise _missing(version, name, near)
    places = []
    for key, row in found:
        file = files.open(by_id[key].row)
        places.append(_place(by_id[key], file, row))
    return version, _only_one(version, name, places)


def _place(one: VersionFile, file: FileReader, row: TensorRow) -> TensorPlace:
    told = file.described(row)  # the catalog holds neither strides nor codings
    return TensorPlace(
        member=one.path,
        file=file,
        name=row.name,
        dtype=row.dtype,
        shape=row.shape,
        offset=row.offset,
        length=row.length,
        digest=row.digest,
        strides=told.strides,
        coding=told.coding,
    )


def _is_one(found: Sequence[TensorPlace]) -> bool:
    uses = {(one.dtype, one.shape, one.digest) for one in found}
    return len(found) == 1 or (len(uses) == 1 and found[0].digest is not None)


def _only_one(version: VersionFiles, name: str, found: Sequence[TensorPlace]) -> TensorPlace:
    if _is_one(found):
        return found[0]
    raise ambiguous(version, name, [one.member for one in found])


def ambiguous(version: VersionFiles, name: str, members: Iterable[str]) -> AmbiguousNameError:
    """Return the error that says which files give ``name`` to different tensors."""
    paths = list(dict.fromkeys(members))
    if len(paths) == 1:
        return AmbiguousNameError(
            f"{paths[0]} of {version.spec} has several different tensors named {name!r}",
            hint="read the file itself; hart show lists the tensors with their offsets",
        )
    return AmbiguousNameError(
        f"{version.spec} has different tensors named {name!r} in {', '.join(_first(paths))}",
        hint="say which file is meant (--file on the command line, member= in Python)",
    )


def _first(paths: Sequence[str]) -> Iterator[str]:
    yield from paths[:_SHOWN_NAMES]
    if len(paths) > _SHOWN_NAMES:
        yield f"{len(paths) - _SHOWN_NAMES} more"


def _missing(version: VersionFiles, name: str, names: Sequence[str]) -> NotFoundError:
    near = get_close_matches(name[:200], names[:_NAMES_SEARCHED], n=_NEAR, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else None
    return NotFoundError(
        f"{version.spec} has no tensor {name!r}",
        hint=hint or f"hart show --tensors {version.version.name!r} lists its tensors",
    )


def _without_tensors(version: VersionFiles) -> NotFoundError:
    return NotFoundError(
        f"{version.spec} has no tensors that are known",
        hint=f"it has the files {version.shown_paths()}",
    )
