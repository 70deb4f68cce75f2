"""Tokens of texts, by the ``tokenizers`` package, from the bytes of a tokenizer's files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from hartonomous.errors import HartonomousError, UsageError

_WORDS_LIMIT = 2_000_000
_HINT = "its tokenizer.json or vocab.txt may be damaged: fetch the files of the model again"
TEXT_LIMIT_CHARS = 100_000
"""What of a text is looked at: a longer one is cut here before it is cut into tokens."""


_SPECIAL_TOKENS = {
    "unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]",
}  # fmt: skip


def from_vocabulary(vocabulary: bytes, config: Mapping[str, Any]) -> bytes:
    """Return a tokenizer.json of BERT's WordPiece with the words of ``vocab.txt``.

    Raises UsageError where the special tokens are not among the words.
    """
    special = {
        kind: str(config.get(f"{kind}_token", default)) for kind, default in _SPECIAL_TOKENS.items()
    }
    ids, numbered = _numbered(vocabulary, set(special.values()))
    missing = [token for token in special.values() if token not in ids]
    if missing:
        raise UsageError(f"vocab.txt has no token {missing[0][:60]!r}")
    lower = bool(config.get("do_lower_case", True))
    first, last = special["cls"], special["sep"]
    ends = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (first, last)}
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": ids[token], "content": token, "special": True, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False}
            for token in sorted(set(special.values()), key=ids.__getitem__)
        ],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "lowercase": lower,
            "handle_chinese_chars": bool(config.get("tokenize_chinese_chars", True)),
            "strip_accents": config.get("strip_accents"),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": first, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": last, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": ends,
        },
        "model": {
            "type": "WordPiece", "unk_token": special["unk"],
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {},
        },
    }  # fmt: skip
    outside = json.dumps(content, ensure_ascii=False).encode()
    return outside.removesuffix(b"}}}") + numbered + b"}}}"


def _numbered(vocabulary: bytes, asked: Set[str]) -> tuple[dict[str, int], bytearray]:
    """Return the ids of the words asked for, and all words with theirs as members of JSON.

    One word at a time: an object for each would take a hundred times the file.
    """
    found: dict[str, int] = {}
    members = bytearray()
    for number, line in enumerate(io.BytesIO(vocabulary)):
        if number >= _WORDS_LIMIT:
            raise UsageError(f"vocab.txt has over {_WORDS_LIMIT:,} words")
        word = line.decode("utf-8", "replace").removesuffix("\n").rstrip("\r")
        members += (
            f"{',' if members else ''}{json.dumps(word, ensure_ascii=False)}:{number}".encode()
        )
        if word in asked:
            found[word] = number
    return found, members


class Tokens:
    """A loaded tokenizer: texts to token ids, cut to ``max_tokens`` with the special ones."""

    def __init__(self, content: bytes, *, max_tokens: int, padding_id: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_buffer(content)
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length=max_tokens)
        except BaseException as error:
            _raise_own(error)
            raise UsageError(
                f"the tokenizer cannot be read: {_in_words(error)}", hint=_HINT
            ) from error
        self._max_tokens, self._padding_id = max_tokens, padding_id

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, special tokens among them, not filled up."""
        try:
            found = self._tokenizer.encode_batch([text[:TEXT_LIMIT_CHARS] for text in texts])
        except BaseException as error:
            _raise_own(error)
            raise HartonomousError(
                f"the tokenizer of this encoder cannot be used: {_in_words(error)}", hint=_HINT
            ) from error
        return [one.ids for one in found]

    def prompt_length(self, prompt: str) -> int:
        """Return how many tokens a prompt puts before a text, the special ones there included."""
        if not prompt:
            return 0
        one = self._tokenizer.encode(prompt)
        return len(one.ids) - (one.special_tokens_mask[-1] if one.ids else 0)

    def filled(
        self, ids: Sequence[Sequence[int]], *, fixed: bool
    ) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
        """Return (ids, mask), both int64 [texts, tokens], filled up on the right."""
        width = self._max_tokens if fixed else max(map(len, ids))
        filled = np.full((len(ids), width), self._padding_id, np.int64)
        mask = np.zeros((len(ids), width), np.int64)
        for row, one in enumerate(ids):
            filled[row, : len(one)] = one
            mask[row, : len(one)] = 1
        return filled, mask


def _raise_own(error: BaseException) -> None:
    """Raise again what is not the package's own: a panic of it is no ``Exception`` of Python."""
    if isinstance(error, MemoryError | KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error


def _in_words(error: BaseException) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return "".join(one if one.isprintable() else "?" for one in line)
