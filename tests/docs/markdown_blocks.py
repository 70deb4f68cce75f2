"""Fenced blocks of the documents, with the comment in front of them that says how they are run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    if path.name != "commands.md"  # made from the commands; usage lines only
)
RUN = ("sh", "python")
SHOWN = ("text", "json", "hex", "toml")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<word>not run|needs): (?P<text>[^\n]+?) -->\n\n?)?"
    r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: ``word`` is ``not run`` or ``needs`` with its ``text``, or empty."""

    document: str
    line: int
    language: str
    code: str
    word: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    content = path.read_text(encoding="utf-8")
    return [
        Block(
            document=str(path.relative_to(ROOT)),
            line=content.count("\n", 0, match.start("code")),
            language=match["language"],
            code=match["code"],
            word=match["word"] or "",
            text=match["text"] or "",
        )
        for match in _BLOCK.finditer(content)
    ]
