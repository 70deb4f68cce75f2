"""Endings of files whose text is read, by the reader that takes them."""

# fmt: off
PLAIN = frozenset(("txt", "text", "log", "rst", "adoc", "org", "tex", "bib", "srt", "vtt",
    "diff", "patch", "po", "pot", "eml", "ics"))
PLAIN_NAMES = frozenset((
    "readme", "license", "licence", "copying", "notice", "authors", "changelog", "news", "todo",
    "install",
))
MARKDOWN = frozenset(("md", "markdown", "mdown", "mkd"))
HTML = frozenset(("html", "htm", "xhtml", "xht"))
TABLES = frozenset(("csv", "tsv"))
JSON_LINES = frozenset(("jsonl", "ndjson"))
JSON = frozenset(("json", "geojson", *JSON_LINES))
NOTEBOOKS = frozenset(("ipynb",))
OFFICE = frozenset(("docx", "docm", "pptx", "pptm", "xlsx", "xlsm"))
OPEN_DOCUMENT = frozenset(("odt", "ods", "odp"))
BOOKS = frozenset(("epub",))
PDF = frozenset(("pdf",))
PICTURES = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "tif", "tiff", "bmp", "dib", "avif",
))
WITH_PICTURES = OFFICE | OPEN_DOCUMENT | BOOKS | PDF
"""Documents in which pictures are looked for."""
CODE = frozenset((
    "py", "pyi", "c", "h", "cc", "cpp", "cxx", "hpp", "cu", "cuh", "rs", "go", "java", "kt",
    "scala", "js", "mjs", "ts", "tsx", "jsx", "rb", "php", "pl", "lua", "r", "jl", "sh", "bash",
    "zsh", "sql", "swift", "m", "cs", "hs", "ml", "ex", "exs", "erl", "clj", "el", "vim", "cmake",
    "toml", "yaml", "yml", "ini", "cfg", "conf", "proto", "css", "scss", "xml",
    "cff", "vue",
))
CODE_NAMES = frozenset((
    "makefile", "dockerfile", "modelfile", "jenkinsfile", "rakefile", "gemfile",
))
# Pages of manuals; libraries and older logs have such endings as well.
MANUALS = frozenset("123456789")
# Without an ending, and lists of pieces of words or marks of a training run.
NO_TEXTS = frozenset(("vocab", "merges", "dict", "checkpoint", "latest"))
# fmt: on

DOCUMENTS = PLAIN | MARKDOWN | HTML | TABLES | NOTEBOOKS | WITH_PICTURES
ALL = DOCUMENTS | JSON | CODE
NAMES = PLAIN_NAMES | CODE_NAMES
"""Names of files without an ending that have text."""


def ending(path: str) -> str:
    """Return the lower-case ending of a path's last part, without the dot."""
    stem, dot, found = path.rpartition("/")[2].rpartition(".")
    return found.lower() if dot and stem else ""


def named_as_document(path: str) -> bool:
    """Say whether only documents have such names; code and JSON share theirs with other files."""
    return ending(path) in DOCUMENTS


def told_by_content(path: str) -> bool:
    """Say whether only its bytes can tell that a file is a text: its name has no ending.

    Names that begin with a dot are settings of other programs, which come with every model.
    """
    name = path.rpartition("/")[2].lower()
    if ending(path):
        return ending(path) in MANUALS
    return bool(name) and not name.startswith(".") and name not in NO_TEXTS | NAMES


def worth_a_look(path: str) -> bool:
    """Say whether a file of this name may have text that a reader takes."""
    name = path.rpartition("/")[2].lower()
    return ending(path) in ALL or name in NAMES or told_by_content(path)
