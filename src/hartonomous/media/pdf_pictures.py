"""Pictures in PDF files, by pdfium: what each page draws, in the order in which it does.

A picture that lies as one JPEG stream is taken as these bytes; others are decoded by pdfium.
Pictures in forms (XObjects that pages share) are found to a depth of three.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from hartonomous.errors import LimitError, StructureError
from hartonomous.media.archive import RangeFile
from hartonomous.media.contained_pictures import PLACES_LIMIT, Shown
from hartonomous.media.damage import Damage
from hartonomous.ports.format import RangeReader

if TYPE_CHECKING:
    from PIL import Image

_READ_BYTES = 1 << 20
_DEPTH = 3
_PAGES_LIMIT = 20_000
_DECODED_PIXELS = 30_000_000
_LEAST_SIDE = 16


class PdfPicture(NamedTuple):
    """A picture on a page. ``stream`` is what lies in the file; a JPEG if ``is_file``."""

    shown: Shown
    stream: bytes
    is_file: bool
    drawn: Any

    def image(self) -> "Image.Image":
        """Return it decoded; raises LimitError, StructureError."""
        import pypdfium2

        width, height = self.drawn.get_px_size()
        if width * height > _DECODED_PIXELS:
            raise LimitError(f"it has {width:,} x {height:,} pixels")
        try:
            bitmap = self.drawn.get_bitmap(render=False)
            found: Image.Image = bitmap.to_pil().copy()
            bitmap.close()
        except (pypdfium2.PdfiumError, ValueError, TypeError, LookupError) as error:
            raise StructureError(f"pdfium: {error}") from error
        return found


@contextlib.contextmanager
def opened_pdf(reader: RangeReader) -> Iterator[Any]:
    """Open a PDF; raises StructureError where pdfium cannot."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(io.BufferedReader(RangeFile(reader), _READ_BYTES)) as document:
            yield document
    except pypdfium2.PdfiumError as error:
        raise StructureError(f"pdfium: {error}") from error


def pictures_of(document: Any, damage: Damage, *, only_page: int = 0) -> Iterator[PdfPicture]:
    """Yield the pictures of at least 16 pixels a side, page by page; each is valid until the next.

    ``part`` is ``page/number``, the number from 1 among the page's pictures. Pages that cannot be
    read are told to ``damage``.
    """
    count = 0
    pages = range(1, min(len(document), _PAGES_LIMIT) + 1)
    for number in [only_page] if only_page in pages else pages:
        with damage.page(f"pictures on page {number}"):
            for picture in _on_page(document, number):
                yield picture
                count += 1
                if count >= PLACES_LIMIT:
                    return


def _on_page(document: Any, number: int) -> Iterator[PdfPicture]:
    """Yield a page's pictures; raises StructureError where pdfium cannot read that page."""
    import pypdfium2

    try:
        with contextlib.closing(document[number - 1]) as page:
            yield from _drawn_on(page, number)
    except pypdfium2.PdfiumError as error:
        raise StructureError(f"pdfium: {error}") from error


def _drawn_on(page: Any, number: int) -> Iterator[PdfPicture]:
    import pypdfium2
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    across, down = page.get_size()
    objects = page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=_DEPTH)
    for order, drawn in enumerate(objects, 1):
        try:
            width, height = drawn.get_px_size()
            if min(width, height) < _LEAST_SIDE:
                continue
            left, bottom, right, top = drawn.get_bounds()
            # What wraps a JPEG (deflate, ASCII) is taken off; other streams stay as they lie.
            is_file = drawn.get_filters(skip_simple=True) == ["DCTDecode"]
            stream = bytes(drawn.get_data(decode_simple=is_file))
        except (pypdfium2.PdfiumError, ValueError):
            continue  # an object that is none; the page's others count
        place = (0.0, 0.0, 0.0, 0.0)
        if across > 0 and down > 0:
            place = (left / across, 1 - top / down, (right - left) / across, (top - bottom) / down)
        shown = Shown(f"{number}/{order}", number, *(round(each, 4) for each in place))
        yield PdfPicture(shown, stream, is_file, drawn)
