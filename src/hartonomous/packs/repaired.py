"""What a repair found in the packs, and what could not be brought back."""

from typing import Any

import msgspec


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the packs and what could not be brought back.

    ``renamed`` are packs that lay under another name than their own, as ``FORMER -> NOW``; in a
    dry run they still do. ``mended`` are packs whose damaged end was written anew, or would be.
    """

    pack_count: int
    atom_count: int
    manifest_count: int
    version_count: int
    change_count: int
    damaged: tuple[str, ...]
    lost: tuple[str, ...]
    recovered: tuple[str, ...]
    renamed: tuple[str, ...]
    mended: tuple[str, ...] = ()
    former_catalog: str | None
    dry_run: bool = False

    def told(self) -> dict[str, Any]:
        """Return the data of the event ``store.repaired``: how much of each there is."""
        counts = ("pack_count", "atom_count", "manifest_count", "version_count", "change_count")
        lists = ("damaged", "lost", "recovered", "renamed")
        return {
            **{name: getattr(self, name) for name in counts},
            **{f"{name}_count": len(getattr(self, name)) for name in lists},
        }
