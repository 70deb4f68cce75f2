"""Composition: a plan that stands on exactly predicted bases, as one that stands on theirs.

A base that is exactly what its own plan makes of its bases adds nothing but another link of the
chain. Its steps, and then those of what is built on it, give the same bits: composing moves no
operation, it only leaves out that the value between was kept under a name.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hartonomous.core import plan as plans
from hartonomous.core.plan import AnyStep, Cast, Operand, Plan, Rows


class Composed(NamedTuple):
    """A plan, and of each operand whose it is: (base, operand of that base's own plan).

    The latter is None where the operand is the base itself.
    """

    plan: Plan
    sources: tuple[tuple[int, int | None], ...]


def compose(plan: Plan, below: Sequence[Plan | None]) -> Composed | None:
    """Return ``plan`` with each base that has a plan in ``below`` replaced by that one's operands.

    ``below[i]`` predicts the base of operand *i* exactly; None: that base stays. Returns None where
    the two are no sequence of steps that a plan can have: steps work on all values alike, so that
    bases of a sum compose if the same casts make all of them.
    """
    if all(one is None for one in below):
        return None
    made = _of_casts(plan, below)
    only = below[0] if len(below) == 1 else None
    if made is None and only is not None:
        made = _of_one(plan, only)
    if made is None:
        return None
    try:
        plans.encode(made.plan)
    except ValueError:
        return None
    return made


def _of_one(plan: Plan, below: Plan) -> Composed | None:
    """Compose a plan of one base with whatever made the rows of it that it takes."""
    (operand,) = plan.operands
    if operand.dtype != below.dtype or operand.shape[1:] != below.shape[1:]:
        return None
    if len(operand.shape) != len(below.shape):
        return None
    steps = [*below.steps]
    if operand.shape != below.shape or operand.first:
        row = plans.Value(below.dtype, below.shape).row
        first, inside = divmod(operand.first, row)
        if inside or first + operand.shape[0] > below.shape[0]:
            return None
        steps.append(Rows(first, first + operand.shape[0]))
    made = Plan(plan.dtype, plan.shape, below.operands, (*steps, *plan.steps))
    return Composed(made, tuple((0, number) for number in range(len(below.operands))))


def _of_casts(plan: Plan, below: Sequence[Plan | None]) -> Composed | None:
    """Compose bases that are casts, all by the same steps; those that stay must not be changed."""
    prefix = next(one.steps for one in below if one is not None)
    if not all(isinstance(step, Cast) for step in prefix):
        return None
    operands = []
    for operand, one in zip(plan.operands, below, strict=True):
        if one is None:
            if not _unchanged(operand, prefix):
                return None
            operands.append(operand)
            continue
        if len(one.operands) != 1 or one.steps != prefix or operand.dtype != one.dtype:
            return None
        (source,) = one.operands
        if operand.first + operand.count > source.count:
            return None
        operands.append(Operand(source.dtype, operand.shape, source.first + operand.first))
    made = Plan(plan.dtype, plan.shape, tuple(operands), (*prefix, *plan.steps))
    sources = tuple((at, None if one is None else 0) for at, one in enumerate(below))
    return Composed(made, sources)


def _unchanged(operand: Operand, casts: Sequence[AnyStep]) -> bool:
    return all(isinstance(step, Cast) and step.dtype == operand.dtype for step in casts)
