"""Train one linear layer a little further, in numpy.

Pure. It makes a variant whose updates look like those of a fine-tune: Adam moves every weight by
about the learning rate a step, whatever the weight's size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RANK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How long and how fast: mini-batches of ``batch`` made inputs, a learning rate that decays."""

    seed: int = 0
    steps: int = 60
    batch: int = 64
    learning_rate: float = 2e-5
    shift: float = 0.05


def tune_linear(
    weight: NDArray[np.float32], bias: NDArray[np.float32], plan: TrainingPlan
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight ``(out, in)`` and bias ``(out,)`` after ``plan.steps`` steps of Adam.

    The loss is the mean squared distance to a teacher: the same layer, shifted by a matrix of rank
    8 whose entries are ``plan.shift`` standard deviations of the weight. Inputs are GELU of normal
    noise, like those of a feed-forward layer. Works in float64 and rounds once at the end.
    """
    random = np.random.default_rng(plan.seed)
    student = [weight.astype(np.float64), bias.astype(np.float64)]
    teacher_weight, teacher_bias = _teacher(student[0], student[1], plan, random)
    first = [np.zeros_like(values) for values in student]
    second = [np.zeros_like(values) for values in student]
    moments = list(zip(student, first, second, strict=True))
    for step in range(1, plan.steps + 1):
        inputs = _gelu(random.standard_normal((plan.batch, weight.shape[1])))
        error = inputs @ (student[0] - teacher_weight).T + (student[1] - teacher_bias)
        gradients = [error.T @ inputs * (2 / error.size), error.sum(axis=0) * (2 / error.size)]
        rate = plan.learning_rate * (1 - (step - 1) / plan.steps)
        for (values, mean, square), gradient in zip(moments, gradients, strict=True):
            _update_moments(mean, square, gradient)
            np.subtract(values, rate * _adam_direction(mean, square, step), out=values)
    return student[0].astype(np.float32), student[1].astype(np.float32)


def _teacher(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    plan: TrainingPlan,
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left = random.standard_normal((weight.shape[0], _RANK))
    right = random.standard_normal((_RANK, weight.shape[1]))
    scale = plan.shift * float(weight.std()) / _RANK**0.5
    shifted_bias = bias + plan.shift * float(bias.std()) * random.standard_normal(bias.shape)
    return weight + scale * (left @ right), shifted_bias


def _update_moments(
    mean: NDArray[np.float64], square: NDArray[np.float64], gradient: NDArray[np.float64]
) -> None:
    """Update Adam's running moments in place (betas 0.9 and 0.999)."""
    mean += 0.1 * (gradient - mean)
    square += 0.001 * (gradient * gradient - square)


def _adam_direction(
    mean: NDArray[np.float64], square: NDArray[np.float64], step: int
) -> NDArray[np.float64]:
    """Return the step of Adam for learning rate 1 (Kingma and Ba 2015), biases corrected."""
    size: NDArray[np.float64] = np.sqrt(square / (1 - 0.999**step)) + 1e-8
    return mean / (1 - 0.9**step) / size


def _gelu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    cubic: NDArray[np.float64] = values + 0.044715 * values**3
    result: NDArray[np.float64] = 0.5 * values * (1 + np.tanh(0.7978845608028654 * cubic))
    return result
