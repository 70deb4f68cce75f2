"""A tensor as a weight of a model: its role beside it, its elements counted within bounds."""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import msgspec

from hartonomous.core.description import Tensor
from hartonomous.core.item_names import has_chunks, whole_name
from hartonomous.core.role import NOT_PARAMETERS, Role, tensor_role

Key = TypeVar("Key", bound=Hashable)

MAX_COUNT = 2**63 - 1
"""Counts and sizes are held to what a catalog's bigint holds."""
_STATE_STEM = re.compile(
    r"optimizer|optim|optimizer_state|scheduler|(?:rng_state|random_states)(?:_[0-9]{1,6})?"
)
"""File names without ending that hold a training run's state: what an optimizer, a schedule of
learning rates or generators of random numbers need to go on."""


class Weight(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A tensor, its role, and the elements that count as parameters (0 for buffers and scales).

    ``name`` is the tensor's own or its file's; ``folder`` the file's folder in the artifact.
    """

    tensor: Tensor
    name: str
    folder: str
    role: Role
    parameter_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's elements, held between 0 and ``MAX_COUNT``."""
        return min(MAX_COUNT, max(0, self.tensor.byte_count))


def _is_state(file: str) -> bool:
    """Say whether all tensors of the file are a training run's state."""
    return _STATE_STEM.fullmatch(file.partition(".")[0].lower()) is not None


def weigh(path: str, tensors: Iterable[Tensor]) -> list[Weight]:
    """Return the tensors of the file at ``path`` as weights, in the file's order.

    All tensors of an ``optimizer.*`` or ``rng_state.*`` file are optimizer state. The array of a
    ``.npy`` file, or a tensor without a name, goes by the name of its file. A chunk of a sharded
    tensor has that one's role.
    """
    folder, _, file = path.rpartition("/")
    state = _is_state(file)
    stem = file.rpartition(".")[0] or file
    named = not file.lower().endswith(".npy")
    chunks = has_chunks(file)
    weights = []
    for tensor in tensors:
        name = (tensor.name if named else "") or stem
        whole = whole_name(name) if chunks else name
        role = Role.OPTIMIZER_STATE if state else tensor_role(whole, tensor.shape, tensor.dtype)
        count = 0 if role in NOT_PARAMETERS else bounded_count(tensor.shape)
        weights.append(
            Weight(tensor=tensor, name=name, folder=folder, role=role, parameter_count=count)
        )
    return weights


def sums_by(weights: Iterable[Weight], key: Callable[[Weight], Key]) -> dict[Key, list[int]]:
    """Return {key: [weights, parameters, bytes]}, in the order of the weights."""
    sums: dict[Key, list[int]] = {}
    for weight in weights:
        total = sums.setdefault(key(weight), [0, 0, 0])
        total[0] += 1
        total[1] += weight.parameter_count
        total[2] += weight.size_bytes
    return sums


def bounded_count(shape: Sequence[int]) -> int:
    """Return the product of ``shape``, 1 for a scalar, held between 0 and ``MAX_COUNT``.

    A hostile shape of thousands of huge extents costs one pass and no long integers.
    """
    if min(shape, default=1) <= 0:
        return 0
    count = 1
    for extent in shape:
        count *= min(extent, MAX_COUNT)
        if count >= MAX_COUNT:
            return MAX_COUNT
    return count


def bounded_sum(values: Iterable[int]) -> int:
    """Return the sum of counts, held to ``MAX_COUNT``."""
    return min(MAX_COUNT, sum(values))
