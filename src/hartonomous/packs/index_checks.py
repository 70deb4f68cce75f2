"""Compares what is derived for search with its sums: the indexes of words, pictures and vectors.

Nothing is lost with one of them: what is damaged can be removed, and is made anew from the stored
files.
"""

import stat
from collections.abc import Callable

from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import drop_pictures, picture_damage
from hartonomous.packs.text_views import drop_views, index_damage
from hartonomous.packs.vector_search import derived_files
from hartonomous.vectors.derived_file import open_derived

Tell = Callable[[str, str, tuple[str, ...]], None]


def check_indexes(
    parts: StoreParts,
    tell: Tell,
    mended: Callable[[str], None] | None,
    note: Callable[[str], None],
) -> None:
    """Tell of each index that is damaged, or remove it and tell ``mended``.

    ``note`` is told of those that cannot be looked at.
    """
    for where, damage, drop in (
        ("index of words", index_damage, drop_views),
        ("index of pictures", picture_damage, drop_pictures),
    ):
        try:
            found = damage(parts)
        except HartonomousError as error:
            parts.database.refuse_lost(error)
            note(f"the {where} was not looked at: {error.message}")
            continue
        if found is None:
            continue
        if mended is None:
            hint = "hart views rebuild, or hart verify --repair, has it made anew"
            tell(where, f"is damaged: {found}; {hint}", ())
        else:
            drop(parts)
            mended(f"{where} (removed; the next search makes it anew)")
    _check_vectors(parts, tell, mended)


def _check_vectors(parts: StoreParts, tell: Tell, mended: Callable[[str], None] | None) -> None:
    for path in derived_files(parts):
        where = f"index of vectors {path.relative_to(parts.directory)}"
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            open_derived(path)
        except OSError:
            continue  # replaced meanwhile, or not to be read: whoever searches does without
        except IntegrityError as error:
            if mended is None:
                hint = "the next update of the index makes it anew, hart verify --repair removes it"
                tell(where, f"{error.message}; {hint}", ())
            else:
                path.unlink(missing_ok=True)
                mended(f"{where} (removed; the next update makes it anew)")
