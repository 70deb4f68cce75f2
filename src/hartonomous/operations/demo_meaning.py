"""What the demo asks by meaning: notes, a question that shares no word with them, what is needed.

An operation: it writes a few texts. The model that answers is the demo's own base, a sentence
encoder, which then lies in the store already.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ENCODER = "minilm"
"""The name under which the base becomes an encoder."""

QUESTION = "machine makes strange sounds"
"""None of its words occurs in a note; ``ANSWER`` is the one that is about it."""
ANSWER = "pump.txt"

NOTES = {
    "pump.txt": "The pump rattles loudly and hums when it is switched on.",
    "invoice.txt": "The bill for the paint was settled by bank transfer on Friday.",
    "bread.txt": "Dough rests overnight in the cellar and is baked at dawn.",
    "harbour.txt": "Two ships with white sails left the harbour before the storm.",
    "vaccine.txt": "Nurses gave the children their vaccination against measles.",
}
"""File names and their texts."""

_PACKAGES = {"onnxruntime": "encode", "tokenizers": "encode"}


def write_notes(folder: Path) -> Path:
    """Write the notes into a new folder and return it."""
    folder.mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    return folder


def missing_extras(packages: Sequence[str] = tuple(_PACKAGES)) -> tuple[str, ...]:
    """Return the extras without which nothing is found by meaning here, none if all are there."""
    return tuple(dict.fromkeys(_PACKAGES[one] for one in packages if find_spec(one) is None))
