"""What a chat template would do besides putting values into text: a reading of Jinja's syntax.

Programs that load a model render its chat template, mostly in a sandbox, sometimes not. Jinja is
never run here. The text is cut into tokens as Jinja's lexer does (strings may hold what ends a
block), and names are looked at: what is called, and what reaches for Python's inner attributes
(``__class__``, ``gi_frame``), by name, by a string with escapes, or by a name that is put together
from parts. Everything is found in one pass over at most ``TEXT_LIMIT`` characters.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

TEXT_LIMIT = 1 << 20
NAMES_KEPT = 64
_NAME_CHARACTERS = 100

_OPENING = re.compile(r"\{[{%#]")
_TOKEN = re.compile(
    r"(?P<string>'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\")|(?P<name>[^\W\d]\w*+)"
    r"|(?P<number>\d\w*+)|(?P<space>\s++)|(?P<mark>.)",
    re.DOTALL,
)
_DUNDER = re.compile(r"__[A-Za-z]\w*?__")
_WORDS = re.compile(r"\w+", re.ASCII)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3}))")
_LOADING = frozenset({"import", "from", "include", "extends"})
_INNER = frozenset(
    {
        "mro", "func_globals", "func_code", "gi_frame", "gi_code", "cr_frame", "cr_code",
        "ag_frame", "ag_code", "f_globals", "f_builtins", "f_locals", "f_back", "tb_frame",
        "importlib", "builtins", "subprocess", "popen",
    }
)  # fmt: skip
_WORD_OPERATORS = frozenset({"in", "is", "and", "or", "not", "if", "else", "elif", "set", "for"})
_JOINING = frozenset({"~", "+", "%", "*", "|"})


class TemplateCode(msgspec.Struct, frozen=True, kw_only=True):
    """What a template calls, and why it is dangerous; both bounded, in order of appearance."""

    calls: list[str]
    dangers: list[str]


class _Token(NamedTuple):
    kind: str
    text: str


def examine_template(text: str) -> TemplateCode:
    """Return what the template calls and what of it reaches inside Python's objects."""
    calls: dict[str, None] = {}
    dangers: dict[str, None] = {}
    if len(text) > TEXT_LIMIT:
        dangers[f"it is longer than {TEXT_LIMIT} characters; the rest was not looked at"] = None
    for tokens, is_statement in _blocks(text[:TEXT_LIMIT]):
        _look(tokens, calls, dangers)
        first = tokens[0].text if tokens else ""
        if is_statement and first in _LOADING:
            dangers[f"it loads another template ({first})"] = None
    return TemplateCode(calls=_kept(calls), dangers=_kept(dangers))


def _kept(found: dict[str, None]) -> list[str]:
    return list(found)[:NAMES_KEPT]


def _blocks(text: str) -> Iterator[tuple[list[_Token], bool]]:
    """Yield the tokens of each ``{{ … }}`` and ``{% … %}``; the latter are statements."""
    at = 0
    while (found := _OPENING.search(text, at)) is not None:
        if found[0] == "{#":
            end = text.find("#}", found.end())
            at = len(text) if end < 0 else end + 2
            continue
        tokens, at = _tokens(text, found.end(), "}}" if found[0] == "{{" else "%}")
        yield tokens, found[0] == "{%"


def _tokens(text: str, at: int, closing: str) -> tuple[list[_Token], int]:
    """Return the tokens up to ``closing`` and where the text goes on behind it."""
    found: list[_Token] = []
    open_braces = 0
    while at < len(text):
        if not open_braces and text.startswith(closing, at):
            return found, at + 2
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternative takes anything
        kind, word = str(match.lastgroup), match[0]
        open_braces += {"{": 1, "}": -1}.get(word, 0)
        open_braces = max(open_braces, 0)
        at = match.end()
        # A sign beside a delimiter strips blanks and is no token of its own.
        if kind != "space" and not (word in "+-" and not found):
            found.append(_Token(kind, word))
    return found, at


def _look(tokens: list[_Token], calls: dict[str, None], dangers: dict[str, None]) -> None:
    """Note what the tokens of one block call, and what of them is dangerous."""
    nothing = _Token("", "")
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else nothing
        after = tokens[at + 1] if at + 1 < len(tokens) else nothing
        if token.kind == "string":
            reason = _string_danger(token.text)
            if reason is not None:
                dangers[reason] = None
        elif token.kind == "name":
            if "__" in token.text or (token.text in _INNER and before.text in (".", "|")):
                dangers[f"it reaches for {_shown(token.text)}"] = None
            if token.text == "attr" and before.text == "|" and _hides(tokens, at + 1):
                dangers["it reaches for an attribute whose name it puts together"] = None
            if after.text == "(":
                calls[f"{'.' if before.text == '.' else ''}{_shown(token.text)}"] = None
        elif token.text == "[" and _ends_value(before) and _hides(tokens, at):
            dangers["it reaches for an item whose name it puts together"] = None


def _ends_value(token: _Token) -> bool:
    """Say whether a bracket behind this token takes an item, rather than begin a list."""
    is_name = token.kind == "name" and token.text not in _WORD_OPERATORS
    return is_name or token.kind == "string" or token.text in (")", "]")


def _hides(tokens: list[_Token], at: int) -> bool:
    """Say whether the brackets that open at ``at`` hold a text put together from parts."""
    depth = 0
    strings = joins = 0
    for token in tokens[at : at + 64]:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if depth <= 0:
            break
        strings += token.kind == "string"
        joins += token.text in _JOINING
    return bool(strings and joins)


def _string_danger(literal: str) -> str | None:
    """Return why a string is dangerous: a name of an inner attribute, or a part of one."""
    text = _ESCAPE.sub(_unescaped, literal[1:-1])
    found = _DUNDER.search(text)
    if found is not None:
        return f"it reaches for {_shown(found[0])}"
    if text != literal[1:-1] and "_" in text:
        return "it writes an underscore as an escape"
    if "__" in text and _WORDS.fullmatch(text) is not None:
        return f"it has a part of an inner name, {_shown(text)}"
    return None


def _unescaped(match: "re.Match[str]") -> str:
    digits = match[1] or match[2] or match[3]
    number = int(digits, 16) if digits else int(match[4], 8)
    return chr(number) if number < 0x110000 else ""


def _shown(name: str) -> str:
    return name[:_NAME_CHARACTERS].encode("utf-8", "backslashreplace").decode()
