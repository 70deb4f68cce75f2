"""Text to train on: the sources and documents of the pinned llama.cpp, the same everywhere.

The standard library's text would be another with each Python; this archive has a pinned digest.
"""

from pathlib import Path

from family.recipes import Making

SOURCES = {
    "cpp": ("common/*.cpp", "src/*.cpp", "src/*.h", "ggml/src/*.c", "tools/*/*.cpp"),
    "python": ("conversion/*.py", "gguf-py/gguf/*.py", "scripts/*.py", "examples/*/*.py"),
    "prose": ("*.md", "docs/**/*.md", "tools/**/*.md", "examples/**/*.md"),
}
_LONGEST_FILE = 200_000
_LONGEST_TEXT = 1_500_000


def text_of(llama_cpp: Path, kind: str) -> str:
    """Return text of one kind (cpp, python, prose): files in the order of their paths."""
    paths = {path for pattern in SOURCES[kind] for path in llama_cpp.glob(pattern)}
    build = llama_cpp / "build"
    texts: list[str] = []
    for path in sorted(path for path in paths if build not in path.parents):
        if sum(map(len, texts)) > _LONGEST_TEXT:
            break
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) <= _LONGEST_FILE:
            texts.append(text)
    return "\n\n".join(texts)[:_LONGEST_TEXT]


def vocabulary(making: Making) -> None:
    """Train a SentencePiece vocabulary of ``size`` pieces with byte fallback, one thread."""
    import sentencepiece

    making.target.mkdir()
    sample = making.target / "sample.txt"
    lines = []
    for kind in SOURCES:
        text = text_of(making.sources[0], kind)[: making.parameters["characters"]]
        lines += [line for line in text.split("\n") if line.strip()]
    sample.write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(sample), model_prefix=str(making.target / "tokenizer"), model_type="bpe",
        vocab_size=making.parameters["size"], byte_fallback=True, character_coverage=0.9995,
        num_threads=1, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, minloglevel=2,
    )  # fmt: skip
    sample.unlink()
    (making.target / "tokenizer.vocab").unlink()


def tokens_of(vocabulary_folder: Path, text: str) -> list[int]:
    """Return a text's token numbers, lines with their ends."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(
        model_file=str(vocabulary_folder / "tokenizer.model")
    )
    newline = processor.piece_to_id("<0x0A>")
    tokens: list[int] = []
    for line in processor.encode(text.split("\n")):
        tokens += [*line, newline]
    return tokens
