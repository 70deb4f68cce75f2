"""The chapters of a book in EPUB: the members of its spine, in order.

The table of contents (``nav``), which some programs put there too, is none of them.
"""

from posixpath import dirname, join, normpath
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from hartonomous.errors import StructureError
from hartonomous.media.archive import Archive

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
_OPF = "{http://www.idpf.org/2007/opf}"


def chapters_of(archive: Archive) -> tuple[Element, list[tuple[str, str]]]:
    """Return a book's package, and (member, media type) of each chapter; no member is "".

    Raises StructureError where the container names no book.
    """
    root = next(archive.xml("META-INF/container.xml").iter(_CONTAINER), None)
    if root is None:
        raise StructureError("its container names no book")
    place = root.get("full-path", "")
    book = archive.xml(place)
    files: dict[str, tuple[str, str]] = {}
    contents = set()
    for one in book.iter(f"{_OPF}item"):
        name = one.get("id", "")
        member = normpath(join(dirname(place), unquote(one.get("href", ""))))
        files[name] = (member, one.get("media-type", ""))
        if "nav" in one.get("properties", "").split():
            contents.add(name)
    spine = [one.get("idref", "") for one in book.iter(f"{_OPF}itemref")]
    return book, [files.get(name, ("", "")) for name in spine if name not in contents]
