"""Pages and pictures of stored files, written out to be looked at: drawn, as text, or as it is."""

import io
import re
from pathlib import Path
from typing import IO

from hartonomous.core.picture import address
from hartonomous.errors import (
    ConflictError,
    HartonomousError,
    NotFoundError,
    StructureError,
    UsageError,
)
from hartonomous.formats.sandbox import LimitedProcess, Task
from hartonomous.media.endings import PDF, WITH_PICTURES, ending, told_by_content, worth_a_look
from hartonomous.media.page_image import PageImage
from hartonomous.packs.extra_packages import PDFIUM, import_paths, installed
from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import content_process, need_images, open_pictures
from hartonomous.packs.text_views import document_process
from hartonomous.packs.viewed_files import plain_copy
from hartonomous.packs.written_file import write_file

_ODD = re.compile(r"[^\w.-]")
_NAME_CHARS = 100


def write_page(
    parts: StoreParts,
    files: OpenFiles,
    spec: str,
    member: str | None,
    *,
    page: int,
    folder: Path,
    force: bool,
) -> Path:
    """Write a page of a file of a version into a folder, and return where.

    A page of a PDF becomes a picture, that of another document its text; what has no text is
    written as it is. Raises NotFoundError, AmbiguousNameError, StructureError where it cannot be
    read, and ConflictError where a file of that name is there, unless ``force``.
    """
    version = find_version(parts, spec)
    one = version.single(member)
    parts.count_read(version.version.uid, [one.row.file_digest])
    name = one.path.rpartition("/")[2]
    with plain_copy(parts, files, one.row) as plain:
        if ending(one.path) in PDF and installed(PDFIUM):
            name, content = f"{name}-page-{max(page, 1)}.png", _drawn(plain, max(page, 1))
        elif worth_a_look(one.path):
            text = _text(plain, one.path, page)
            if text is None:
                return _written(folder / name, plain, force=force)
            suffix = f"-page-{page}" if page else ""
            name, content = f"{name}{suffix}.txt", text.encode()
        else:
            return _written(folder / name, plain, force=force)
    return _written(folder / name, io.BytesIO(content), force=force)


def write_picture(
    parts: StoreParts,
    files: OpenFiles,
    spec: str,
    member: str | None,
    part: str,
    *,
    folder: Path,
    force: bool,
) -> Path:
    """Write a picture that a document contains into a folder, and return where.

    It is called by the document and the picture's name there. Raises what ``contained_picture``
    and ``write_page`` raise.
    """
    one = find_version(parts, spec).single(member)
    content = contained_picture(parts, files, spec, part, member=member)
    inside = part.rpartition("/")[2]
    if ending(one.path) in PDF:
        suffix = "jpg" if content.startswith(b"\xff\xd8") else "png"
        page, _, number = part.partition("/")
        inside = f"page-{page}-picture-{number}.{suffix}"
    name = f"{one.path.rpartition('/')[2]}-{_ODD.sub('_', inside)[-_NAME_CHARS:]}"
    return _written(folder / name, io.BytesIO(content), force=force)


def contained_picture(
    parts: StoreParts, files: OpenFiles, spec: str, part: str, *, member: str | None = None
) -> bytes:
    """Return a picture that a stored document contains, as a file.

    ``part`` names it, as the index of pictures does. Its own bytes where it lies in the document as
    a file, else PNG. Raises NotFoundError where there is none or nobody looked yet, UsageError
    where the extra ``images`` is missing, StructureError where it cannot be taken out.
    """
    version = find_version(parts, spec)
    one = version.single(member)
    with open_pictures(parts) as index:
        known = {place.part for place in index.places_in(one.row.file_digest)}
        seen = index.source(one.row.file_digest) is not None
    if not seen and ending(one.path) in WITH_PICTURES:
        need_images()
        raise NotFoundError(
            f"{spec} was not looked at for pictures yet", hint="hart views update does it"
        )
    if not part or part not in known:
        raise NotFoundError(
            f"{spec} contains no picture {part!r}", hint=f"hart views ls {spec} lists them"
        )
    parts.count_read(version.version.uid, [one.row.file_digest])
    with content_process() as process, plain_copy(parts, files, one.row) as plain:
        found = process.look(plain.fileno(), address(one.path, part))[0]
    if found.notices:
        raise StructureError(f"{part} is not taken out of {spec}: {found.notices[0].text}")
    return found.content


def _drawn(plain: IO[bytes], page: int) -> bytes:
    task = Task(
        program="hartonomous.media.page_image:draw", formats=("pypdfium2:PdfDocument",),
        result=PageImage,
        refused=lambda _, reason: PageImage(refused=reason), check=_check,
    )  # fmt: skip
    limits = LimitedProcess(
        task, search_path=import_paths(PDFIUM), memory_bytes=512 << 20, cpu_s=60
    )
    with limits as process:
        found = process.look(plain.fileno(), str(page))[0]
    if found.refused:
        raise StructureError(f"page {page} cannot be drawn: {found.refused}")
    return found.png


def _check(found: PageImage, size_bytes: int) -> None:  # noqa: ARG001 - the task's signature
    if not (found.refused or found.png.startswith(b"\x89PNG")):
        raise ValueError("it is no picture")


def _text(plain: IO[bytes], path: str, page: int) -> str | None:
    """Return the text of a page; None where a file has none and its name claims none."""
    with document_process() as process:
        document = process.look(plain.fileno(), path)[0]
    if not document.blocks:
        if told_by_content(path) and not document.notices:
            return None
        said = "; ".join(one.text for one in document.notices) or "no reader takes it"
        raise StructureError(f"{path} has no text: {said}")
    return "\n".join(one.text for one in document.blocks if page in (0, one.page)) + "\n"


def _written(path: Path, content: IO[bytes], *, force: bool) -> Path:
    if path.name in ("", ".", ".."):
        raise UsageError(f"{path.name!r} is no name of a file")
    if path.is_symlink():  # whoever put it there chose what would be written over
        raise ConflictError(f"{path} is a link", hint="remove it, or go to another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HartonomousError(
            f"the folder {path.parent} cannot be made: {error.strerror}", hint="give another folder"
        ) from error
    write_file(path, content, force=force, hint="give another folder", through_links=False)
    return path
