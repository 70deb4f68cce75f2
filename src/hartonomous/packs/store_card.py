"""``store.json``: the format, the id, and the features that a program has to know.

It is the only file of a store that is ever replaced. A feature is named here before the first pack
that needs it is there.
"""

import errno
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError, NoStoreError, UnsupportedStoreError
from hartonomous.objects.durable import not_plain, read_plain, storage_error, write_atomically
from hartonomous.settings import STORE_FILE

STORE_VERSION = 1
VARIANTS = "variants"
"""Records that are predicted from other atoms; packs that hold some have the bit of that name."""
POSTGRESQL = "postgresql-catalog"
"""The catalog is on a server, and not in the store's directory."""
KNOWN_FEATURES: frozenset[str] = frozenset({VARIANTS, POSTGRESQL})
CARRIED = (
    "FORMAT.md",
    "FORMAT-FIELDS.md",
    "FORMAT-DELTA.md",
    "FORMAT-PLANS.md",
    "FORMAT-QUANTISED.md",
    "rescue.py",
)
"""What every store has of the program: its specifications, and a reader in one file."""
_CARD_LIMIT_BYTES = 1 << 20
_SPECIAL = {errno.EISDIR, errno.ENXIO, errno.ENODEV}  # a folder, a socket, a device without driver


class CatalogCard(msgspec.Struct, frozen=True, kw_only=True):
    """Where a catalog is that is no file of the store: libpq's parameters, no credentials."""

    engine: str
    schema: str
    parameters: dict[str, str] = {}


class StoreCard(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``store.json``."""

    format: str = "hartonomous-store"
    version: int = STORE_VERSION
    id: str
    created: str
    required_features: tuple[str, ...] = ()
    optional_features: tuple[str, ...] = ()
    catalog: CatalogCard | msgspec.UnsetType = msgspec.UNSET


def read_card(path: Path) -> StoreCard:
    """Read the ``store.json`` of the store at ``path``.

    Raises NoStoreError, IntegrityError, and UnsupportedStoreError for unknown versions and features
    by name.
    """
    try:
        content = read_plain(path / STORE_FILE, limit_bytes=_CARD_LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoStoreError(
            f"there is no store at {path}", hint="make one with 'hart init'"
        ) from error
    except OSError as error:
        if error.errno in _SPECIAL:
            raise not_plain(path / STORE_FILE) from error
        raise storage_error(error, f"read {STORE_FILE}", path) from error
    try:
        card = msgspec.json.decode(content, type=StoreCard)
    except UNDECODABLE as error:
        raise IntegrityError(
            f"{path / STORE_FILE} is damaged: {error}",
            hint="rescue.py restores files without it; docs/format.md says what it holds",
        ) from error
    unknown = [name for name in card.required_features if name not in KNOWN_FEATURES]
    if card.format != "hartonomous-store" or card.version != STORE_VERSION or unknown:
        what = f"features {', '.join(unknown)}" if unknown else f"format version {card.version}"
        raise UnsupportedStoreError(
            f"the store at {path} needs {what}, which this program does not know",
            hint="use a newer version of hartonomous",
        )
    return card


def write_card(path: Path, card: StoreCard) -> None:
    """Put ``store.json`` in its place, or another one in the place of it."""
    write_atomically(path / STORE_FILE, msgspec.json.format(msgspec.json.encode(card)) + b"\n")


def write_carried(path: Path) -> None:
    """Write the store's copies of what it carries of the program."""
    here = Path(__file__).parent
    for name in CARRIED:
        write_atomically(path / name, (here / name).read_bytes())


def require_feature(path: Path, name: str) -> None:
    """Have every program that opens the store know a feature; does nothing where it must already.

    The copies that the store carries are brought to this program's first: what an older program
    put there cannot read what follows.
    """
    if name in read_card(path).required_features:
        return
    with locks.held(path / "locks" / "card.lock", what=f"the features of the store at {path}"):
        card = read_card(path)
        if name in card.required_features:
            return
        write_carried(path)
        needed = tuple(sorted({*card.required_features, name}))
        write_card(path, msgspec.structs.replace(card, required_features=needed))


def set_catalog(path: Path, catalog: CatalogCard | None) -> StoreCard:
    """Write down that a store's catalog is on a server, or with None that it is a file."""
    with locks.held(path / "locks" / "card.lock", what=f"the features of the store at {path}"):
        card = read_card(path)
        needed = {*card.required_features} - {POSTGRESQL} | ({POSTGRESQL} if catalog else set())
        if catalog is not None:
            write_carried(path)  # an older rescue.py refuses the feature
        changed = msgspec.structs.replace(
            card,
            required_features=tuple(sorted(needed)),
            catalog=msgspec.UNSET if catalog is None else catalog,
        )
        write_card(path, changed)
        return changed
