"""From the values of a checkpoint's pickle to named tensors and plain values.

Containers become paths (``optimizer.state.0.exp_avg``): keys and positions joined by dots. Tensors
are views over storages, as PyTorch's rebuilding functions (torch/_utils.py) take them; the
functions are not called, their arguments are read. Objects of any class are looked into by what the
pickle would give them as state; a module's parameters and submodules (``_parameters``,
``_buffers``, ``_modules``) have the names that ``state_dict`` gives them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import msgspec

from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.pickle_values import Call, Global, Group, Mapping, Persistent, Value
from hartonomous.formats.torch_dtype import (
    DTYPE_NAMES,
    QUANTISED,
    STORAGE_DTYPES,
    STORAGE_MODULES,
    element_bytes,
)
from hartonomous.formats.torch_values import (
    INTEGER_LIMIT,
    extents_of,
    is_count,
    is_plain,
    is_tuple,
    items_of,
    plain,
    sequence_of,
)

TENSOR_LIMIT = 50_000
VISIT_LIMIT = 1_000_000
DEPTH_LIMIT = 128
NAME_LIMIT_CHARS = 4_096
VALUE_LIMIT = 4_096
"""Plain values that go into the description."""
VALUE_LIMIT_CHARS = 1 << 20


class Storage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A storage as a pickle names it: its key, element type and length in elements."""

    key: str
    dtype: str
    element_count: int


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A tensor: elements of ``storage`` from ``offset`` on; offset and strides in elements."""

    name: str
    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Tree:
    """What a checkpoint holds: views and plain values by path.

    ``left_out`` are paths of tensors that have no bytes of their own here, with the reason.
    """

    views: list[View] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    left_out_values: int = 0
    renamed: int = 0


def read_tree(root: Value) -> Tree:
    """Return what is below ``root``; raises StructureError, LimitError."""
    walk = _Walk()
    walk.run(root)
    return walk.tree


class _Walk:
    """Depth first through the values, without recursion; cycles are cut, work is bounded."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._names: dict[str, int] = {}
        self._visits = 0
        self._chars = 0

    def run(self, root: Value) -> None:
        waiting: list[tuple[Value, str, int]] = [(root, "", 0)]
        above: dict[int, Value] = {}  # what holds the value at hand; kept alive, as ids are reused
        while waiting:
            value, path, depth = waiting.pop()
            if depth < 0:
                del above[id(value)]
                continue
            children = self._visit(value, path)
            if not children or id(value) in above:
                continue
            if depth >= DEPTH_LIMIT:
                raise LimitError(f"the checkpoint is nested deeper than {DEPTH_LIMIT}")
            above[id(value)] = value
            waiting.append((value, "", -1))
            waiting.extend(
                (child, _joined(path, key), depth + 1) for key, child in reversed(children)
            )

    def _charge(self, count: int) -> None:
        """Count work: a container that many others hold is looked through each time."""
        self._visits += 1 + count
        if self._visits > VISIT_LIMIT:
            raise LimitError(f"the checkpoint holds more than {VISIT_LIMIT} values")

    def _items(self, items: list[Value]) -> list[tuple[str, Value]]:
        self._charge(len(items))
        return items_of(items)

    def _visit(self, value: Value, path: str) -> list[tuple[str, Value]]:
        """Keep what ``value`` is by itself; return what is inside it."""
        if isinstance(value, Call):
            return self._visit_call(value, path)
        if isinstance(value, Mapping):
            return self._items(value.items)
        if isinstance(value, list | tuple | Group):
            return self._visit_list(value.items if isinstance(value, Group) else value, path)
        if isinstance(value, Persistent):
            return self._visit_persistent(value, path)
        self._keep_value(path, value)
        return []

    def _visit_list(self, items: Any, path: str) -> list[tuple[str, Value]]:
        self._charge(len(items))
        if all(is_plain(item) for item in items):
            self._keep_value(path, items)
            return []
        return [(str(at), item) for at, item in enumerate(items)]

    def _visit_persistent(self, value: Persistent, path: str) -> list[tuple[str, Value]]:
        if isinstance(value.id, tuple) and len(value.id) > 1 and value.id[0] == "module":
            return []  # a class with its source, which the legacy format keeps beside it
        found = storage_of(value)
        self._keep_view(
            path, found, dtype=found.dtype, offset=0, shape=(found.element_count,), strides=(1,)
        )
        return []

    def _visit_call(self, call: Call, path: str) -> list[tuple[str, Value]]:
        reader = _READERS.get(call.path)
        if reader is not None:
            return reader(self, call, path)
        if call.path in _MAPPINGS:
            given = call.arguments[0] if is_tuple(call.arguments, 1) else None
            before = self._items(given.items) if isinstance(given, Mapping) else []
            return [*before, *self._items(call.items or [])]
        if is_plain(call):
            self._keep_value(path, call)
            return []
        self._charge(len(call.items or ()) + len(call.appended or ()))
        found = list(_inside(call))
        self._charge(len(found))
        return found

    # -- PyTorch's functions that make tensors

    def _tensor(self, call: Call, path: str) -> list[tuple[str, Value]]:
        """``_rebuild_tensor`` and ``_v2``: storage, offset, size, strides, …"""
        if not is_tuple(call.arguments, 4):
            _refuse(path, f"{call.path} lacks arguments")
        storage = storage_of(call.arguments[0])
        self._view(path, storage, storage.dtype, call.arguments, call.arguments[6:])
        return []

    def _typed_tensor(self, call: Call, path: str) -> list[tuple[str, Value]]:
        """``_rebuild_tensor_v3``: as before, and the element type of an untyped storage."""
        if not is_tuple(call.arguments, 7):
            _refuse(path, f"{call.path} lacks arguments")
        given = call.arguments[6]
        dtype = DTYPE_NAMES.get(given.name) if isinstance(given, Global) else None
        if dtype is None or given.module != "torch":
            self._leave_out(path, "an element type that is not known")
        else:
            storage = storage_of(call.arguments[0])
            self._view(path, storage, dtype, call.arguments, call.arguments[7:])
        return []

    def _view(
        self, path: str, storage: Storage, dtype: str, arguments: Any, marks: tuple[Value, ...]
    ) -> None:
        offset, shape, strides = arguments[1], extents_of(arguments[2]), extents_of(arguments[3])
        if shape is None or strides is None or len(shape) != len(strides) or not is_count(offset):
            _refuse(path, "its offset, size or strides are no natural numbers")
        if dtype in QUANTISED:
            self._leave_out(path, "quantised by PyTorch: its values need a scale")
        elif any(isinstance(one, Mapping) and one.items for one in marks):
            # {"conj": True} or {"neg": True}: the values are not those of the storage.
            self._leave_out(path, "a conjugated or negated view")
        else:
            self._keep_view(path, storage, dtype=dtype, offset=offset, shape=shape, strides=strides)

    def _first(self, call: Call, path: str) -> list[tuple[str, Value]]:
        """Parameters: the tensor is the first argument."""
        if not is_tuple(call.arguments, 1):
            _refuse(path, f"{call.path} lacks arguments")
        return [("", call.arguments[0])]

    def _subclass(self, call: Call, path: str) -> list[tuple[str, Value]]:
        """``_rebuild_from_type_v2``: function, type, arguments, state."""
        if not is_tuple(call.arguments, 3):
            _refuse(path, f"{call.path} lacks arguments")
        return [("", Call(call.arguments[0], call.arguments[2]))]

    def _sparse(self, call: Call, path: str) -> list[tuple[str, Value]]:
        """Layout, then (indices, values, …) or (compressed indices, plain indices, values, …)."""
        if not is_tuple(call.arguments, 2) or not is_tuple(call.arguments[1], 2):
            _refuse(path, f"{call.path} lacks arguments")
        held = [one for one in call.arguments[1] if _makes_tensor(one)]
        if len(held) == 2:
            return list(zip(("indices", "values"), held, strict=True))
        by_column = plain(call.arguments[0]) in ("torch.sparse_csc", "torch.sparse_bsc")
        names = ("ccol_indices" if by_column else "crow_indices", "indices", "values")
        return list(zip(names, held, strict=False))

    def _quantised(self, _call: Call, path: str) -> list[tuple[str, Value]]:
        self._leave_out(path, "quantised by PyTorch: its values need a scale")
        return []

    def _meta(self, _call: Call, path: str) -> list[tuple[str, Value]]:
        self._leave_out(path, "on the meta device, which has no values")
        return []

    def _sequence(self, call: Call, path: str) -> list[tuple[str, Value]]:
        items = [*sequence_of(call), *(call.appended or ())]
        return self._visit_list(items, path)

    # -- what is kept

    def _keep_view(
        self,
        path: str,
        storage: Storage,
        *,
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        if len(self.tree.views) >= TENSOR_LIMIT:
            raise LimitError(f"the checkpoint has more than {TENSOR_LIMIT} tensors")
        if math.prod(shape) > INTEGER_LIMIT:
            _refuse(path, "its shape overflows")
        self.tree.views.append(
            View(
                name=self._unique(path or "tensor"),
                storage=storage,
                dtype=dtype,
                offset=offset,
                shape=shape,
                strides=strides,
            )
        )

    def _unique(self, name: str) -> str:
        """Return the name, with ``#2`` … where keys that have dots lead to one name twice."""
        found = name
        while found in self._names:
            self._names[name] += 1
            found = f"{name}#{self._names[name]}"
        self.tree.renamed += found != name
        self._names[found] = 1
        return found

    def _leave_out(self, path: str, reason: str) -> None:
        if len(self.tree.left_out) >= TENSOR_LIMIT:
            raise LimitError(f"more than {TENSOR_LIMIT} tensors are of kinds that are not read")
        self.tree.left_out.append((path or "tensor", reason))

    def _keep_value(self, path: str, value: Value) -> None:
        found = plain(value)
        cost = len(path) + len(msgspec.json.encode(found))
        full = len(self.tree.values) >= VALUE_LIMIT or self._chars + cost > VALUE_LIMIT_CHARS
        if full or path in self.tree.values:
            self.tree.left_out_values += 1
        elif path:
            self._chars += cost
            self.tree.values[path] = found


def storage_of(value: Value) -> Storage:
    """Return the storage that a persistent id means; raises StructureError."""
    found = value.id if isinstance(value, Persistent) else None
    if not isinstance(found, tuple) or len(found) < 5 or found[0] != "storage":
        raise StructureError("a tensor has no storage")
    kind, key, count = found[1], found[2], found[4]
    if not isinstance(kind, Global):
        raise StructureError("a storage has no type")
    dtype = STORAGE_DTYPES.get(kind.name) if kind.module in STORAGE_MODULES else None
    if dtype is None:
        raise StructureError(f"a storage is of the type {kind.path[:80]!a}, which is unknown")
    if not isinstance(key, str) or not is_count(count):
        raise StructureError("a storage has no key or no length")
    if len(found) > 5 and found[5] is not None:
        raise StructureError("a storage is a part of another one, as PyTorch 0.3 wrote them")
    return Storage(key=key, dtype=dtype, element_count=count)


def _refuse(path: str, reason: str) -> NoReturn:
    raise StructureError(f"tensor {(path or 'tensor')[:80]!a} is not well-formed: {reason}")


def _makes_tensor(value: Value) -> bool:
    return isinstance(value, Call) and value.path.startswith("torch._utils._rebuild")


# -- what is inside


def _joined(path: str, key: str) -> str:
    found = f"{path}.{key}" if path and key else path or key
    if len(found) > NAME_LIMIT_CHARS:
        raise LimitError(f"a name is longer than {NAME_LIMIT_CHARS} characters")
    return found


_MODULE_PARTS = ("_parameters", "_buffers", "_modules")


def _inside(call: Call) -> Iterator[tuple[str, Value]]:
    """Yield what an object of an unknown class holds."""
    arguments = call.arguments if isinstance(call.arguments, tuple) else ()
    yield from ((str(at), one) for at, one in enumerate(arguments))
    for state in call.state if isinstance(call.state, tuple) else (call.state,):
        for key, value in items_of(state.items) if isinstance(state, Mapping) else ():
            held = _held_items(value) if key in _MODULE_PARTS else None
            yield from [(key, value)] if held is None else held
    yield from ((str(at), one) for at, one in enumerate(call.appended or ()))
    yield from items_of(call.items or [])


def _held_items(value: Value) -> list[tuple[str, Value]] | None:
    if isinstance(value, Mapping):
        return items_of(value.items)
    if isinstance(value, Call) and value.path in _MAPPINGS:
        return items_of(value.items or [])
    return None


_MAPPINGS = frozenset(
    {
        "collections.OrderedDict", "collections.Counter", "builtins.dict",
        "collections.defaultdict",
    }
)  # fmt: skip
_READERS: Final[dict[str, Callable[[_Walk, Call, str], list[tuple[str, Value]]]]] = {
    "torch._utils._rebuild_tensor": _Walk._tensor,
    "torch._utils._rebuild_tensor_v2": _Walk._tensor,
    "torch._utils._rebuild_tensor_v3": _Walk._typed_tensor,
    "torch._utils._rebuild_parameter": _Walk._first,
    "torch._utils._rebuild_parameter_with_state": _Walk._first,
    "torch._tensor._rebuild_from_type_v2": _Walk._subclass,
    "torch._utils._rebuild_sparse_tensor": _Walk._sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _Walk._sparse,
    "torch._utils._rebuild_qtensor": _Walk._quantised,
    "torch._utils._rebuild_meta_tensor_no_storage": _Walk._meta,
    "torch.Size": _Walk._sequence,
    "builtins.list": _Walk._sequence,
    "builtins.tuple": _Walk._sequence,
    "builtins.set": _Walk._sequence,
    "builtins.frozenset": _Walk._sequence,
    "collections.deque": _Walk._sequence,
}


def storage_bytes(storage: Storage) -> int:
    """Return the length of a storage in bytes."""
    return storage.element_count * element_bytes(storage.dtype)
