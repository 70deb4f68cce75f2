"""A folder of mixed documents, made from Debian's documentation packages and by real writers.

HTML, text and PDF are as the packages have them; of their texts DOCX, ODT and PDF are made by
python-docx, odfpy and reportlab, and EPUB with ``zipfile``. The packages come from the machine's own
archive of Debian (``apt-get download``); which files are taken follows their digests.
"""

import gzip
import hashlib
import importlib.util
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from context import Context

PACKAGES = ("linux-doc-6.1", "python3.11-doc", "libtasn1-doc", "bzip2-doc", "gnuplot-doc",
            "debian-faq", "maint-guide")  # fmt: skip
COUNT = 10_000
_MADE = 400
_LEAST_BYTES, _MOST_BYTES = 400, 1 << 20
_TAG = re.compile(r"<[^>]+>")


def mixed_documents(context: Context) -> Path:
    """Return the folder; a tenth of the documents when quick. It is made once."""
    count = COUNT // 10 if context.quick else COUNT
    folder = context.files / f"documents-{count}"
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    found = sorted(_sources(context), key=lambda path: hashlib.sha256(str(path).encode()).digest())
    pdfs = [path for path in found if path.suffix == ".pdf"]
    others = [path for path in found if path.suffix != ".pdf"]
    made = list(_made(others, part, count * _MADE // COUNT))
    taken = 0
    for path in [*pdfs, *others]:
        if taken + len(made) >= count:
            break
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if not _LEAST_BYTES <= len(content) <= _MOST_BYTES and path.suffix != ".pdf":
            continue
        name = path.name.removesuffix(".gz")
        if path.suffix == ".gz" and "." not in name:
            name += ".txt"
        target = part / f"{taken // 500:02}" / f"{taken:05}-{name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        taken += 1
    part.rename(folder)
    return folder


def _sources(context: Context) -> Iterator[Path]:
    """Yield text, HTML and PDF files of the packages."""
    place = context.files / "debian"
    place.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        unpacked = place / package
        if not unpacked.is_dir():
            done = subprocess.run(["apt-get", "download", package], cwd=place, check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
            archive = next(place.glob(f"{package}_*.deb"), None)
            if done.returncode or archive is None:
                continue  # the figures say how many documents there were
            subprocess.run(["dpkg", "-x", archive, unpacked], check=True)
            archive.unlink()
        for path in unpacked.rglob("*"):
            name = path.name.removesuffix(".gz")
            if (
                path.is_file()
                and not path.is_symlink()
                and name.endswith((".html", ".txt", ".rst", ".pdf"))
            ):
                yield path


def _made(sources: list[Path], folder: Path, count: int) -> Iterator[Path]:
    """Write documents of the texts of some sources by real writers, and yield them."""
    texts = [path for path in sources if path.suffix in (".txt", ".html")][: 3 * count]
    writers = (_docx, _odt, _pdf, _epub)
    (folder / "made").mkdir()
    for number, path in enumerate(texts[:count]):
        lines = [line for line in _TAG.sub("", path.read_text("utf-8", "replace"))[:40_000]
                 .splitlines() if line.strip()]  # fmt: skip
        plain = ["".join(letter for letter in line if letter >= " ") for line in lines]
        written = writers[number % len(writers)](plain, folder / "made" / f"{number:05}")
        if written is not None:
            yield written


def _docx(lines: list[str], target: Path) -> Path | None:
    if importlib.util.find_spec("docx") is None:
        return None
    import docx

    document = docx.Document()
    document.add_heading(lines[0] if lines else "Empty", level=1)
    for line in lines[1:]:
        document.add_paragraph(line)
    document.save(str(target.with_suffix(".docx")))
    return target.with_suffix(".docx")


def _odt(lines: list[str], target: Path) -> Path | None:
    if importlib.util.find_spec("odf") is None:
        return None
    from odf.opendocument import OpenDocumentText
    from odf.text import H, P

    document = OpenDocumentText()
    document.text.addElement(H(outlinelevel=1, text=lines[0] if lines else "Empty"))
    for line in lines[1:]:
        document.text.addElement(P(text=line))
    document.save(str(target.with_suffix(".odt")))
    return target.with_suffix(".odt")


def _epub(lines: list[str], target: Path) -> Path:
    """Write a book of one chapter for every 200 lines; EPUB 3, as its specification has it."""
    made = target.with_suffix(".epub")
    chapters = [lines[at : at + 200] for at in range(0, max(len(lines), 1), 200)]
    names = [f"chapter{number}.xhtml" for number in range(1, len(chapters) + 1)]
    title = escape(lines[0] if lines else "Empty")
    items = "".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(names)))
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr(
            "META-INF/container.xml",
            '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
            '<rootfiles><rootfile full-path="book.opf"'
            ' media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        book.writestr(
            "book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f'<dc:identifier id="id">{target.name}</dc:identifier><dc:title>{title}</dc:title>'
            f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest>"
            f"<spine>{spine}</spine></package>",
        )
        for number, (name, some) in enumerate(zip(names, chapters, strict=True), 1):
            body = "".join(f"<p>{escape(line)}</p>" for line in some)
            book.writestr(
                name,
                f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{title}</title></head>'
                f"<body><h1>Chapter {number}</h1>{body}</body></html>",
            )
    return made


def _pdf(lines: list[str], target: Path) -> Path | None:
    if importlib.util.find_spec("reportlab") is None:
        return None
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    made = target.with_suffix(".pdf")
    story = [Paragraph(escape(lines[0][:300] if lines else "Empty"), styles["Heading1"])]
    story += [Paragraph(escape(line[:2_000]), styles["BodyText"]) for line in lines[1:]]
    SimpleDocTemplate(str(made), invariant=1).build(story)
    return made
