"""A tensor as a weight of a model: its role beside it, its elements counted within bounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hartonomous.core.description import Tensor
from hartonomous.core.role import NOT_PARAMETERS, Role, tensor_role

MAX_COUNT = 2**63 - 1
"""Counts and sizes are held to what a catalog's bigint holds."""
OPTIMIZER_STEMS = frozenset({"optimizer", "optim", "optimizer_state", "scheduler"})
"""File names without ending that hold a training run's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
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
        """Bytes of the tensor, held between 0 and ``MAX_COUNT``."""
        return min(MAX_COUNT, max(0, self.tensor.length))


def role_in(path: str, tensor: Tensor) -> Role:
    """Return the tensor's role in the file at ``path``.

    All tensors of an ``optimizer.*`` file are optimizer state. The array of a ``.npy`` file goes
    by the name of its file.
    """
    if path.rpartition("/")[2].partition(".")[0].lower() in OPTIMIZER_STEMS:
        return Role.OPTIMIZER_STATE
    return tensor_role(name_in(path, tensor), tensor.shape, tensor.dtype)


def name_in(path: str, tensor: Tensor) -> str:
    """Return the tensor's name; the array of a ``.npy`` file goes by its file's name."""
    file = path.rpartition("/")[2]
    if not tensor.name or file.lower().endswith(".npy"):
        return file.rpartition(".")[0] or file
    return tensor.name


def weigh(path: str, tensors: Iterable[Tensor]) -> list[Weight]:
    """Return the tensors of the file at ``path`` as weights, in the file's order."""
    return [weigh_one(path, tensor) for tensor in tensors]


def weigh_one(path: str, tensor: Tensor) -> Weight:
    """Return one tensor of the file at ``path`` as a weight."""
    role = role_in(path, tensor)
    return Weight(
        tensor=tensor,
        name=name_in(path, tensor),
        folder=path.rpartition("/")[0],
        role=role,
        parameter_count=0 if role in NOT_PARAMETERS else bounded_count(tensor.shape),
    )


def bounded_count(shape: Sequence[int]) -> int:
    """Return the product of ``shape``, 1 for a scalar, held between 0 and ``MAX_COUNT``.

    A hostile shape of thousands of huge extents costs one pass and no long integers.
    """
    if any(extent <= 0 for extent in shape):
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
