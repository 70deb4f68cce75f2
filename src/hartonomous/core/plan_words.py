"""Words for plans: how an atom came out of others, as people read it."""

from collections.abc import Sequence

from hartonomous.core.plan import (
    FLOAT_TARGETS,
    Append,
    Cast,
    Concatenate,
    Dequantise,
    Linear,
    LowRank,
    PermuteHeads,
    Plan,
    Rows,
    Transpose,
)

_EXACT: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((Linear, LowRank), "merged"),
    (Transpose, "transposed"),
    (PermuteHeads, "permuted"),
    ((Concatenate, Rows, Append), "recut"),
    (Cast, "cast"),
)
"""The step that says most about a plan, and what a tensor is called that it gives exactly."""


def kind_of(plan: Plan, *, exact: bool) -> str:
    """Return one word: derived (of a quantised tensor), cast, transposed, …, or delta.

    ``exact`` says that the prediction was right in every bit, so that nothing else is kept.
    """
    if plan.dtype not in FLOAT_TARGETS:
        return "derived"
    if not exact:
        return "delta"
    for steps, word in _EXACT:
        if any(isinstance(step, steps) for step in plan.steps):
            return word
    return "recut"


def describe(plan: Plan, bases: Sequence[str]) -> str:
    """Return what a plan does to its bases, such as ``blake3:… cast to BF16``."""
    parts = list(bases[:3]) + ([f"{len(bases) - 3} more"] if len(bases) > 3 else [])
    words = [_step(step) for step in plan.steps]
    what = ", ".join(word for word in words if word)
    taken = " and ".join(parts)
    return f"{taken}, {what}" if what else taken


def _step(step: object) -> str:
    if isinstance(step, Cast):
        return f"cast to {step.dtype}"
    if isinstance(step, Transpose):
        return "transposed"
    if isinstance(step, PermuteHeads):
        return f"rows of {step.heads} heads {'put back' if step.inverse else 'permuted'}"
    if isinstance(step, Rows):
        return f"rows {step.first} to {step.stop}"
    if isinstance(step, Append):
        return f"{step.rows} rows appended"
    if isinstance(step, Concatenate):
        return "joined"
    if isinstance(step, Linear):
        weights = ", ".join(f"{weight:g}" for weight in step.weights)
        return f"added with weights {weights}"
    if isinstance(step, LowRank):
        return f"added as a product of low rank, scale {step.scale:g}"
    return "dequantised" if isinstance(step, Dequantise) else ""
