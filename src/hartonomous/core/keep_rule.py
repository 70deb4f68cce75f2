"""Which parts of which checkpoints are kept: ``weights:all,optimizer:2`` and the like.

``PART:all`` keeps a part of every checkpoint, ``PART:N`` of the newest N, ``PART:every=K`` of those
whose step is a multiple of K. The newest checkpoint keeps everything, whatever the rule says: a run
that was interrupted goes on from it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hartonomous.errors import UsageError

PARTS = ("weights", "optimizer")
_AMOUNT = re.compile(r"(?P<all>all)|(?P<newest>[1-9][0-9]{0,8})|every=(?P<every>[1-9][0-9]{0,14})")
_HINT = "write something like weights:all,optimizer:2 or weights:every=1000,optimizer:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of one part is kept: everything where both are None."""

    newest: int | None = None
    every: int | None = None

    def keeps(self, steps: Sequence[int]) -> list[bool]:
        """Say of each step, the oldest checkpoint first, whether its part is kept."""
        last = len(steps) - 1
        if self.newest is not None:
            return [at > last - self.newest for at in range(len(steps))]
        if self.every is not None:
            return [step % self.every == 0 or at == last for at, step in enumerate(steps)]
        return [True] * len(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A checkpoint as the rule sees it: its parts, and whether somebody else named it."""

    step: int
    parts: frozenset[str]
    protected: bool = False


KeepRule = dict[str, Amount]
"""{part: amount}; a part that is not in it is kept whole."""


def parse_keep(text: object) -> KeepRule:
    """Read a rule; raises UsageError that says which word of it is wrong."""
    rule: KeepRule = {}
    for word in text.split(",") if isinstance(text, str) else [repr(text)]:
        part, _, amount = word.strip().partition(":")
        found = _AMOUNT.fullmatch(amount)
        if part not in PARTS:
            raise UsageError(f"keep={text!r}: there is no part {part!r}", hint=_HINT)
        if found is None:
            raise UsageError(
                f"keep={text!r}: {part}:{amount} says no amount; all, N and every=K do", hint=_HINT
            )
        if part in rule:
            raise UsageError(f"keep={text!r}: {part} is there twice", hint=_HINT)
        rule[part] = Amount(
            newest=int(found["newest"]) if found["newest"] else None,
            every=int(found["every"]) if found["every"] else None,
        )
    return rule


def surplus(rule: KeepRule, held: Sequence[Held]) -> list[frozenset[str]]:
    """Return what is to be dropped of each checkpoint, the oldest first."""
    drops: list[set[str]] = [set() for _ in held]
    for part, amount in rule.items():
        having = [at for at, one in enumerate(held) if part in one.parts]
        kept = amount.keeps([held[at].step for at in having])
        for at, keep in zip(having, kept, strict=True):
            if not keep and not held[at].protected and at != len(held) - 1:
                drops[at].add(part)
    return [frozenset(one) for one in drops]
